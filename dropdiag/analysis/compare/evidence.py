"""The numbers that a claim rests on: each layer, the average over layers, the slope over layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.comparison import Comparison
from dropdiag.analysis.compare.effects import Effect, holm
from dropdiag.analysis.compare.measures import DIFFERENCE, LOG_RATIO, Measure, measure_of
from dropdiag.analysis.compare.pairing import Sides, sides
from dropdiag.analysis.compare.table import effect_of

ABOVE: Final = 1
BELOW: Final = -1


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
    threshold : float
    """

    measure: str
    layer: str | None
    call: int
    effect: Effect
    p_holm: float
    p_against: float
    attainable: float
    threshold: float


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
        order = {name: i for i, name in enumerate(comparison.layers)}
        values = comparison.values
        values = values[values["layer"].isna() | values["layer"].isin(order)]
        self._values = values.assign(place=values["layer"].map(order).fillna(-1).astype("int64"))

    def layers(self, name: str, threshold: float = 0.0, against: float = 0.0) -> list[Evidence]:
        """Return the effect in each layer, in network order."""
        found = [(layer, call, *self._effects(measure_of(name), mine, theirs, threshold, against))
                 for layer, call, mine, theirs in self._sites(name)]  # fmt: skip
        found = [one for one in found if one[2] is not None]
        adjusted = [holm([one[i].p for one in found]) for i in (2, 3)]
        tested = sum(not np.isnan(one[2].p) for one in found)
        return [
            Evidence(name, layer, call, effect, float(p), float(p_against), effect.p_attainable * tested, threshold)
            for (layer, call, effect, _), p, p_against in zip(found, *adjusted, strict=True)
        ]

    def average(self, name: str, threshold: float = 0.0, against: float = 0.0) -> Evidence | None:
        """Return the effect on each run's mean over layers (of logarithms, for a log ratio)."""
        return self._over_layers(name, lambda x: x.mean(axis=1), name, threshold, against)

    def slope(self, name: str) -> Evidence | None:
        """Return the effect on each run's least-squares slope over the layers' order; None for a single layer."""

        def slopes(x: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
            place = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2.0
            return x @ place / (place @ place) if x.shape[1] > 1 else np.full(len(x), np.nan)

        return self._over_layers(name, slopes, f"{name}_slope")

    def network(self, name: str) -> Evidence | None:
        """Return the effect on a scalar of the network."""
        part = self._values[(self._values["measure"] == name) & self._values["layer"].isna()]
        mine, theirs = (_by_run(part[part["condition"] == one]) for one in (self.condition, self.baseline))
        return self._whole(name, measure_of(name), mine, theirs, 0.0, 0.0)

    def _sites(self, name: str) -> Iterator[tuple[str, int, dict[str, float], dict[str, float]]]:
        part = self._values[(self._values["measure"] == name) & self._values["layer"].notna()]
        for (_, layer, call), rows in part.groupby(["place", "layer", "call"], sort=True):
            mine, theirs = (_by_run(rows[rows["condition"] == one]) for one in (self.condition, self.baseline))
            if mine and theirs:
                yield str(layer), int(call), mine, theirs

    def _over_layers(
        self, name: str, reduce: Any, called: str, threshold: float = 0.0, against: float = 0.0
    ) -> Evidence | None:
        """Reduce the layers that all runs hold to one number a run."""
        columns = [{**mine, **theirs} for _, _, mine, theirs in self._sites(name)]
        if not columns:
            return None
        frame = pd.DataFrame(columns).T.astype("float64")
        if measure_of(name).scale == LOG_RATIO:
            frame = np.log(frame.where(frame > 0.0))
        frame = frame.where(np.isfinite(frame)).dropna(axis="index", how="all").dropna(axis="columns")
        if frame.shape[1] == 0:
            return None
        numbers = dict(zip(frame.index, reduce(frame.to_numpy()), strict=True))
        return self._whole(called, Measure(name, name, DIFFERENCE, "1"), numbers, numbers, threshold, against)

    def _whole(
        self, name: str, measure: Measure, mine: Mapping[str, float], theirs: Mapping[str, float],
        threshold: float, against: float,
    ) -> Evidence | None:  # fmt: skip
        effect, other = self._effects(measure, mine, theirs, threshold, against)
        if effect is None or other is None:
            return None
        return Evidence(name, None, 0, effect, effect.p, other.p, effect.p_attainable, threshold)

    def _effects(
        self, measure: Measure, mine: Mapping[str, float], theirs: Mapping[str, float], threshold: float, against: float
    ) -> tuple[Effect | None, Effect | None]:
        one = _held_against(measure, mine, theirs, self._sides, self._settings, threshold)
        return one, one if against == threshold else _held_against(
            measure, mine, theirs, self._sides, self._settings, against
        )


def _held_against(
    measure: Measure, mine: Mapping[str, float], theirs: Mapping[str, float], pairs: Sides, settings: Any, bound: float
) -> Effect | None:
    """Take the effect with the p of a bound other than 0."""
    effect, _ = effect_of(measure, mine, theirs, pairs, settings, threshold=bound)
    if effect is None:
        return None
    numbers = {name: getattr(effect, name) + bound for name in ("effect", "low", "high")}
    return Effect(**{**effect.__dict__, **numbers})


def _by_run(frame: pd.DataFrame) -> dict[str, float]:
    return dict(zip(frame["run"], frame["value"], strict=True))
