"""The effects that a claim rests on: each layer, the average over layers, the slope over layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.effects import Effect, holm
from dropdiag.analysis.compare.execution import unordered
from dropdiag.analysis.compare.measurements import Pair, Site
from dropdiag.analysis.compare.measures import Measure
from dropdiag.analysis.compare.resampling import Floats
from dropdiag.analysis.compare.table import told
from dropdiag.analysis.seeds import difference, sides_of
from dropdiag.store.schema import DIFFERENCE

ABOVE: Final = 1
BELOW: Final = -1


class Bounds(NamedTuple):
    """What an effect is held against: the claim is right beyond the threshold, wrong beyond the other bound."""

    threshold: float
    against: float


ZERO: Final = Bounds(0.0, 0.0)


@dataclass(frozen=True)
class ClaimEffect:
    """One effect, with the p of the thresholds it is held against.

    Attributes
    ----------
    measure : str
    layer : str or None
        None for what is taken over layers, or belongs to the network.
    call : int
    effect : Effect
        Its p is that of the threshold.
    p_holm, p_against : float
        p of the threshold, and of the bound that contradicts; over layers Holm's.
    attainable : float
        Smallest p (over layers: Holm's) that so many seeds can give.
    bounds : Bounds
    joint : (float, float)
        Interval that holds for all layers together: of confidence 1 - (1 - c) / layers (Bonferroni).
    """

    measure: str
    layer: str | None
    call: int
    effect: Effect
    p_holm: float
    p_against: float
    attainable: float
    bounds: Bounds
    joint: tuple[float, float]


class PairEffects(Pair):
    """Effects between two conditions, any two, as claims need them."""

    def layers(self, name: str, bounds: Bounds = ZERO) -> list[ClaimEffect]:
        """Return the effect in each layer, in network order."""
        measure = self.measurements.measure(name)
        known = [(site, values, both) for site, values in self._sites(name)
                 if (both := self._effects(measure, values, bounds))]  # fmt: skip
        p, p_against = (holm([both[which].p for *_, both in known]) for which in (0, -1))
        # a layer with one seed on a side is not tested, and does not make the others' tests stricter
        tested = int(np.count_nonzero(~np.isnan(p)))
        confidence = 1.0 - (1.0 - self.measurements.settings.confidence) / max(tested, 1)
        return [
            ClaimEffect(
                name, site.layer, site.call, one, float(p[i]), float(p_against[i]), one.p_attainable * tested, bounds,
                self._interval(measure, values, confidence),
            )
            for i, (site, values, (one, *_)) in enumerate(known)
        ]  # fmt: skip

    def average(self, name: str, bounds: Bounds = ZERO) -> ClaimEffect | None:
        """Return the effect on each run's mean over layers (of logarithms, for a log ratio)."""
        return self._over_layers(name, lambda x: np.asarray(x.mean(axis=1)), name, bounds)

    def slope(self, name: str) -> ClaimEffect | None:
        """Return the effect on each run's least-squares slope over the layers' ranks.

        Ranks count these layers alone. NaN for a single layer; None where they are in no one order (`unordered`).
        """

        def slopes(x: Floats) -> Floats:
            # centred, so that the slope is a plain product
            place = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2.0
            return np.asarray(x @ place / (place @ place)) if x.shape[1] > 1 else np.full(len(x), np.nan)

        return None if self.unordered(name) else self._over_layers(name, slopes, f"{name}_slope", ZERO)

    def unordered(self, name: str) -> str:
        """Say why there is no slope over the layers of a measure; nothing where there is one, or one layer alone."""
        frame, sites = self._by_run(name), self._sites(name)
        held = [(str(site.layer), site.call) for site, _ in (sites[int(place)] for place in frame.columns)]
        return unordered(self.measurements, held, list(map(str, frame.index))) if len(held) > 1 else ""

    def network(self, name: str) -> ClaimEffect | None:
        """Return the effect on a scalar of the network."""
        found = self._values(Site(name, None, 0))
        return self._whole(name, self.measurements.measure(name), found, ZERO) if found else None

    def missing(self, name: str) -> str:
        """Say of a measure that gives no effect why: it was not recorded on both sides, or has no value there."""
        rows = self.measured[self.measured["measure"] == name]
        if not {self.condition, self.baseline} <= set(rows["condition"]):
            return "was not recorded on both sides"
        notes = told(dict(zip(rows["run"], rows["note"], strict=True)))
        return "has no finite value on one side" + (f" ({notes})" if notes else "")

    def noted(self, name: str, note: str) -> tuple[int, int]:
        """Count the runs of which a note is made, and all that have a value."""
        rows = self.measured[(self.measured["measure"] == name) & np.isfinite(self.measured["value"])]
        used = rows[rows["run"].isin(self.pairing.runs)]
        return int((used["note"] == note).sum()), len(used)

    def _sites(self, name: str) -> list[tuple[Site, dict[str, float]]]:
        """Return the layers of a measure with the values of both conditions' runs, in network order."""
        return [(site, self._values(site)) for site in self.sites if site.measure == name and site.layer is not None]

    def _values(self, site: Site) -> dict[str, float]:
        return {run: one.value for run, one in self.sites.get(site, {}).items()}

    def _over_layers(
        self, name: str, reduce: Callable[[Floats], Floats], called: str, bounds: Bounds
    ) -> ClaimEffect | None:
        """Reduce the layers that all runs hold to one number a run."""
        frame = self._by_run(name)
        if frame.empty:
            return None
        numbers = dict(zip(map(str, frame.index), reduce(frame.to_numpy()), strict=True))
        return self._whole(called, Measure(name, name, DIFFERENCE, "1"), numbers, bounds)

    def _by_run(self, name: str) -> pd.DataFrame:
        """Return the values of the layers that all runs hold: a row a run, a column a place among `_sites`."""
        frame = pd.DataFrame([values for _, values in self._sites(name)]).T.astype("float64")
        if self.measurements.measure(name).logs:
            frame = frame.where(frame > 0.0).transform("log")
        # first the runs that have nothing, then the layers that not all of the rest have: a mean over other layers
        # is another quantity
        return frame.where(np.isfinite(frame)).dropna(axis="index", how="all").dropna(axis="columns")

    def _whole(self, name: str, measure: Measure, values: Mapping[str, float], bounds: Bounds) -> ClaimEffect | None:
        both = self._effects(measure, values, bounds)
        if not both:
            return None
        one, against = both[0], both[-1]
        return ClaimEffect(name, None, 0, one, one.p, against.p, one.p_attainable, bounds, (one.low, one.high))

    def _effects(self, measure: Measure, values: Mapping[str, float], bounds: Bounds) -> list[Effect]:
        """Return the effect with the p of each bound: one for both where they are the same, none without values."""
        # thousands of labellings are behind each p, and most claims hold an effect against 0 both ways
        found = [self.effect(measure, values, threshold=bound)[0] for bound in dict.fromkeys(bounds)]
        return [effect for effect in found if effect is not None]

    def _interval(self, measure: Measure, values: Mapping[str, float], confidence: float) -> tuple[float, float]:
        used, mine, theirs = sides_of(values, self.pairing, logs=measure.logs)
        return difference(mine, theirs, paired=used.paired, level=confidence)[1:]
