"""The effects that a claim rests on: each layer's, the average and slope over layers, one condition's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    own : str or None
        The condition whose own number it is, where nothing stands beside it.
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
    own: str | None = None
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
            By the relabelled seeds, else by Student's t, which is NaN for seeds that do not differ. Of independent
            seeds the t is Welch's, with the degrees of freedom of the smaller side; sides of unlike sizes need both.
            Where the relabelled seeds do not say as much as so many can, t says no more than they do: else a level
            that they cannot reach would decide what a less strict one that they can leaves open.
        """
        found = self.effect if threshold == 0.0 else self._about(threshold)
        if not relabelled:
            by_t = self._by_t(found)
            return by_t if found.p <= found.p_attainable else max(by_t, found.p)
        # sides of unlike sizes and variances: a permutation alone rejects too often (docs/claims.md)
        unlike = not self.paired and found.n != found.n_baseline and not found.without_spread
        return max(found.p, self._by_t(found)) if unlike else found.p

    def _by_t(self, found: Effect) -> float:
        if self.paired or np.isnan(found.p_t):
            return found.p_t
        # Welch's degrees of freedom are estimated, and far out in the tails too many: those of the smaller side keep
        # the level whatever the variances (Mickey and Brown 1966)
        return replace(found.estimate, degrees=min(found.n, found.n_baseline) - 1.0).p()

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
        held = self._by_run(name)
        if len(held.places) < 2 or self.unordered(name):
            return None
        place = held.centred
        return self._over_layers(name, f"{name}_slope", lambda x: np.asarray(x @ place / (place @ place)))

    def unordered(self, name: str) -> str:
        """Say why there is no slope over the layers of a measure; nothing where there is one, or one layer alone."""
        held, sites = self._by_run(name), self._sites(name)
        known = [(str(sites[place][0].layer), sites[place][0].call) for place in held.places]
        return unordered(self.measurements, known, held.runs) if len(known) > 1 else ""

    def network(self, name: str) -> ClaimEffect | None:
        """Return the effect on a scalar of the network."""
        return self.of_values(name, {run: one.value for run, one in self.sites.get(Site(name, None, 0), {}).items()})

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
        rows = rows[np.isfinite(rows["value"].astype(float)) & rows["layer"].isin(self.measurements.layers)]
        if rows.empty:
            return f"was not recorded of {condition!r}"
        sites = sorted({(str(one), int(call)) for one, call in zip(rows["layer"], rows["call"], strict=True)},
                       key=lambda site: self.measurements.key(*site))  # fmt: skip
        runs = rows["run"].unique().tolist()
        table = np.full((len(runs), len(sites)), np.nan)
        for run, layer, call, value in zip(*(rows[one] for one in ("run", "layer", "call", "value")), strict=True):
            table[runs.index(run), sites.index((str(layer), int(call)))] = value
        held = _held_by_most(table, runs, [runs], [site_name(*site) for site in sites])
        known = [sites[place] for place in held.places]
        if len(known) < least:
            return f"needs {least} layers, and {condition!r} has {len(known)}"
        if not held.runs:
            return f"is not judged: {held.note}"
        if len(known) > 1 and (why := unordered(self.measurements, known, held.runs)):
            return f"is not judged: {why}"
        return self.own_values(called, condition, reduce(held.values, held.centred), held.note)

    def own_values(self, called: str, condition: str, values: Floats, note: str = "") -> ClaimEffect:
        """Return a condition's own numbers, one a run, beside nothing."""
        return ClaimEffect(
            called, None, 0, values, np.zeros(len(values)), paired=True, settings=self.measurements.settings,
            own=condition, note=note,
        )  # fmt: skip

    def own_of_network(self, name: str, condition: str) -> ClaimEffect | str:
        """Return a condition's own number of the network, one a run; a text says why there is none."""
        rows = self.measured[(self.measured["measure"] == name) & (self.measured["condition"] == condition)]
        known = rows[np.isfinite(rows["value"]) & rows["layer"].isna()]
        if known.empty:
            notes = told(dict(zip(rows["run"], rows["note"], strict=True)))
            return f"has no finite value ({notes})" if notes else f"was not recorded of {condition!r}"
        return self.own_values(name, condition, known["value"].to_numpy(np.float64))

    def derive(self, name: str, of: Sequence[str], combine: Callable[..., float]) -> None:
        """Make a measure of layers out of others, run by run, that `layers` and `average` then know by its name.

        Parameters
        ----------
        name : str
        of : sequence of str
            Measures; a layer counts that has all of them.
        combine : callable
            Their values, in this order -> that of the new one, a difference.
        """
        first, *others = [dict(self._sites(one)) for one in of]
        others = [{site._replace(measure=of[0]): values for site, values in one.items()} for one in others]
        self._derived[name] = [
            (site._replace(measure=name), {run: combine(value, *(one[site].get(run, np.nan) for one in others))
                                           for run, value in values.items()})
            for site, values in first.items() if all(site in one for one in others)
        ]  # fmt: skip

    def missing(self, name: str) -> str:
        """Say of a measure that gives no effect why: it was not recorded on both sides, or has no value there."""
        rows = self.measured[self.measured["measure"] == name]
        if not {self.condition, self.baseline} <= set(rows["condition"]):
            return "was not recorded on both sides"
        known = self.sites_of(name)
        held = self._by_run(name)
        if all(held.recorded.intersection(side) for side in (self.pairing.condition, self.pairing.baseline)):
            return f"is not judged: {held.note}"  # values there are, but of other layers in one run than in another
        notes = told({run: one.note for _, values in known for run, one in values.items()})
        return "has no finite value on one side" + (f" ({notes})" if notes else "")

    def noted(self, name: str, note: str) -> tuple[int, int]:
        """Count the runs of which a note is made, and all that have a value."""
        rows = self.measured[(self.measured["measure"] == name) & np.isfinite(self.measured["value"])]
        used = rows[rows["run"].isin(self.pairing.runs)]
        return int((used["note"] == note).sum()), len(used)

    def unlike_items(self, name: str) -> bool:
        """Whether a layer's correlations rest on other numbers of independent samples in one run than in another."""
        # that of one layer may differ from that of another; NaN, where it is not known, is unequal to itself
        known = ([one.items for one in values.values() if np.isfinite(one.value)] for _, values in self.sites_of(name))
        return any(len(np.unique(items)) > 1 for items in known)

    def _sites(self, name: str) -> list[tuple[Site, dict[str, float]]]:
        """Return the layers of a measure with the values of both conditions' runs, in network order."""
        if name in self._derived:
            return self._derived[name]
        return [(site, {run: one.value for run, one in values.items()})
                for site, values in self.sites_of(name) if site.layer is not None]  # fmt: skip

    def _over_layers(self, name: str, called: str, reduce: Callable[[Floats], Floats]) -> ClaimEffect | None:
        """Reduce the layers that most runs of both conditions hold to one number a run."""
        held = self._by_run(name)
        if not held.runs or not held.places:
            return None
        numbers = dict(zip(held.runs, reduce(held.values).tolist(), strict=True))
        scale = self.measurements.measure(name).scale
        return self._effect(called, Measure(name, name, DIFFERENCE, "1"), numbers, note=held.note, scale=scale)

    def _by_run(self, name: str) -> Held:
        """Return the values of the layers that most runs hold, places counted among `_sites`."""
        if name not in self._held:
            sites, runs = self._sites(name), self.pairing.runs
            table = np.array([[values.get(run, np.nan) for _, values in sites] for run in runs], dtype=np.float64)
            table = table.reshape(len(runs), len(sites))
            if self.measurements.measure(name).logs:
                table = np.log(np.where(table > 0.0, table, np.nan))
            labels = [site_name(str(site.layer), site.call) for site, _ in sites]
            self._held[name] = _held_by_most(table, runs, [self.pairing.condition, self.pairing.baseline], labels)
        return self._held[name]

    @cached_property
    def _held(self) -> dict[str, Held]:
        return {}

    @cached_property
    def _derived(self) -> dict[str, list[tuple[Site, dict[str, float]]]]:
        return {}

    def of_values(self, name: str, values: Mapping[str, float], note: str = "") -> ClaimEffect | None:
        """Return the effect on one number a run, by the run's label; None where a side has none."""
        return self._effect(name, self.measurements.measure(name), values, note=note)

    def _effect(
        self, name: str, measure: Measure, values: Mapping[str, float], *, layer: str | None = None, call: int = 0,
        note: str = "", scale: str = "",
    ) -> ClaimEffect | None:  # fmt: skip
        used, mine, theirs = sides_of(values, self.pairing, logs=measure.logs)
        if not mine.size or not theirs.size:
            return None
        scale = scale or measure.scale
        return ClaimEffect(name, layer, call, mine, theirs, used.paired, self.measurements.settings, scale, note=note)


class Held(NamedTuple):
    """Values of runs and layers without a gap.

    Attributes
    ----------
    values : ndarray of float64, shape (runs, layers)
    runs : list of str
    places : list of int
        Of the layers among all.
    note : str
        What was left out, in words.
    recorded : frozenset of str
        Runs that hold any value.
    """

    values: Floats
    runs: list[str]
    places: list[int]
    note: str
    recorded: frozenset[str] = frozenset()

    @property
    def centred(self) -> Floats:
        """Places, centred: a slope over them is then a plain product."""
        place = np.array(self.places, dtype=np.float64)
        return np.asarray(place - place.mean())


def _held_by_most(
    table: Floats, runs: Sequence[str], sides: Collection[Collection[str]], labels: Sequence[str]
) -> Held:
    """Return runs and layers without a gap, and in words what was left out.

    A mean or a slope over other layers is another quantity: a run that lacks a layer which at least half of the runs of
    every side hold is left out, and so is a layer that fewer hold.
    """
    finite: NDArray[np.bool_] = np.isfinite(table)
    # a run that has nothing is missed by the measure as a whole, not by its layers
    some_of = np.asarray(finite.any(axis=1))
    parts = [finite[[i for i, run in enumerate(runs) if run in side and some_of[i]]] for side in map(set, sides)]
    most: NDArray[np.bool_] = np.ones(table.shape[1], np.bool_)
    for part in filter(len, parts):
        most &= part.mean(axis=0) >= 0.5
    kept = np.asarray(finite[:, most].all(axis=1)) & some_of
    lacking = [run for i, run in enumerate(runs) if some_of[i] and not kept[i]]
    lost, never = ([labels[i] for i in np.flatnonzero(~most & where).tolist()]
                   for where in (finite.any(axis=0), ~finite.any(axis=0)))  # fmt: skip
    said = [f"{some(lacking)} left out of what is taken over layers, for a layer is missing there" if lacking else "",
            f"without {some(lost)}, which most runs lack" if lost else "",
            f"without {some(never)}, of which there is nothing to compare" if never else ""]  # fmt: skip
    known = [run for i, run in enumerate(runs) if kept[i]]
    recorded = frozenset(run for i, run in enumerate(runs) if some_of[i])
    return Held(table[kept][:, most], known, np.flatnonzero(most).tolist(), ", ".join(filter(None, said)), recorded)
