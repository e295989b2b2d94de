"""Hostile ``run.json`` files: every field of real ones missing, null, of another type or absurd; and all that reads them."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dropdiag as dd
from dropdiag.errors import DropdiagError, DropdiagWarning, RunError
from dropdiag.formatting import facts
from dropdiag.store.catalog import Catalog
from dropdiag.store.door import reading
from tests.cli.conftest import call
from tests.frozen.expect import RECORDED
from tests.networks import mlp, train
from tests.ranks import LAYERS, close, histogram, scalar, writer

MISSING = object()
ABSURD: tuple[Any, ...] = (
    MISSING, None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 10**30, -(10**400), 1.5, -0.5, 1e300, 5e-324, "", "x", "0",
    "x" * 5000, "x\0y", "\ud800", "=HYPERLINK(1)", "\x1b[31m", "../../etc/passwd", [], {}, [None], [[]], [{}], [1], ["a"],
    [1, 2, 3], {"a": 1}, {"": None}, {"layer": "x"}, float("nan"), float("-inf"),
)  # fmt: skip
Path_ = tuple[Any, ...]


@dataclass(frozen=True)
class Example:
    """A run folder, and what its ``run.json``, or another file of it, says."""

    name: str
    folder: Path
    meta: dict[str, Any]
    file: str = "run.json"

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.folder / self.file


def examples(folder: Path) -> list[Example]:
    """Make a run of each schema below a folder: of 1 a frozen one, of 2 and 3 with all that they may hold."""
    first = folder / "one"
    shutil.copytree(RECORDED / "mlp" / "dropout-s0", first)
    torch.manual_seed(0)
    model = mlp()
    with dd.Recorder(model, folder / "three", config={"condition": "Dropout", "seed": 1, "lr": 0.1}) as rec:
        train(model, 3, rec)
    shutil.copytree(folder / "three", folder / "two")
    third = _with_all(json.loads((folder / "three" / "run.json").read_bytes()))
    second = copy.deepcopy(third) | {"schema": 2}
    del second["sha256"]
    for session in second["sessions"]:
        for key in ("number", "host", "process", "expires_after"):
            session.pop(key, None)
    metas = {"one": json.loads((first / "run.json").read_bytes()), "two": second, "three": third}
    for name, meta in metas.items():
        shutil.rmtree(folder / name / "rank-0" / "sessions", ignore_errors=True)
        (folder / name / "run.json").write_text(json.dumps(meta))
    return [*(Example(name, folder / name, meta) for name, meta in metas.items()), *_of_ranks(folder / "ranks")]


def _of_ranks(folder: Path) -> list[Example]:
    """Make a run of two ranks; either of its files is one to be changed."""
    area = {"Tanh": {"sup": 1.0, "eps": 0.1, "left": [[None, -1.0]], "right": [[1.0, None]]}}
    covered = [{**row, "functional": False, "expected": True, "fired": 3, "sampled": None} for row in LAYERS]
    link = {"kind": "output", "layer": "(output)", "call": 0, "next": None, "between": "", "same": False, "why": None}
    for rank in range(2):
        one = writer(
            folder, rank, 2, activations=area, coverage=covered, chain=[link], stage=rank, batch="ranks 0, 1", shard=rank,
            parallel={"kind": "none", "averaged_over": 1.0},
        )  # fmt: skip
        one.add_scalars([scalar(step, "loss", 1.0, 2.0, layer=None) for step in (1, 2)])
        one.add_histograms(histogram(1, "weight", [0.1, rank], layer="fc"))
        close(one, 2)
    files = ("run.json", "rank-1/rank.json")
    return [Example(f"ranks, {file}", folder, json.loads((folder / file).read_bytes()), file) for file in files]


def _with_all(meta: dict[str, Any]) -> dict[str, Any]:
    """Add what few runs hold."""
    layer = meta["layers"][0]["layer"]
    meta["disabled_probes"] = [{"probe": "health", "layer": layer, "cause": "ValueError()"}]
    meta["missing"] = [{"phase": "eval", "why": "no dropout", "of": [["noisy_loss@0.1", None], ["flatness", layer]]}]
    meta["warnings"] = ["a warning"]
    meta["interventions"] = [
        {"what": "set", "patterns": ["*"], "sites": ["1"], "left": [], "rates": [0.2], "step": 0, "until": None},
        {"what": "schedule", "patterns": ["*"], "sites": ["1"], "left": [], "schedule": {"early": [0.5, 0.1, 3]},
         "step": 1, "until": 2},
    ]  # fmt: skip
    meta["layers"][0] |= {"formerly": [[f"(model):{layer}", 0], None], "sharded": False}
    meta["quantities"] |= {
        "own": {"kind": "scalar", "unit": "1", "label": "own", "scale": "none", "merge": "sum", "new": 1}
    }
    meta["layers"][-1] |= {"rate": 0.5, "grain": "element", "applied_to": layer, "feeds": None}
    return meta


def places(meta: Any, path: Path_ = (), rows: int = 2) -> Iterator[Path_]:
    """Yield the path of everything in it; of long lists the first rows and the last."""
    if path:
        yield path
    if isinstance(meta, dict):
        for key, value in meta.items():
            yield from places(value, (*path, key), rows)
    elif isinstance(meta, list):
        for place in dict.fromkeys([*range(min(rows, len(meta))), *([len(meta) - 1] if meta else [])]):
            yield from places(meta[place], (*path, place), rows)


def changed(meta: dict[str, Any], path: Path_, value: Any, *, copied: bool = True) -> dict[str, Any]:
    """Return a copy, or itself, with another value at a path, or without what stands there."""
    made: Any = copy.deepcopy(meta) if copied else meta
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return made  # type: ignore[no-any-return]


def told(path: Path_) -> str:
    """Return a path as messages have it."""
    words = ""
    for key in path:
        words += (
            f"[{key}]"
            if isinstance(key, int)
            else (f".{key}" if words else key)
            if re.fullmatch(r"\w+", key)
            else f"[{key!r}]"
        )
    return words


def read_run(example: Example) -> None:
    """Ask a run all that its ``run.json`` decides; whatever is raised but dropdiag's own errors goes through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = _own(lambda: dd.load(example.folder))
        for ask in _QUESTIONS if run is not None else ():
            _own(lambda ask=ask: ask(run))
        _own(lambda: Catalog(example.folder.parent).table)


def read_everything(example: Example, other: Path, *, page: Path | None = None) -> None:
    """Beside `read_run`, have commands show it, compare it with another run, and draw it.

    Parameters
    ----------
    example : Example
        Its folder holds the ``run.json`` to read.
    other : Path
        A good run.
    page : Path, optional
        Where to write a report.
    """
    read_run(example)
    folder = example.folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for command in (
            ("ls", folder.parent),
            ("ls", folder.parent, "--json"),
            ("show", folder),
            ("show", folder, "--json"),
        ):
            code, _, said = call(*command)
            assert code in (0, 1, 2), said
        _own(lambda: dd.plots.saturation(dd.load(folder)))
        _own(lambda: dd.compare({"A": folder, "B": other}).claims())
        if page is not None:
            _own(lambda: dd.report([folder, other], page))


def _own(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (DropdiagError, DropdiagWarning):
        return None


_QUESTIONS: tuple[Callable[[Any], Any], ...] = (
    repr, lambda run: run._repr_html_(), lambda run: run.layers, lambda run: run.coverage(), lambda run: str(run.coverage()),
    lambda run: run.order, lambda run: run.places, lambda run: run.quantities, lambda run: run.seed,
    lambda run: run.condition, lambda run: run.scalars, lambda run: run.select("loss"), lambda run: run.session("0" * 16),
    lambda run: run.histograms("weight"), lambda run: run.derivative(next(iter(run.meta["activations"]), "Tanh")),
    lambda run: dd.load([run.path]).select("loss"), lambda run: facts(run.meta),
    lambda run: run.ranks.table, lambda run: run.ranks[1].scalars,
)  # fmt: skip


def random_change(meta: dict[str, Any], draw: random.Random) -> tuple[Path_, Any]:
    """Draw a place and a value that is absurd there."""
    return draw.choice(list(places(meta))), draw.choice(ABSURD)


def write(example: Example, made: dict[str, Any] | bytes) -> None:
    """Put a ``run.json`` in place."""
    content = made if isinstance(made, bytes) else json.dumps(made).encode()
    example.path.write_bytes(content)


def why_refused(content: bytes, file: Path) -> str:
    """Return why the door refuses a content, in which the file is named; nothing where it passes."""
    try:
        reading.read(content, file)
    except RunError as error:
        return str(error) if str(file) in str(error) else f"the file is not named: {error}"
    return ""


def memory() -> int:
    """Bytes that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
