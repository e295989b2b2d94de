"""Read changed segments in a process of its own, which may die: ``python -m ... FOLDER INPUTS``.

Prints what was found as a JSON object a line, at last how much memory it took.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dropdiag as dd
from dropdiag.errors import DropdiagError, DropdiagWarning
from dropdiag.integrations.csv import to_csv
from dropdiag.integrations.sql.write import to_sql
from dropdiag.store.copies import counted_once
from dropdiag.store.folder import evaluated_phases
from dropdiag.store.reading import row_groups
from dropdiag.store.segments import list_segments

MORE_BYTES = 500 << 20
SECONDS_EACH, WAIT = 20, 180  # of the processor, and by the clock: others use the machine as well
EXPORTED = 8  # one of so many inputs is exported as well
NO_MEMORY = ("MemoryError", "malloc", "lloc of size", "bad_alloc")


def uses(path: Path, *, exports: bool) -> list[Callable[[], Any]]:
    """Return what a user does with a run, each with what is read made use of."""
    run = dd.load(path)
    ranks = [path / name for name in ("rank-0", "rank-1")]
    return [
        lambda: run.select().to_json(),
        lambda: run.select("loss", missing_ok=True).to_csv(),
        lambda: run.select(steps=(1, 2), layer=["act"], missing_ok=True),
        *(lambda name=name: [h.n for h in run.histograms(name, "all")["histogram"]] for name in ("weight", "node_correlation")),
        lambda: run.histogram("weight", "fc"),
        lambda: run.derivative("Tanh"),
        *(lambda name=name: [table.to_pylist() for table in run.tables.stream(name)] for name in ("scalars", "histograms")),
        lambda: len(run.ranks.table.to_json()),
        lambda: run.ranks.spread("loss").to_json(),
        *(lambda one=one: one.scalars.to_json() for one in run.ranks),
        lambda: dd.Runs([run]).select("loss").to_json(),
        lambda: evaluated_phases(path, 2),
        lambda: [len(table) for folder in ranks for one in list_segments(folder) for table in row_groups(one)],
        lambda: counted_once([run, run]),
        *([lambda: _to(to_csv, run), lambda: _to(to_sql, run)] if exports else []),
    ]  # fmt: skip


def tell(**told: Any) -> None:
    """Print what is told as a line."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _to(export: Callable[[Any, Path], Any], run: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(run, Path(folder) / "out")


def main(folder: Path, inputs: Path) -> None:
    """Read a run with each changed segment in its place in turn; names of inputs are ``SEED.PLACE.CHANGE``."""
    paths = sorted(folder.glob("rank-*/*.parquet"))
    segments = [path.read_bytes() for path in paths]
    list(_used(folder))  # imports what is needed, and holds what it takes
    base = _limit_memory()
    for file in sorted(inputs.iterdir()):
        seed, place, change = file.name.split(".")
        _limit_time()
        paths[int(place)].write_bytes(file.read_bytes())
        for sentence in _used(folder, exports=int(seed) % EXPORTED == 0):
            tell(seed=int(seed), change=change, found=sentence)
        paths[int(place)].write_bytes(segments[int(place)])
        tell(last=int(seed))
    faulthandler.cancel_dump_traceback_later()
    tell(peak_mb=round((_bytes_of("VmHWM") - base) / 1e6))


def _limit_time() -> None:
    """End the process, and say where it was, if what follows takes too long."""
    faulthandler.dump_traceback_later(WAIT, exit=True)
    faulthandler.register(signal.SIGXCPU, chain=True)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS_EACH, most))


def _limit_memory() -> int:
    """Let the process take so much more than it has by now, which is returned."""
    limit = _bytes_of("VmSize") + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return _bytes_of("VmRSS")


def _bytes_of(name: str) -> int:
    """Return what the system tells of the process's memory; its resource usage counts that of who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def _used(folder: Path, *, exports: bool = True) -> Iterator[str]:
    """Use a run in all ways; yield what should not have come out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for place, use in enumerate(uses(folder, exports=exports)):
            if wrong := _wrong(use):
                yield f"use {place}: {wrong}"
    for one in caught:
        told = str(one.message)
        if not issubclass(one.category, DropdiagWarning) or any(word in told for word in NO_MEMORY):
            yield f"{one.filename}:{one.lineno}: {told}"


def _wrong(use: Callable[[], Any]) -> str:
    """Return what a use raised that is no error of the project's own; no word of one that is."""
    try:
        use()
    except DropdiagError as error:
        return str(error) if any(word in str(error) for word in NO_MEMORY) else ""
    except Exception:  # noqa: BLE001 - what is looked for
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
