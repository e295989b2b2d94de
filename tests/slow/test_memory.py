"""Two thousand recorded steps: memory stays flat."""

from __future__ import annotations

import numpy as np
import pytest

import dropdiag as dd
from tests.test_training import Functional, train


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_recorded_steps(tmp_path):
    import resource

    def resident():
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6

    model = Functional()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        train(model, 1000, rec)  # several flushes: the first imports pyarrow, which stays
        seen = []
        for _ in range(20):  # the losses that train() gives back are not kept
            train(model, 100, rec)
            seen.append(resident())
    # Rows wait and are flushed, so it goes up and down by some tens of MB: means of the halves show a trend.
    grown = np.mean(seen[10:]) - np.mean(seen[:10])
    assert grown < 15, f"MB resident, every 100 steps: {np.round(seen)}"
