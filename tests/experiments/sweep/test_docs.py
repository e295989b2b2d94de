"""The example of docs/sweep.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dropdiag.experiments.sweep.sweep import sweep

TEXT = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path):
    """The file that the page begins with."""
    (tmp_path / "train.py").write_text(
        re.findall(r"^```python\n(# train.py\n.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[0]
    )
    return f"{tmp_path / 'train.py'}:train"


def test_the_example_is_twenty_lines_long_or_so(example):
    lines = Path(example.removesuffix(":train")).read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith(("#", "import", "from"))]) <= 20


def test_the_example(example, tmp_path):
    made = sweep(example, {"rate": [0, 0.5]}, seeds=2, settings={"epochs": 3}, out=tmp_path / "out", engine="here")
    assert made.failed == {}
    assert made.runs().conditions == ["rate=0", "rate=0.5"]
    assert "eval accuracy" in made.table
    assert [remark.split(" in all")[0] for remark in made.remarks] == [
        "Runs of one seed began with the same weights",
        "Runs of one seed saw the same batches",
    ]
