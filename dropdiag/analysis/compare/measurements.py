"""What was measured of the runs that are compared: all that effects and claims are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from dropdiag.analysis.compare.measures import Measure, measure_of
from dropdiag.analysis.compare.step_ranges import StepRange, StepRanges, within
from dropdiag.analysis.seeds import SeedPairing, pair_by_seed
from dropdiag.store.reader import Runs
from dropdiag.store.schema import QUANTITIES, Quantity


@dataclass(frozen=True)
class CompareSettings:
    """How intervals and p are made.

    Attributes
    ----------
    confidence : float
        Of the intervals.
    seed : int
        Of the labellings, where they are drawn.
    """

    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, repr=False, eq=False)
class Measurements:
    """Numbers of runs, layer by layer, and what is needed to set two conditions side by side.

    Attributes
    ----------
    runs : Runs
    conditions : tuple of str
        The baseline first.
    layers : tuple of str
        Layers of the baseline that are compared, in network order.
    measured : DataFrame
        One row a run, layer and measure: condition, seed, run, layer (called as in the baseline), call, quantity,
        measure, value (NaN for a run that is left out), null, until (last step that counts; of the gradient flow
        there is a row a step range), note (why a value is missing).
    histograms : DataFrame
        What distances are taken from: condition, seed, run, layer (called as in the baseline), call, quantity,
        histogram (all values finite).
    step_ranges : mapping of frozenset of str to StepRange
        Two conditions -> the training steps over which their gradient flow is compared.
    settings : CompareSettings
    quantities : mapping of str to Quantity
        Those of the runs.
    """

    runs: Runs
    conditions: tuple[str, ...]
    layers: tuple[str, ...]
    measured: pd.DataFrame
    histograms: pd.DataFrame
    step_ranges: StepRanges
    settings: CompareSettings = field(default_factory=CompareSettings)
    quantities: Mapping[str, Quantity] = field(default_factory=lambda: QUANTITIES)

    @property
    def baseline(self) -> str:
        """The condition that the others are compared with."""
        return self.conditions[0]

    def pairing(self, condition: str, baseline: str) -> SeedPairing:
        """Return which runs of two conditions belong together."""
        return pair_by_seed(self.runs, condition, baseline)

    def step_range(self, condition: str, baseline: str) -> StepRange:
        """Return the training steps over which two conditions are compared."""
        return self.step_ranges.get(frozenset((condition, baseline)), StepRange(None, None))

    def of(self, condition: str, baseline: str) -> pd.DataFrame:
        """Return the rows of ``measured`` that two conditions are compared by."""
        both = self.measured["condition"].isin([condition, baseline])
        return within(self.measured[both], self.step_range(condition, baseline))

    def measure(self, name: str) -> Measure:
        """Return a measure by name."""
        return measure_of(name, self.quantities)
