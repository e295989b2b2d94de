"""Every bit of a small segment of each table, footer included, and of each JSON file, flipped and read in every way."""

from __future__ import annotations

import json

import pytest

from tests.faults.drive import driven_by_halves
from tests.faults.flips import TARGETS

pytest.importorskip("duckdb", minversion="2")
pytestmark = pytest.mark.slow


STRIDES = {"a rank's scalars": 8}
"""Of a table that is flipped whole already, in the folder of another rank, some bits are enough."""


@pytest.mark.parametrize("target", TARGETS)
def test_no_flipped_bit_comes_back_as_another_number(target):
    every = 2 * STRIDES.get(target, 1)
    report = driven_by_halves(
        "flips", "--every", every, "--target", target, halves=[("--offset", 0), ("--offset", every // 2)]
    )
    print(f"figures: {json.dumps(dict(report.figures))}")  # noqa: T201 - for docs/reliability.md
    report.check()
    assert report.figures["bits"] > 1000
