import math

import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.recording.schedules import as_schedule


def test_every_takes_the_first_and_each_nth_step():
    assert [s for s in range(1, 31) if dd.every(10)(s)] == [1, 10, 20, 30]
    assert all(dd.every(1)(s) for s in range(1, 5))


@pytest.mark.parametrize("n", [1, 3, 10])
def test_log_spaced_takes_one_step_a_rung(n):
    steps = [s for s in range(1, 10_001) if dd.log_spaced(n)(s)]
    rungs = sorted({math.floor(n * math.log10(s) + 1e-9) for s in range(1, 10_001)})
    assert len(steps) == len(rungs)
    assert steps[0] == 1
    assert steps[-1] == 10_000
    late = [s for s in steps if s > 1000]
    assert len(late) == n


def test_schedules_say_what_they_are():
    assert repr(as_schedule(5)) == "every(n=5)"
    assert as_schedule(dd.log_spaced(3)) == dd.log_spaced(3)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "10"])
def test_bad_distances_are_refused(bad):
    with pytest.raises(ArgumentError, match=f"at least 1, got {bad!r}"):
        dd.every(bad)
    with pytest.raises(ArgumentError, match=f"at least 1, got {bad!r}"):
        dd.log_spaced(bad)


def test_many_rungs_a_decade_at_large_steps():
    assert isinstance(dd.log_spaced(1000)(30_000), bool)
    assert dd.log_spaced(1000)(10**6)
