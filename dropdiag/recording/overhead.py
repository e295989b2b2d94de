"""What recording costs: the recorder's own share of the training time, and how it is kept within a budget."""

from __future__ import annotations

import time
from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.recording.records import Record, run_scalar

clock: Final = time.perf_counter_ns
DECAY: Final = 0.999
"""What a step weighs one step later, where the budget is judged: about the last thousand steps count."""
WARM_UP: Final = 1
"""Steps at the start that are not judged: imports, first allocations."""


class Overhead:
    """The recorder's time in each step, by its own clock.

    It counts the host's time inside hooks and inside ``step()``; not what torch spends on calling hooks, nor what
    the device does for the recorder, nor the thread that writes.

    Parameters
    ----------
    budget : float or None
        The largest share of the time of training that recording may take; None: no limit.

    Attributes
    ----------
    spent : int
        Nanoseconds in hooks since the last reading. Hooks add to it.
    thinned, rested : int
        Steps on the schedule that are recorded without histograms; steps that are not recorded at all.

    Raises
    ------
    ArgumentError
        If the budget is no number in (0, 1].
    """

    def __init__(self, budget: float | None = None) -> None:
        number = isinstance(budget, (int, float)) and not isinstance(budget, bool)
        if budget is not None and not (number and 0.0 < budget <= 1.0):
            raise ArgumentError(f"budget= takes a share of the time of training in (0, 1], say 0.02, got {budget!r}")
        self.budget = budget
        self.spent = 0
        self.thinned = self.rested = 0
        self._steps = -WARM_UP
        self._step_ns = self._own_ns = 0
        self._recent = _Recent()
        self._light = _Recent()
        self._is_light = False
        self._left_out = 0, 0  # whether the running step is thinned, and whether it is paused
        self._read_at = clock()
        self._aside = 0
        self._before: tuple[int, int] = (0, 0)

    def begin(self) -> None:
        """Begin the first step."""
        self._read_at, self.spent = clock(), 0

    def read(self) -> list[Record]:
        """Return how long the step that ends took and how much of it the recorder, and begin the next one."""
        now = clock()
        step, own = max(now - self._read_at - self._aside, 0), max(self.spent, 0)  # clocks may be set back
        self._read_at, self._aside, self.spent = now, 0, 0
        self._steps += 1
        self.thinned += self._left_out[0]
        self.rested += self._left_out[1]
        if self._steps > 0:
            self._step_ns += step
            self._own_ns += own
            if self.budget is not None:
                self._recent.add(step, own)
                if self._is_light:
                    self._light.add(step, own)
        return [_seconds("step_seconds", step), _seconds("recorder_seconds", own)]

    def evaluation_begins(self) -> None:
        """Count what follows for the evaluation, not for the step."""
        self._before = clock(), self.spent
        self.spent = 0

    def evaluation_ends(self) -> list[Record]:
        """Return how long the evaluation took, and how much of it the recorder; it counts for no step."""
        begun, before = self._before
        whole, own = max(clock() - begun, 0), max(self.spent, 0)
        self._aside += whole
        self.spent = before
        return [_seconds("evaluation_seconds", whole), _seconds("recorder_seconds", own)]

    def plan(self, wanted: bool) -> tuple[bool, bool]:
        """Decide what is recorded in the next step.

        Parameters
        ----------
        wanted : bool
            Whether the schedule wants histograms in it.

        Returns
        -------
        scheduled, paused : bool
            Whether histograms are taken; whether nothing is. Where the recorder has taken more than its budget, the
            schedule is thinned; where the probes of every step alone take more than that, they pause as well.
        """
        # The light steps are judged by themselves: pausing is of use only where they cost too much without histograms.
        over = self.budget is not None and self._recent.share > self.budget
        scheduled = wanted and not over
        paused = over and self.budget is not None and self._light.share > self.budget
        self._left_out = int(wanted and over), int(paused)
        self._is_light = not scheduled and not paused
        return scheduled, paused

    def summary(self) -> dict[str, Any]:
        """Return the entry ``cost`` of ``run.json``: sums over the steps after the first one."""
        return {
            "budget": self.budget,
            "steps": max(self._steps, 0),
            "step_seconds": self._step_ns * 1e-9,
            "recorder_seconds": self._own_ns * 1e-9,
            "share": self._own_ns / self._step_ns if self._step_ns else None,
            "thinned_steps": self.thinned,
            "rested_steps": self.rested,
        }


class _Recent:
    """Exponentially weighted time of the last steps."""

    def __init__(self) -> None:
        self._step = self._own = 0.0

    def add(self, step: int, own: int) -> None:
        self._step = DECAY * self._step + step
        self._own = DECAY * self._own + own

    @property
    def share(self) -> float:
        return self._own / self._step if self._step else 0.0


def _seconds(quantity: str, nanoseconds: int) -> Record:
    return run_scalar(quantity, nanoseconds * 1e-9)
