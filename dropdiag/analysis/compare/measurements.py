"""What was measured of the runs that are compared: all that effects and claims are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.effects import Effect, mean_difference
from dropdiag.analysis.compare.measures import SAMPLED, Measure, measure_of
from dropdiag.analysis.compare.step_ranges import StepRange, StepRanges, within
from dropdiag.analysis.seeds import SeedPairing, pair_by_seed, sides_of
from dropdiag.errors import ArgumentError
from dropdiag.store.order import Key, Places
from dropdiag.store.reader import Runs
from dropdiag.store.schema import QUANTITIES, Quantity

SERIES: Final = ("condition", "run", "measure", "value", "note", "step")
"""Columns of `Measurements.series` that claims need."""
SAMPLES_ALIKE: Final = 2.0
"""Greatest factor between numbers of independent samples over which correlations are compared."""


@dataclass(frozen=True)
class CompareSettings:
    """How intervals and p are made.

    Attributes
    ----------
    alpha : float
        Greatest p of a verdict; intervals cover 1 - alpha.
    seed : int
        Of the labellings, where they are drawn.

    Raises
    ------
    ArgumentError
        If alpha is no probability.
    """

    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        # written as "not right" so that NaN, which compares as false, is refused too
        given: Any = self.alpha  # an option of a user
        if isinstance(given, str) or not 0.0 < given < 1.0:
            raise ArgumentError(f"alpha must lie between 0 and 1, got {self.alpha!r}")

    @property
    def confidence(self) -> float:
        """What intervals cover: 1 - alpha."""
        return 1.0 - self.alpha

    @property
    def of_effects(self) -> dict[str, Any]:
        """Options of `mean_difference` and `assess`."""
        return {"confidence": self.confidence, "seed": self.seed}


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
        measure, value (NaN for a run that is left out), null, items (independent samples behind a correlation), until
        (last step that counts; of the gradient flow there is a row a step range), note (why a value is missing).
    histograms : DataFrame
        What distances are taken from: condition, seed, run, layer (called as in the baseline), call, quantity,
        histogram (all values finite).
    step_ranges : mapping of frozenset of str to StepRange
        Two conditions -> the training steps over which their gradient flow is compared.
    settings : CompareSettings
    quantities : mapping of str to Quantity
        Those of the runs.
    names : mapping of str to mapping of str to str
        Condition -> layer of the baseline -> what the condition calls the layer beside it.
    places : Places
        Where the baseline's sites stand.
    series : DataFrame
        What was measured at several steps and is compared over a part of training: columns of ``measured``, and step.
    """

    runs: Runs
    conditions: tuple[str, ...]
    layers: tuple[str, ...]
    measured: pd.DataFrame
    histograms: pd.DataFrame
    step_ranges: StepRanges
    settings: CompareSettings = field(default_factory=CompareSettings)
    quantities: Mapping[str, Quantity] = field(default_factory=lambda: QUANTITIES)
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    places: Places = field(default_factory=lambda: Places(()))
    series: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SERIES))

    @property
    def baseline(self) -> str:
        """The condition that the others are compared with."""
        return self.conditions[0]

    def key(self, layer: str | None, call: int) -> tuple[bool, Key]:
        """Return what sites are sorted by in the table; what belongs to the network as a whole comes last."""
        return layer is None, self.places.key((layer or "", call))

    def pair(self, condition: str, baseline: str) -> Pair:
        """Set two conditions side by side."""
        return Pair(self, condition, baseline)

    def measure(self, name: str) -> Measure:
        """Return a measure by name."""
        return measure_of(name, self.quantities)


class Site(NamedTuple):
    """Where a measure is taken; ``layer`` is None for the network as a whole."""

    measure: str
    layer: str | None
    call: int


class Value(NamedTuple):
    """What was measured of one run at a site; see `Measurements.measured`."""

    condition: str
    value: float
    null: float
    items: float
    note: str


@dataclass(frozen=True)
class Pair:
    """Two conditions side by side, any two.

    Attributes
    ----------
    measurements : Measurements
    condition, baseline : str
    """

    measurements: Measurements
    condition: str
    baseline: str

    @cached_property
    def pairing(self) -> SeedPairing:
        """Which runs of the two belong together."""
        return pair_by_seed(self.measurements.runs, self.condition, self.baseline)

    @cached_property
    def step_range(self) -> StepRange:
        """Training steps over which their gradient flow is compared."""
        ranges = self.measurements.step_ranges
        return ranges.get(frozenset((self.condition, self.baseline)), StepRange(None, None))

    @cached_property
    def measured(self) -> pd.DataFrame:
        """Rows of `Measurements.measured` that the two are compared by."""
        every = self.measurements.measured
        return within(every[every["condition"].isin([self.condition, self.baseline])], self.step_range)

    @cached_property
    def sites(self) -> dict[Site, dict[str, Value]]:
        """Values by the run's label, at each site that both conditions have; sites in network order."""
        found: dict[Site, dict[str, Value]] = {}
        columns = (self.measured[name].tolist() for name in ("measure", "layer", "call", "run", *Value._fields))
        for measure, layer, call, run, *value in zip(*columns, strict=True):
            site = Site(measure, layer if isinstance(layer, str) else None, int(call))
            found.setdefault(site, {})[run] = Value(*value)
        # a layer or quantity of one condition alone has nothing beside it
        both = {self.condition, self.baseline}
        layers = {*self.measurements.layers, None}
        known = [
            site for site in found if site.layer in layers and {one.condition for one in found[site].values()} == both
        ]
        known.sort(key=lambda site: self.measurements.key(*site[1:]))
        return {site: _comparable(found[site]) if site.measure in SAMPLED else found[site] for site in known}

    def sites_of(self, name: str) -> list[tuple[Site, dict[str, Value]]]:
        """Return the sites of one measure with their values."""
        return [(site, values) for site, values in self.sites.items() if site.measure == name]

    def effect(self, measure: Measure, values: Mapping[str, float]) -> tuple[Effect | None, SeedPairing]:
        """Take a measure's effect from one value a run.

        Parameters
        ----------
        measure : Measure
        values : mapping of str to float
            Label of a run, of either condition -> value.

        Returns
        -------
        effect : Effect or None
            On the measure's scale; None where a side has no value.
        used : SeedPairing
            The runs that have one.
        """
        used, mine, theirs = sides_of(values, self.pairing, logs=measure.logs)
        if not mine.size or not theirs.size:
            return None, used
        return mean_difference(mine, theirs, paired=used.paired, **self.measurements.settings.of_effects), used


def _comparable(values: dict[str, Value]) -> dict[str, Value]:
    """Leave out the correlations of all runs where they rest on unlike numbers of independent samples."""
    items = [one.items for one in values.values() if np.isfinite(one.value) and np.isfinite(one.items)]
    if not items or max(items) <= SAMPLES_ALIKE * min(items):
        return values
    # the fewer samples, the greater |r| is by chance alone: identical networks would differ
    why = (
        f"not compared, for they rest on {min(items):,.0f} to {max(items):,.0f} independent samples; evaluate all runs "
        "on the same held-out set"
    )
    return {run: one._replace(value=float("nan"), note=why) for run, one in values.items()}
