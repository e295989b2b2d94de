"""Several processes record one run, fifty rounds of each kind."""

from __future__ import annotations

import json

import pytest

from tests.faults.drive import driven_by_halves
from tests.faults.writers import KINDS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_several_writers_of_one_run_lose_nothing(kind):
    report = driven_by_halves("writers", "--rounds", 25, "--kind", kind, halves=[("--first", 0), ("--first", 25)])
    print(f"figures: {json.dumps({'kind': kind, **report.figures})}")  # noqa: T201 - for docs/reliability.md
    report.check()
    assert report.figures["rows"] > 5000
