"""Segments changed in all of their layers, for minutes: none of them ends, blocks or fills the process that reads it."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from tests.hostile import real_run

MINUTES = float(os.environ.get("DROPDIAG_FUZZ_MINUTES", "10"))
AT_ONCE = 200  # segments that one process reads
MOST_MB = 500


@pytest.mark.slow
def test_no_changed_segment_crashes_hangs_or_takes_more_than_500_mb(tmp_path):
    folder, read = real_run.write(tmp_path / "run"), real_run.Read()
    first, begun = int(os.environ.get("DROPDIAG_FUZZ_SEED", "0")), time.monotonic()
    while time.monotonic() - begun < 60 * MINUTES:
        read.read(folder, first, AT_ONCE)
        first += AT_ONCE
        real_run.restore(folder, tmp_path / "again")
    found = {one["found"] for one in read.found}
    figures = {"segments": read.inputs, "found": len(found), "peak_mb": read.peak_mb, "minutes": MINUTES}
    sys.stdout.write(f"figures: {json.dumps(figures)}\n")
    assert not read.found, f"{len(read.found)} of {read.inputs} segments: {read.found[:5]}"
    assert read.inputs > 10 * MINUTES
    assert read.peak_mb < MOST_MB
