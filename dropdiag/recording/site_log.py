"""The sites of a recorded model and how often each was recorded: the source of the coverage table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from torch import nn

from dropdiag.model.made_weights import made_of
from dropdiag.model.order import Place
from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, Site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.masks.reader import MaskReader
from dropdiag.recording.notices import Notice
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.records import Record
from dropdiag.store.coverage import Coverage, CoverageRow

ELSEWHERE: Final = "recorded by another rank, which holds the same"
PART: Final = "a part of it on each rank"


class SiteLog:
    """Every site, how often it was recorded, and whether its values were sampled.

    Parameters
    ----------
    sites : sequence of Site
        What the survey found; functional calls are added as they are seen.
    functional : FunctionalCalls
    router : PassRouter
    masks : MaskReader

    Attributes
    ----------
    readings : Counter
        How often each weight was read, by layer.
    words : dict
        What else is to be said of a layer.
    sharded : set of str
        Layers of which this rank records a part that no other one holds.
    """

    def __init__(
        self, sites: Sequence[Site], functional: FunctionalCalls, router: PassRouter, masks: MaskReader
    ) -> None:
        self.sites = list(sites)
        self._gone: list[Site] = []
        self._functional, self._router, self._masks = functional, router, masks
        self.readings: Counter[str] = Counter()
        self.words: dict[str, str] = {}
        self.sharded: set[str] = set()
        self._told_sharded = 0
        self._strides: dict[str, int] = {}
        self._groups: list[list[Place]] = []

    def add_functional(self) -> list[SiteInfo]:
        """Add the functional calls that were seen for the first time, and return them."""
        new, self._functional.new = self._functional.new, []
        self.sites += [info.site for info in new]
        return new

    def order_changed(self) -> bool:
        """Whether passes have shown another order of sites than that of the last `order`, or more that are sharded."""
        return self._router.trace.order.groups() is not self._groups or len(self.sharded) > self._told_sharded

    def order(self) -> list[list[list[Any]]]:
        """Return the order of execution as it stands in ``run.json``: groups of (layer, call), first to last."""
        self._groups, self._told_sharded = self._router.trace.order.groups(), len(self.sharded)
        return [[list(place) for place in group] for group in self._groups]

    def describe(self) -> list[dict[str, Any]]:
        """Return the sites as rows of ``run.json``, in order of execution as far as that is known."""
        return [self._described(site) for site in self._in_order([*self.sites, *self._gone])]

    def _described(self, site: Site) -> dict[str, Any]:
        calls = self._functional.formerly.get(site.layer) if site.functional else None
        # By call index. One that was counted and never recorded has no earlier name: it has a null in its place.
        before = None if not calls else [calls.get(number) for number in range(max(calls) + 1)]
        place = self._masks.places.of(site.layer) if site.kind == DROPOUT else {}
        part = {"sharded": True} if site.layer in self.sharded else {}
        return (
            site.describe() | place | part | ({} if before is None else {"formerly": [p and list(p) for p in before]})
        )

    def _in_order(self, sites: Iterable[Site]) -> list[Site]:
        groups = self._router.trace.order.groups()
        rank = {layer: number for number, group in enumerate(groups) for layer, call in group if call == 0}
        return sorted(sites, key=lambda site: rank.get(site.layer, len(groups)))

    def note_samples(self, records: Iterable[Record]) -> None:
        """Note which layers' histograms count a sample of the values."""
        for layer, _, quantity, value, _ in records:
            if type(value) is float and layer is not None and quantity.endswith("_stride"):
                self._strides[layer] = max(self._strides.get(layer, 1), int(value))

    @property
    def _called(self) -> set[str]:
        """Layers of sites that are calls of functions."""
        return {*self._functional.sites, *self._functional.masks.sites}

    @property
    def surveyed(self) -> list[Site]:
        """The sites of modules and parameters, as they are now."""
        called = self._called
        return [site for site in self.sites if site.layer not in called]

    def exchange(self, now: Sequence[Site], gone: Sequence[Site], step: int) -> None:
        """Take these for the sites of modules and parameters; those that are gone stay in the table."""
        functions = self._called
        self.sites = [*now, *(site for site in self.sites if site.layer in functions)]
        reason = f"no longer part of the model, found at step {step}; recorded until then"
        names = {(site.layer, site.kind) for site in self.sites}
        left = [*self._gone, *(replace(site, skipped=site.skipped or reason) for site in gone)]
        self._gone = [site for site in left if (site.layer, site.kind) not in names]  # a name may come back

    def silent(self) -> list[str]:
        """Return the layers that should be recorded and that no recorded pass went through."""
        passed = {layer for layer, _ in self._router.passes}
        expected = [s.layer for s in self.sites if s.kind in (ACTIVATION, OUTPUT) and s.skipped is None]
        return [layer for layer in expected if layer not in passed]

    def coverage(self) -> Coverage:
        """Return the table of all sites."""
        idle = [s.layer for s in self.sites if s.kind == DROPOUT and s.skipped is None and self._masks.at_rate_0(s)]
        counted = set(idle) if len(idle) > 1 else set()
        listed = [site for site in self.sites if site.kind != DROPOUT or site.layer not in counted] + self._gone
        if counted:
            listed.append(_together(idle, self._functional.model))
        if Notice.COMPILED in self._router.notices:
            model, reason = self._functional.model, Notice.COMPILED.value
            listed.append(Site("(compiled)", ACTIVATION, model, functional=True, skipped=reason))
        calls: defaultdict[str, list[int]] = defaultdict(list)
        for layer, call in sorted(self._router.passes):
            calls[layer].append(call)
        found = self._in_order(listed)
        return Coverage([row for site in found for row in self._rows(site, calls.get(site.layer, [0]))])

    def _rows(self, site: Site, calls: list[int]) -> Iterator[CoverageRow]:
        refused = self._router.refused(site.layer)
        for call in [0] if site.kind == WEIGHT else calls:
            fired = self.readings[site.layer] if site.kind == WEIGHT else self._router.passes[site.layer, call]
            late = site.skipped == LAZY and fired > 0  # a lazy module that has values by now
            skipped = None if late else site.skipped or self._why_not_dropped(site)
            elsewhere = ELSEWHERE if self.words.get(site.layer) == ELSEWHERE else None
            skipped = skipped or (None if fired else elsewhere or refused or _why_silent(site))
            yield CoverageRow(
                layer=site.layer,
                call=call,
                kind=site.kind,
                type=type(site.module).__name__,
                functional=site.functional,
                expected=late or (site.skipped is None and self._why_not_dropped(site) is None),
                fired=fired,
                sampled=None if skipped and not fired else self._words(site, refused),
                skipped=skipped,
                nodes=None if site.kind == WEIGHT else self._router.axes.words(site, call),
                dropout=None if site.dropout is None else self._masks.words(site, call),
                chain=None if site.kind == WEIGHT else self._router.chain.log.words(site.layer, call),
            )

    def _why_not_dropped(self, site: Site) -> str | None:
        if site.kind != DROPOUT or site.skipped is not None:
            return None
        if not self._masks.wanted:
            return "no probe of dropouts is recorded"
        return "rate 0: it drops nothing" if self._masks.at_rate_0(site) else None

    def _words(self, site: Site, refused: str | None) -> str | None:
        """Return what is to be said of the values that were recorded."""
        layer, stride = site.layer, self._strides.get(site.layer)
        made = site.kind == WEIGHT
        words = [
            None if stride is None else f"1 in {stride} values",
            made_of(site.module, site.parameter) if made else self._router.padding.word(layer, self._router.passes),
            self.words.get(layer),
            PART if layer in self.sharded else None,
            refused,
        ]
        return "; ".join(word for word in words if word) or None


def _together(layers: Sequence[str], model: nn.Module) -> Site:
    """Return one site in the place of dropouts that drop nothing."""
    shown = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    return Site(f"{len(layers)} dropouts", DROPOUT, model, skipped=f"rate 0: they drop nothing ({shown})")


def _why_silent(site: Site) -> str:
    if site.kind == WEIGHT:
        return "never read: it has no values yet, or no step was on the schedule"
    return "no recorded forward pass went through it"
