"""The effects that a claim rests on: each layer's, the average and slope over layers, one condition's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.effects import Effect, mean_difference
from dropdiag.analysis.compare.execution import unordered
from dropdiag.analysis.compare.measurements import CompareSettings, Pair, Site
from dropdiag.analysis.compare.measures import Measure
from dropdiag.analysis.compare.resampling import Floats
from dropdiag.analysis.compare.table import told
from dropdiag.analysis.seeds import sides_of
from dropdiag.formatting import site as site_name
from dropdiag.formatting import some
from dropdiag.store.schema import DIFFERENCE

ABOVE: Final = 1
BELOW: Final = -1
FEW: Final = 5
"""With fewer runs on a side, and sides of unlike sizes, a permutation needs Welch's t beside it: see docs/claims.md."""


@dataclass(frozen=True)
class ClaimEffect:
    """One effect, which can be held against any threshold.

    Attributes
    ----------
    measure : str
    layer : str or None
        None for what is taken over layers, or belongs to the network.
    call : int
    condition, baseline : ndarray of float64
        A value a run; of pairs in the order of their seeds.
    paired : bool
    settings : CompareSettings
    scale : str
        Of the effect: "log ratio" or "difference".
    own : str
        The condition whose own number it is, where nothing stands beside it; else empty.
    note : str
        What was left out of it.
    """

    measure: str
    layer: str | None
    call: int
    condition: Floats = field(repr=False)
    baseline: Floats = field(repr=False)
    paired: bool
    settings: CompareSettings
    scale: str = DIFFERENCE
    own: str = ""
    note: str = ""

    @cached_property
    def effect(self) -> Effect:
        """The effect, with the p of no effect."""
        return self._about(0.0)

    @property
    def testable(self) -> bool:
        """Whether there is a test: two runs or more on both sides."""
        return self.effect.test != "none"

    def can_reach(self, level: float) -> bool:
        """Whether so many seeds can give a p of the relabelled seeds that is as small as a level."""
        return bool(self.effect.p_attainable <= level)

    def p(self, threshold: float, *, relabelled: bool) -> float:
        """Return the two-sided p that the truth is a threshold.

        Parameters
        ----------
        threshold : float
        relabelled : bool
            By the relabelled seeds, else by Student's (Welch's) t, which is NaN for seeds that do not differ.
        """
        found = self.effect if threshold == 0.0 else self._about(threshold)
        if not relabelled:
            return found.p_t
        # few runs beside many, of unlike variances: a permutation alone rejects too often (docs/claims.md)
        unlike = not self.paired and found.n != found.n_baseline and min(found.n, found.n_baseline) < FEW
        return max(found.p, found.p_t) if unlike and not np.isnan(found.p_t) else found.p

    def side(self, threshold: float) -> int:
        """Return on which side of a threshold the effect lies: `ABOVE`, `BELOW` or 0."""
        return int(np.sign(self.effect.effect - threshold))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the t interval of another level: 1 - alpha / layers holds for all layers together (Bonferroni)."""
        return self.effect.estimate.interval(level)

    def _about(self, threshold: float) -> Effect:
        mine = self.condition - threshold
        return mean_difference(mine, self.baseline, paired=self.paired, **self.settings.of_effects)


class PairEffects(Pair):
    """Effects between two conditions, any two, as claims need them."""

    def layers(self, name: str) -> tuple[ClaimEffect, ...]:
        """Return the effect in each layer, in network order."""
        measure = self.measurements.measure(name)
        made = (
            self._effect(name, measure, values, layer=site.layer, call=site.call) for site, values in self._sites(name)
        )
        return tuple(one for one in made if one is not None)

    def average(self, name: str) -> ClaimEffect | None:
        """Return the effect on each run's mean over layers (of logarithms, for a log ratio)."""
        return self._over_layers(name, name, lambda x: np.asarray(x.mean(axis=1)))

    def slope(self, name: str) -> ClaimEffect | None:
        """Return the effect on each run's least-squares slope over its layers' places in the order of execution.

        Places count the layers of the measure alone. None for a single layer, or where layers are in no one order
        (`unordered`).
        """
        frame, _ = self._by_run(name)
        if frame.shape[1] < 2 or self.unordered(name):
            return None
        place = _centred(frame.columns)
        return self._over_layers(name, f"{name}_slope", lambda x: np.asarray(x @ place / (place @ place)))

    def unordered(self, name: str) -> str:
        """Say why there is no slope over the layers of a measure; nothing where there is one, or one layer alone."""
        (frame, _), sites = self._by_run(name), self._sites(name)
        held = [(str(site.layer), site.call) for site, _ in (sites[int(place)] for place in frame.columns)]
        return unordered(self.measurements, held, list(map(str, frame.index))) if len(held) > 1 else ""

    def network(self, name: str) -> ClaimEffect | None:
        """Return the effect on a scalar of the network."""
        values = {run: one.value for run, one in self.sites.get(Site(name, None, 0), {}).items()}
        return self._effect(name, self.measurements.measure(name), values)

    def own(
        self, name: str, condition: str, reduce: Callable[[Floats, Floats], Floats], called: str, *, least: int = 1
    ) -> ClaimEffect | str:
        """Return a condition's own number, one a run, beside nothing: held against 0 or another threshold.

        Parameters
        ----------
        name : str
            Measure.
        condition : str
        reduce : callable
            Values, a row a run and a column a layer, and the layers' places in the order of execution, centred -> a
            number a run.
        called : str
        least : int
            Layers that it takes.

        Returns
        -------
        ClaimEffect or str
            Why there is none.
        """
        rows = self.measured[(self.measured["measure"] == name) & (self.measured["condition"] == condition)]
        rows = rows[np.isfinite(rows["value"]) & rows["layer"].isin(self.measurements.layers)]
        if rows.empty:
            return f"was not recorded of {condition!r}"
        sites = sorted({(str(one), int(call)) for one, call in zip(rows["layer"], rows["call"], strict=True)},
                       key=lambda site: self.measurements.key(*site))  # fmt: skip
        known = rows["run"].unique().tolist()
        wide = rows.pivot_table(index="run", columns=["layer", "call"], values="value", aggfunc="last")
        wide = wide.reindex(index=known, columns=pd.MultiIndex.from_tuples(sites)).set_axis(range(len(sites)), axis=1)
        frame, note = _held_by_most(wide, [known], [site_name(*site) for site in sites])
        held = [sites[int(place)] for place in frame.columns]
        if len(held) < least:
            return f"needs {least} layers, and {condition!r} has {len(held)}"
        if len(held) > 1 and (why := unordered(self.measurements, held, list(map(str, frame.index)))):
            return f"is not judged: {why}"
        values = reduce(frame.to_numpy(), _centred(frame.columns))
        return ClaimEffect(
            called, None, 0, values, np.zeros(len(values)), paired=True, settings=self.measurements.settings,
            own=condition, note=note,
        )  # fmt: skip

    def missing(self, name: str) -> str:
        """Say of a measure that gives no effect why: it was not recorded on both sides, or has no value there."""
        rows = self.measured[self.measured["measure"] == name]
        if not {self.condition, self.baseline} <= set(rows["condition"]):
            return "was not recorded on both sides"
        known = self.sites_of(name)
        notes = told({run: one.note for _, values in known for run, one in values.items()})
        return "has no finite value on one side" + (f" ({notes})" if notes else "")

    def noted(self, name: str, note: str) -> tuple[int, int]:
        """Count the runs of which a note is made, and all that have a value."""
        rows = self.measured[(self.measured["measure"] == name) & np.isfinite(self.measured["value"])]
        used = rows[rows["run"].isin(self.pairing.runs)]
        return int((used["note"] == note).sum()), len(used)

    def items(self, name: str) -> set[float]:
        """Return the numbers of independent samples behind a measure of correlation."""
        return {one.items for _, values in self.sites_of(name) for one in values.values() if np.isfinite(one.value)}

    def _sites(self, name: str) -> list[tuple[Site, dict[str, float]]]:
        """Return the layers of a measure with the values of both conditions' runs, in network order."""
        return [(site, {run: one.value for run, one in values.items()})
                for site, values in self.sites_of(name) if site.layer is not None]  # fmt: skip

    def _over_layers(self, name: str, called: str, reduce: Callable[[Floats], Floats]) -> ClaimEffect | None:
        """Reduce the layers that most runs of both conditions hold to one number a run."""
        frame, note = self._by_run(name)
        if frame.empty:
            return None
        numbers = dict(zip(map(str, frame.index), reduce(frame.to_numpy()), strict=True))
        scale = self.measurements.measure(name).scale
        return self._effect(called, Measure(name, name, DIFFERENCE, "1"), numbers, note=note, scale=scale)

    def _by_run(self, name: str) -> tuple[pd.DataFrame, str]:
        """Return the values of the layers that most runs hold: a row a run, a column a place among `_sites`.

        Beside it, in words, what was left out.
        """
        sites = self._sites(name)
        frame = pd.DataFrame([values for _, values in sites], dtype="float64").T
        frame = frame.loc[[run for run in self.pairing.runs if run in frame.index]]
        if self.measurements.measure(name).logs:
            frame = frame.where(frame > 0.0).transform("log")
        labels = [site_name(str(site.layer), site.call) for site, _ in sites]
        return _held_by_most(frame.where(np.isfinite(frame)), [self.pairing.condition, self.pairing.baseline], labels)

    def _effect(
        self, name: str, measure: Measure, values: Mapping[str, float], *, layer: str | None = None, call: int = 0,
        note: str = "", scale: str = "",
    ) -> ClaimEffect | None:  # fmt: skip
        used, mine, theirs = sides_of(values, self.pairing, logs=measure.logs)
        if not mine.size or not theirs.size:
            return None
        scale = scale or measure.scale
        return ClaimEffect(name, layer, call, mine, theirs, used.paired, self.measurements.settings, scale, note=note)


def _centred(places: pd.Index[Any]) -> Floats:
    """Return places, centred: a slope over them is then a plain product."""
    place = np.array(list(places), dtype=np.float64)
    return np.asarray(place - place.mean())


def _held_by_most(
    frame: pd.DataFrame, sides: Collection[Collection[str]], labels: Collection[str]
) -> tuple[pd.DataFrame, str]:
    """Return runs and layers without a gap, and in words what was left out.

    A mean or a slope over other layers is another quantity: a run that lacks a layer which at least half of the runs of
    every side hold is left out, and so is a layer that fewer hold.
    """
    frame = frame.dropna(axis="index", how="all")
    if frame.empty:
        return frame, ""
    held, names = frame.notna(), list(labels)
    parts = [held[held.index.isin(list(side))] for side in sides]
    most = np.logical_and.reduce([part.mean(axis=0).to_numpy() >= 0.5 for part in parts if len(part)])
    layers = [names[place] for place, kept in enumerate(most) if not kept and held.iloc[:, place].any()]
    whole = frame.iloc[:, np.flatnonzero(most)].dropna(axis="index")
    runs = [str(run) for run in frame.index if run not in whole.index]
    said = [f"{some(runs)} left out of what is taken over layers, for a layer is missing there" if runs else "",
            f"without {some(layers)}, which most runs lack" if layers else ""]  # fmt: skip
    return whole if whole.shape[1] else whole.iloc[:0], ", ".join(filter(None, said))
