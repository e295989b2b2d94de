"""``kill -9``: at file operations in turn, and at random moments; the full form is in ``tests/slow/test_kills.py``."""

import os
import sys

import pytest

from tests.faults.drive import driven
from tests.faults.scenes import SCENES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open files are told apart by /proc")


def test_a_job_that_is_killed_at_a_file_operation_loses_nothing_and_goes_on():
    names = [name for name, scene in SCENES.items() if not scene.trained]  # torch alone takes seconds to be imported
    report = driven("kills", "--every", 211, *(f"--scene={name}" for name in names))
    report.check()
    assert report.figures["kills"] >= 12
    assert report.figures["rows"] > 1000


def test_a_job_that_is_killed_at_a_random_moment_loses_nothing_and_goes_on():
    report = driven("moments", "--moments", len(SCENES), "--seed", int.from_bytes(os.urandom(3)))
    report.check()
    assert report.figures["moments"] == len(SCENES)
