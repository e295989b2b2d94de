"""Flip each bit of a run's files in turn, and read: ``python -m tests.faults.flips --target scalars --every N``.

Twins of a run lie side by side, each gets one flipped bit; a child reads them all, one by one through `dropdiag.load`,
then together through the views of ``dropdiag sql``. A file that is damaged must be spoken of by its name, and no row
may have another number, however it is read.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dropdiag.errors import DropdiagError
from dropdiag.integrations.sql.write import to_sql
from dropdiag.store.reader import open_runs
from dropdiag.store.writer import RunWriter
from tests import ranks
from tests.faults import oracle, warm
from tests.faults.drive import tell
from tests.faults.forks import Ended, forked
from tests.faults.oracle import as_text, digest
from tests.faults.reading import Seen, seen
from tests.faults.scenes import META, open_writers, record

TWINS = 32
"""Runs side by side, so that one child and one query serve many bits; fewer where few bits are flipped."""
MEMORY = 6 << 30
"""Bytes of addresses that a reader may take: a flipped size must not take the machine."""


def write_one(path: Path) -> None:
    """Write a run of two flushes that is not compacted."""
    (writer,) = open_writers(path, None, 1, 1)
    record([writer], 1, range(1, 5))
    writer.close("failed", "Error: of the scene")


def write_lean(path: Path, start: int | None = None) -> None:
    """Write such a run without derivatives, the largest of all files, which are read slowly."""
    writer = RunWriter(path, {**META, "activations": {}, "steps": start or 0}, resume_from=start)
    record([writer], 1, range(1 + (start or 0), 5 + (start or 0)), derivatives=False)
    writer.close("failed", "Error: of the scene")


def write_unknown(path: Path) -> None:
    """Write a run whose ``run.json`` is older than its last session, which is known by the session's own file."""
    write_lean(path)
    older = (path / "run.json").read_bytes()
    write_lean(path, 4)
    (path / "run.json").write_bytes(older)


def write_two(path: Path) -> None:
    """Write a run of two ranks whose numbers are merged from states."""
    for rank in range(2):
        writer = ranks.writer(path, rank, 2, id=f"{path.name:0>32}")
        for step in (1, 2):
            x = oracle.values(1 + rank, step, "act")
            scalars, states = ranks.moment_rows(step, "net_value", x)
            ranks.add(writer, scalars, states, ranks.histogram(step, "net_value", x))
            writer.flush()
            writer.drain()
        ranks.close(writer, 2, "failed")


def _write(paths: Sequence[Path], write: Callable[[Path], None]) -> None:
    for path in paths:
        write(path)


class Target(NamedTuple):
    """Files to flip: their pattern in a run's folder, which of them, and what writes the run."""

    pattern: str
    place: int
    write: Callable[[Path], None]


TARGETS = {
    "scalars": Target("rank-0/scalars-*.parquet", 1, write_lean),
    "histograms": Target("rank-0/histograms-*.parquet", 1, write_lean),
    "derivatives": Target("rank-0/derivatives-*.parquet", 0, write_one),
    "run.json": Target("run.json", 0, write_lean),
    "session": Target("rank-0/session-*.json", 1, write_unknown),
    "states": Target("rank-1/states-*.parquet", 0, write_two),
    "a rank's scalars": Target("rank-1/scalars-*.parquet", 0, write_two),
    "rank.json": Target("rank-1/rank.json", 0, write_two),
}


class Twins:
    """Runs that hold the same."""

    def __init__(self, root: Path, target: Target, count: int = TWINS) -> None:
        self.paths = [root / f"{place:03d}" for place in range(count)]
        ended = forked(_write, self.paths, target.write)
        if not ended.well:
            raise RuntimeError(f"the twins cannot be written: {ended}")
        files = [sorted(path.glob(target.pattern)) for path in self.paths]
        self.files = [found[target.place] for found in files if len(found) > target.place]
        self.contents = [file.read_bytes() for file in self.files]
        self._tick = time.time_ns()

    @property
    def bits(self) -> int:
        return 8 * min(map(len, self.contents), default=0)

    def flip(self, bits: Sequence[int]) -> None:
        """Flip a bit of each twin's file; the other twins stay as they are."""
        for place, bit in enumerate(bits):
            content = bytearray(self.contents[place])
            content[bit // 8] ^= 1 << bit % 8
            self._put(place, bytes(content))

    def restore(self) -> None:
        for place in range(len(self.files)):
            self._put(place, self.contents[place])

    def _put(self, place: int, content: bytes) -> None:
        self.files[place].write_bytes(content)
        self._tick += 1_000_000  # a clock that ticks every few milliseconds must not hide a change
        os.utime(self.files[place], ns=(self._tick, self._tick))


def look(paths: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Read runs in a child: each by itself, and all of them together by SQL; each alone where that fails."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = [{"seen": seen(path)} for path in paths]
    together = by_sql(paths, out)
    for place, path in enumerate(paths):
        alone = together if together["failed"] is None else by_sql([path], out.with_name(f"{out.name}-{place}"))
        found[place]["sql"] = {name: rows.get(path.name, Counter()) for name, rows in alone["tables"].items()}
        found[place] |= {"said": alone["said"], "failed": alone["failed"]}
    return found


def by_sql(paths: Sequence[Path], out: Path) -> dict[str, Any]:
    """Return the rows of runs as DuckDB has them, by table and run, what was said, and an error of the engine."""
    import duckdb

    found: dict[str, Any] = {"said": [], "tables": {}, "failed": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            runs, problems = open_runs(list(paths), on_error="collect")
            found["said"] += problems
            if runs is not None:
                to_sql(runs, out)
                found["tables"] = _queried(duckdb, out)
        except DropdiagError as error:
            found["said"].append(str(error))
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            found["failed"] = f"{type(error).__name__}: {error}"
    found["said"] += [str(one.message) for one in caught]
    return found


def _queried(duckdb: Any, out: Path) -> dict[str, dict[str, Counter[str]]]:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute((out / "views.sql").read_text(encoding="utf-8"))
    tables: dict[str, dict[str, Counter[str]]] = {"scalars": {}, "histograms": {}}
    for name, table in tables.items():
        columns = "value" if name == "scalars" else "bins, counts"
        key = "run, rank, step, phase, layer, call, quantity"
        for run, *told in connection.execute(f"SELECT {key}, {columns} FROM rank_{name}").fetchall():  # noqa: S608 - our own
            value = as_text(told[-1]) if name == "scalars" else digest(told[-2], told[-1])
            table.setdefault(Path(run).name, Counter())[f"{told[:6]} {value}"] += 1
    connection.close()
    return tables


def verdicts(found: dict[str, Any], whole: dict[str, Any], file: Path) -> Iterator[str]:
    """Yield what is wrong with what was read after a flip."""
    now: Seen = found["seen"]
    before: Seen = whole["seen"]
    yield from (f"foreign error: {one}" for one in now.foreign)
    known = {(rank, key): value for rank, key, value in before.rows}
    if any(known.get((rank, key)) != value for rank, key, value in now.rows):
        yield "another number"
    if now.doubled and not before.doubled:
        yield "rows twice"
    if any(before.derivatives.get(name, value) != value for name, value in now.derivatives.items()):
        yield "another derivative"
    if not now.names(_stem(file)):
        same = (now.rows, now.merged, now.derivatives) == (before.rows, before.merged, before.derivatives)
        if same and now.meta == before.meta:
            yield "not named, numbers as before"
        else:
            yield f"refused, the file not named: {now.told[0]}" if now.names(*_folders(file)) else "SILENT change"
    if found["failed"]:
        yield f"SQL: foreign error: {found['failed']}"
        return
    for table, rows in found["sql"].items() if has_rows(whole) else ():
        if rows - whole["sql"][table]:
            yield f"SQL: another number in {table}"
    missing = not found["sql"] or any(whole["sql"][table] - rows for table, rows in found["sql"].items())
    if has_rows(whole) and missing and not _spoken_of(file, found["said"]):
        yield "SQL: rows missing, and nobody says so"


def _spoken_of(file: Path, said: Sequence[str]) -> bool:
    return any(name in sentence for name in (_stem(file), *_folders(file)) for sentence in said)


def _folders(file: Path) -> tuple[str, ...]:
    """Return the paths of a file's run, and of its rank."""
    return tuple(str(folder) for folder in list(file.parents)[:2])


def has_rows(whole: dict[str, Any]) -> bool:
    """Whether SQL has rows of a run that is as it was written."""
    return any(whole["sql"].values())


def _stem(file: Path) -> str:
    """Return what a sentence on a file must hold: the beginning of its name, with its number."""
    return ".".join(file.name.split(".")[:1]) if file.suffix == ".parquet" else file.name


def sweep(root: Path, name: str, every: int, offset: int, count: int = TWINS) -> dict[str, Any]:
    """Flip every n-th bit of a kind of file."""
    target = TARGETS[name]
    twins = Twins(root / "runs", target, count)
    figures: Counter[str] = Counter()
    whole = forked(look, twins.paths, root / "sql-whole").value
    wrong = [] if has_rows(whole[0]) else [f"{name}: SQL has no row of a run that is whole"]
    bits = list(chosen(twins.bits, every, offset))
    for begin in range(0, len(bits), count):
        some = bits[begin : begin + count]
        twins.flip(some)
        out = root / f"sql-{begin}"
        ended = forked(look, twins.paths, out)
        for place, bit in enumerate(some):
            one = ended.value[place] if ended.well else _alone(twins, place, out)
            told = [f"a crash: {one}"] if isinstance(one, Ended) else verdicts(one, whole[place], twins.files[place])
            found = list(told)
            figures.update({"bits": 1, f"bits of {name}": 1, **{f"{name}: {what.split(':')[0]}": 1 for what in found}})
            wrong += [f"{name}, bit {bit} of {twins.bits}: {what}" for what in found]
        twins.restore()
    return {"figures": dict(figures), "wrong": wrong}


def _alone(twins: Twins, place: int, out: Path) -> Any:
    """Look at one of several runs of which one ended the reader."""
    ended = forked(look, [twins.paths[place]], out.with_name(f"{out.name}-{place}"))
    return ended.value[0] if ended.well else ended


def chosen(bits: int, every: int, offset: int) -> Iterator[int]:
    """Yield bits to flip: of a large file's middle one in 101 is enough."""
    margin = 8 * 1024
    for bit in range(offset % every, bits, every):
        if bit < margin or bit >= bits - margin or bit % (101 * every) < every:
            yield bit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--twins", type=int, default=TWINS)
    options = parser.parse_args()
    warm.up("dropdiag.integrations.sql.write", "duckdb")
    figures: Counter[str] = Counter()
    wrong = []
    for name in options.target or TARGETS:
        with tempfile.TemporaryDirectory() as root:
            found = sweep(Path(root), name, options.every, options.offset, options.twins)
        figures.update(found["figures"])
        wrong += found["wrong"]
    tell(figures, wrong)


if __name__ == "__main__":
    main()
