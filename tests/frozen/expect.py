"""What dropdiag says of the frozen run folders: written into ``expected/``, and compared by `tests.test_frozen`.

    python -m tests.frozen.expect

writes ``expected/`` anew from ``recorded/``. Do that when an output is *meant* to change, and commit the result with
the change that causes it, so that whoever reviews it sees the difference. The public API and the command line
alone are used here, so that modules can move and the expectations stay.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

import numpy as np
import pandas as pd
from typer.testing import CliRunner

import dropdiag as dd
from dropdiag.cli import app
from tests.frozen.pictures import write_mnist, write_svhn

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
EXPECTED = HERE / "expected"
ENVIRONMENT = {"COLUMNS": "100", "NO_COLOR": "1", "DROPDIAG_DATA": ""}

RUNS = (
    "mlp/no-dropout-s0",
    "mlp/dropout-s0",
    "mlp/dropout-unseeded",
    "cnn",
    "transformer",
    "resumed",
    "killed",
    "two-phases",
    "mnist/dropout-s0",
    "mnist/gaaf-fitted-s0",
    "svhn/gaaf-s0",
)
"""Runs whose own outputs are kept: one of each kind. The others speak through comparisons and tables."""

QUANTITIES = ("weight", "net_value", "node_correlation", "net_variance", "masked_net_mean", "wandering_net_value")


@dataclass(frozen=True)
class Comparing:
    """Conditions, the baseline first, with patterns of their runs below ``recorded/``.

    ``printed`` names what is kept of the command beside the tables: "text", "json". Each costs a comparison.
    """

    conditions: Mapping[str, Sequence[str]]
    printed: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        return next(iter(self.conditions))


@dataclass(frozen=True)
class Reproducing:
    """A tiny `dropdiag reproduce`: what writes its data, and its arguments, with relative paths."""

    write_data: Callable[[Path], None]
    arguments: tuple[str, ...]


COMPARISONS = {
    "mlp": Comparing({"No dropout": ["mlp/no-dropout-s*"], "Dropout": ["mlp/dropout-s*"]}, ("text", "json")),
    "partly-seeded": Comparing({"No dropout": ["mlp/no-dropout-*"], "Dropout": ["mlp/dropout-*"]}),
    "unseeded": Comparing({"No dropout": ["mlp/no-dropout-unseeded"], "Dropout": ["mlp/dropout-unseeded"]}),
    "with-killed": Comparing({"No dropout": ["mlp/no-dropout-s*"], "Dropout": ["mlp/dropout-s*", "killed"]}, ("text",)),
    "two-networks": Comparing({"CNN": ["cnn"], "Transformer": ["transformer"]}, ("text",)),
    "mnist": Comparing(
        {"No dropout": ["mnist/no-dropout-*"], "Dropout": ["mnist/dropout-*"], "GAAF fitted": ["mnist/gaaf-fitted-*"]},
        ("text",),
    ),
    "svhn": Comparing({"Base": ["svhn/base-*"], "GAAF": ["svhn/gaaf-*"]}),
}

TRAINING = ("--seeds", "2", "--epochs", "2", "--batch-size", "20", "--every", "5", "--jobs", "1")
REPRODUCTIONS = {
    "mnist": Reproducing(
        write_mnist,
        (
            "mnist", "--data", "data/mnist", "--out", "out", *TRAINING,
            "--conditions", "no-dropout", "--conditions", "dropout", "--conditions", "gaaf-fitted",
        ),
    ),
    "svhn": Reproducing(
        write_svhn,
        (
            "svhn", "--data", "data/svhn", "--out", "out", *TRAINING, "--width", "0.06", "--device", "cpu",
            "--conditions", "base", "--conditions", "gaaf",
        ),
    ),
}  # fmt: skip


def call(*arguments: object, as_json: bool = False, places: Mapping[Path, str] | None = None) -> str:
    """Run a command; return what it printed, what it said on standard error, and its exit code, as text.

    Paths of this machine are replaced by the names that ``places`` gives them. As JSON: what it printed alone.
    """
    given = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, [*given, "--json"] if as_json else given, env=ENVIRONMENT)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    text = result.stdout if as_json else f"{result.stdout}--- stderr\n{result.stderr}--- exit code {result.exit_code}\n"
    for path, name in {RECORDED: "RECORDED", **(places or {})}.items():
        text = text.replace(str(path), name)
    return text


def expect_listing(out: Path) -> None:
    write(out / "ls.txt", call("ls", RECORDED))
    write(out / "ls.json", call("ls", RECORDED, as_json=True))
    write(out / "unfinished.txt", call("ls", RECORDED, "--where", "state=running", "--sort", "when"))


def expect_run(name: str, out: Path) -> None:
    path = RECORDED / name
    phase = ("--phase", "test") if name == "two-phases" else ()
    write(out / "show.txt", call("show", path, *phase))
    write(out / "show.json", call("show", path, *phase, as_json=True))
    write(out / "coverage.txt", call("coverage", path))
    run = dd.load(path)
    write(out / "scalars.csv", run.scalars)
    write(out / "histograms.csv", histograms(run))
    expect_export(path, out)
    if name == "two-phases":
        write(out / "show-unclear.txt", call("show", path))
        write(out / "show-step-10.txt", call("show", path, *phase, "--step", 10, "--layer", "[0-3]"))


def expect_export(path: Path, out: Path) -> None:
    """Export to CSV; the files are long, so their first lines and digests are kept in their place."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "csv"
        said = call("export", path, "--to", "csv", "--out", folder, places={folder: "OUT"})
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    write(out / "export.txt", said)
    exported = {
        name: {
            "lines": content.count(b"\n"),
            "sha256": hashlib.sha256(content).hexdigest(),
            "first_lines": content.decode().splitlines()[:9],
        }
        for name, content in files.items()
    }
    write(out / "export.json", json.dumps(exported, indent=1) + "\n")


def histograms(run: dd.Run) -> pd.DataFrame:
    """Return a digest of each histogram of a run: number of values and of bins, SHA-256 of bins and counts."""
    return pd.DataFrame(_digests(run), columns=["quantity", "phase", "step", "layer", "call", "n", "bins", "sha256"])


def _digests(run: dd.Run) -> Iterator[tuple[object, ...]]:
    for quantity in QUANTITIES:
        for phase in run.phases(quantity):
            for row in run.histograms(quantity, step="all", phase=phase).itertuples():
                bins, counts = row.histogram.bins.astype(np.dtype("<u2")), row.histogram.counts.astype(np.dtype("<i8"))
                digest = hashlib.sha256(bins.tobytes() + counts.tobytes()).hexdigest()[:16]
                yield quantity, phase, row.step, row.layer, row.call, counts.sum(), len(bins), digest


def expect_comparison(name: str, out: Path) -> None:
    comparing = COMPARISONS[name]
    found = {c: [str(RECORDED / pattern) for pattern in patterns] for c, patterns in comparing.conditions.items()}
    groups = [f"{condition}={path}" for condition, paths in found.items() for path in paths]
    arguments = ("compare", *groups, "--baseline", comparing.baseline)
    if "text" in comparing.printed:
        write(out / "compare.txt", call(*arguments))
    if "json" in comparing.printed:
        write(out / "compare.json", call(*arguments, as_json=True))
    comparison = dd.compare(found, baseline=comparing.baseline, on_unreadable="ignore")
    claims = comparison.claims()
    write(out / "table.csv", comparison.table)
    write(out / "measured.csv", comparison.measured)
    write(out / "claims.csv", claims.table)
    write(out / "claims-by-layer.csv", claims.layers)
    write(out / "claims-by-part.csv", claims.parts)


def expect_reproduction(name: str, out: Path) -> None:
    """Make the tables from runs that are finished: nothing is trained, and figures are computed but not painted."""
    scene = REPRODUCTIONS[name]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        scene.write_data(root / "data" / name)
        shutil.copytree(RECORDED / name, root / "out" / "runs")
        absolute = [str(root / a) if a == "out" or a.startswith("data/") else a for a in scene.arguments]
        with patch("matplotlib.figure.Figure.savefig", _unpainted):
            write(out / "reproduce.txt", call("reproduce", *absolute, places={root: "ROOT"}))
        for table in (root / "out" / "tables").iterdir():
            shutil.copyfile(table, out / table.name)


def _unpainted(_figure: object, to: Path | BinaryIO, **_options: object) -> None:
    if isinstance(to, Path):
        to.write_bytes(b"")


def write(path: Path, content: str | pd.DataFrame) -> None:
    """Write text as it is, or a frame as CSV."""
    if isinstance(content, pd.DataFrame):
        content = content.to_csv(index=False, lineterminator="\n")
    path.write_text(content, encoding="utf-8", newline="\n")


SUBJECTS: dict[str, Callable[[Path], None]] = {
    "ls": expect_listing,
    **{f"run-{name.replace('/', '-')}": partial(expect_run, name) for name in RUNS},
    **{f"compare-{name}": partial(expect_comparison, name) for name in COMPARISONS},
    **{f"reproduce-{name}": partial(expect_reproduction, name) for name in REPRODUCTIONS},
}
"""Folder in ``expected/`` -> what writes its files into a folder."""


def main() -> None:
    if EXPECTED.exists():
        shutil.rmtree(EXPECTED)
    for name, write_files in SUBJECTS.items():
        (EXPECTED / name).mkdir(parents=True)
        write_files(EXPECTED / name)


if __name__ == "__main__":
    main()
