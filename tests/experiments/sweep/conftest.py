from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dropdiag.experiments.sweep.sweep import sweep

TRAINS = Path(__file__).with_name("trains.py")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def swept(tmp_path):
    """Sweep in this process, over a function of `trains`, into one folder; what is printed is in `.console`."""

    def make(name, over=None, **options):
        make.console = Console(file=io.StringIO(), width=200)
        options = {"seeds": 1, "engine": "here", "out": tmp_path / "out", "console": make.console, **options}
        return sweep(
            name if callable(name) or ":" in name else f"{TRAINS}:{name}", over or {"rate": [0, 0.5]}, **options
        )

    return make
