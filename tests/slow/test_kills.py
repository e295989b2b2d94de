"""``kill -9`` at every file operation of every job, and at five hundred random moments."""

from __future__ import annotations

import json

import pytest

from tests.faults.drive import driven_by_halves
from tests.faults.scenes import SCENES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_file_operation_loses_nothing(scene):
    report = driven_by_halves("kills", "--every", 2, "--scene", scene, halves=[("--offset", 0), ("--offset", 1)])
    print(f"figures: {json.dumps({'scene': scene, **report.figures})}")  # noqa: T201 - for docs/reliability.md
    report.check()
    assert report.figures["kills"] >= 0.45 * report.figures["operations"]  # which each half counted


def test_a_kill_at_any_moment_loses_nothing():
    report = driven_by_halves("moments", "--moments", 250, halves=[("--seed", 0), ("--seed", 1)])
    print(f"figures: {json.dumps(dict(report.figures))}")  # noqa: T201
    report.check()
    assert report.figures["moments"] == 500
