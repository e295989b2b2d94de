"""No flipped bit comes back as another number; the full form, of all bits, is in ``tests/slow/test_flips.py``."""

import sys

import pytest

from tests.faults.drive import driven
from tests.faults.flips import TARGETS

pytest.importorskip("duckdb", minversion="2")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are told apart by /proc")


def test_no_flipped_bit_comes_back_as_another_number():
    report = driven("flips", "--every", 5003, "--twins", 4)
    report.check()
    assert report.figures["bits"] > 25
    assert {name for name in TARGETS if report.figures.get(f"bits of {name}")} == set(TARGETS)
