"""Several processes record one run; the full form, of fifty rounds each, is in ``tests/slow/test_writers.py``."""

import sys

import pytest

from tests.faults.drive import driven

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open files are told apart by /proc")


def test_several_writers_of_one_run_lose_nothing_and_are_named():
    report = driven("writers", "--rounds", 2)
    report.check()
    assert report.figures["rounds"] == 10
    assert report.figures["rows"] > 1000
