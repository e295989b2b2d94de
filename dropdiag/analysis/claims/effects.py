"""The numbers that a claim rests on: each layer, the average over layers, the slope over layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.comparison import Comparison
from dropdiag.analysis.compare.effects import Effect, holm
from dropdiag.analysis.compare.measures import DIFFERENCE, LOG_RATIO, Measure, measure_of
from dropdiag.analysis.compare.pairing import sides
from dropdiag.analysis.compare.resampling import Floats
from dropdiag.analysis.compare.step_ranges import Window, within
from dropdiag.analysis.compare.table import by_site, effect_of, told

ABOVE: Final = 1
BELOW: Final = -1


class Bounds(NamedTuple):
    """What an effect is held against: the claim is right beyond the threshold, wrong beyond the other bound."""

    threshold: float
    against: float


ZERO: Final = Bounds(0.0, 0.0)


@dataclass(frozen=True)
class Evidence:
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


class Pair:
    """Two conditions of a comparison, any two.

    Parameters
    ----------
    comparison : Comparison
    condition, baseline : str
    """

    def __init__(self, comparison: Comparison, condition: str, baseline: str) -> None:
        self.condition, self.baseline = condition, baseline
        self._settings = comparison.settings
        self._sides = sides(comparison.runs, condition, baseline)
        self.window = comparison.windows.get(frozenset((condition, baseline)), Window(None, None))
        both = comparison.measured["condition"].isin([condition, baseline])
        self._measured = within(comparison.measured[both], self.window)
        order = {name: i for i, name in enumerate(comparison.layers)}
        self._found: dict[str, list[tuple[str | None, int, dict[str, float]]]] = {}
        places = [(-1 if layer is None else order.get(layer, len(order)), call, measure, layer, sides)
                  for (measure, layer, call), sides in by_site(self._measured).items()]  # fmt: skip
        for place, call, measure, layer, found in sorted(places, key=lambda site: site[:2]):
            if place < len(order) and condition in found and baseline in found:
                self._found.setdefault(measure, []).append((layer, call, {**found[condition], **found[baseline]}))

    def layers(self, name: str, bounds: Bounds = ZERO) -> list[Evidence]:
        """Return the effect in each layer, in network order."""
        found = [
            (layer, call, self._effects(measure_of(name), values, bounds)) for layer, call, values in self._sites(name)
        ]
        known = [(layer, call, *both) for layer, call, both in found if both is not None]
        p, p_against = holm([one.p for *_, one, _ in known]), holm([other.p for *_, other in known])
        tested = int(np.count_nonzero(~np.isnan(p)))
        wider = replace(self._settings, confidence=1.0 - (1.0 - self._settings.confidence) / max(tested, 1))
        joint = [
            effect_of(measure_of(name), values, values, self._sides, wider)[0] for _, _, values in self._sites(name)
        ]
        ends = [(one.low, one.high) for one in joint if one is not None]
        return [
            Evidence(
                name, layer, call, one, float(p[i]), float(p_against[i]), one.p_attainable * tested, bounds, ends[i]
            )
            for i, (layer, call, one, _) in enumerate(known)
        ]

    def average(self, name: str, bounds: Bounds = ZERO) -> Evidence | None:
        """Return the effect on each run's mean over layers (of logarithms, for a log ratio)."""
        return self._over_layers(name, lambda x: np.asarray(x.mean(axis=1)), name, bounds)

    def slope(self, name: str) -> Evidence | None:
        """Return the effect on each run's least-squares slope over the layers' order; None for a single layer."""

        def slopes(x: Floats) -> Floats:
            place = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2.0
            return np.asarray(x @ place / (place @ place)) if x.shape[1] > 1 else np.full(len(x), np.nan)

        return self._over_layers(name, slopes, f"{name}_slope", ZERO)

    def network(self, name: str) -> Evidence | None:
        """Return the effect on a scalar of the network."""
        found = [values for layer, _, values in self._found.get(name, []) if layer is None]
        return self._whole(name, measure_of(name), found[0], ZERO) if found else None

    def missing(self, name: str) -> str:
        """Say of a measure that gives no evidence why: it was not recorded on both sides, or has no value there."""
        rows = self._measured[self._measured["measure"] == name]
        if not {self.condition, self.baseline} <= set(rows["condition"]):
            return "was not recorded on both sides"
        notes = told(dict(zip(rows["run"], rows["note"], strict=True)))
        return "has no finite value on one side" + (f" ({notes})" if notes else "")

    def noted(self, name: str, note: str) -> tuple[int, int]:
        """Count the runs of which a note is made, and all that have a value."""
        rows = self._measured[(self._measured["measure"] == name) & np.isfinite(self._measured["value"])]
        used = rows[rows["run"].isin([*self._sides.condition, *self._sides.baseline])]
        return int((used["note"] == note).sum()), len(used)

    def _sites(self, name: str) -> list[tuple[str, int, dict[str, float]]]:
        """Return layer, call, and the values of both conditions' runs, in network order."""
        return [(layer, call, values) for layer, call, values in self._found.get(name, []) if layer is not None]

    def _over_layers(
        self, name: str, reduce: Callable[[Floats], Floats], called: str, bounds: Bounds
    ) -> Evidence | None:
        """Reduce the layers that all runs hold to one number a run."""
        frame = pd.DataFrame([values for _, _, values in self._sites(name)]).T.astype("float64")
        if measure_of(name).scale == LOG_RATIO:
            frame = frame.where(frame > 0.0).transform("log")
        frame = frame.where(np.isfinite(frame)).dropna(axis="index", how="all").dropna(axis="columns")
        if frame.empty:
            return None
        numbers = dict(zip(map(str, frame.index), reduce(frame.to_numpy()), strict=True))
        return self._whole(called, Measure(name, name, DIFFERENCE, "1"), numbers, bounds)

    def _whole(self, name: str, measure: Measure, values: Mapping[str, float], bounds: Bounds) -> Evidence | None:
        both = self._effects(measure, values, bounds)
        if both is None:
            return None
        one, other = both
        return Evidence(name, None, 0, one, one.p, other.p, one.p_attainable, bounds, (one.low, one.high))

    def _effects(self, measure: Measure, values: Mapping[str, float], bounds: Bounds) -> tuple[Effect, Effect] | None:
        """Return the effect twice: with the p of the threshold, and of the bound that contradicts."""
        found = [
            effect_of(measure, values, values, self._sides, self._settings, threshold=bound)[0] for bound in bounds
        ]
        one, other = (None if e is None else _moved(e, bound) for e, bound in zip(found, bounds, strict=True))
        return None if one is None or other is None else (one, other)


def _moved(effect: Effect, bound: float) -> Effect:
    """Give back what was taken off the effect for its p."""
    return replace(effect, effect=effect.effect + bound, low=effect.low + bound, high=effect.high + bound)
