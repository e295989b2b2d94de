"""Import what children need, once; start no thread."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from typer.testing import CliRunner

from dropdiag.cli import app

MODULES = (
    "pandas", "pyarrow.parquet", "pyarrow.compute", "dropdiag.cli", "dropdiag.cli.ls", "dropdiag.cli.show",
    "dropdiag.store.reading", "dropdiag.store.writer", "dropdiag.store.one_rank", "dropdiag.store.listing",
    "dropdiag.analysis.overview", "scipy.special", "scipy.fft", "pydantic", "typer._adapters", "pyarrow.pandas_compat",
    "dropdiag.store.ranks.reading", "dropdiag.store.histogram_rows", "dropdiag.store.ranks.table",
)  # fmt: skip

TRAINING = (
    "tests.faults.training",
    "dropdiag.recorder",
    "dropdiag.recording.session",
    "torch._dynamo",
    "pyarrow.dataset",
)
"""What a training needs beside, most of it imported by torch at the first optimizer."""


def up(*more: str) -> None:
    """Import modules, so that no child has to; raise `RuntimeError` where that started a thread, which no child has."""
    for name in (*MODULES, *more):
        import_module(name)
    CliRunner().invoke(app, ["ls", "--help"])  # which builds the commands
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    others = [name for name in threads if not name.startswith("jemalloc")]  # which minds forks
    if len(others) > 1:
        raise RuntimeError(f"threads run, so that no child can be forked safely: {others}")
