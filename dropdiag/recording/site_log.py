"""The sites of a recorded model and how often each was recorded: the source of the coverage table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, Site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.masks import MaskReader
from dropdiag.recording.notices import Notice
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.records import Record
from dropdiag.store.coverage import Coverage, CoverageRow


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
    """

    def __init__(
        self, sites: Sequence[Site], functional: FunctionalCalls, router: PassRouter, masks: MaskReader
    ) -> None:
        self.sites = list(sites)
        self._functional, self._router, self._masks = functional, router, masks
        self.readings: Counter[str] = Counter()
        self._strides: dict[str, int] = {}

    def add_functional(self) -> list[SiteInfo]:
        """Add the functional calls that were seen for the first time, and return them."""
        new, self._functional.new = self._functional.new, []
        self.sites += [info.site for info in new]
        return new

    def note_samples(self, records: Iterable[Record]) -> None:
        """Note which layers' histograms count a sample of the values."""
        for layer, _, quantity, value in records:
            if layer is not None and quantity.endswith("_stride") and isinstance(value, float):
                self._strides[layer] = max(self._strides.get(layer, 1), int(value))

    def replaced(self) -> list[str]:
        """Return the layers whose module is no longer the one that is recorded."""
        now = dict(self._functional.model.named_modules())
        watched = [s for s in self.sites if not s.functional and s.skipped is None]
        return [site.layer for site in watched if now.get(site.path) is not site.module]

    def silent(self) -> list[str]:
        """Return the layers that should be recorded and that no recorded pass went through."""
        passed = {layer for layer, _ in self._router.passes}
        expected = [s.layer for s in self.sites if s.kind in (ACTIVATION, OUTPUT) and s.skipped is None]
        return [layer for layer in expected if layer not in passed]

    def coverage(self) -> Coverage:
        """Return the table of all sites."""
        idle = [s.layer for s in self.sites if s.kind == DROPOUT and s.skipped is None and self._masks.at_rate_0(s)]
        counted = set(idle) if len(idle) > 1 else set()
        listed = [site for site in self.sites if site.kind != DROPOUT or site.layer not in counted]
        if counted:
            listed.append(_together(idle, self._functional.model))
        if Notice.COMPILED in self._router.notices:
            model, reason = self._functional.model, Notice.COMPILED.value
            listed.append(Site("(compiled)", ACTIVATION, model, functional=True, skipped=reason))
        return Coverage([row for site in listed for row in self._rows(site)])

    def _rows(self, site: Site) -> Iterator[CoverageRow]:
        calls = sorted(call for layer, call in self._router.passes if layer == site.layer) or [0]
        stride = self._strides.get(site.layer)
        for call in [0] if site.kind == WEIGHT else calls:
            fired = self.readings[site.layer] if site.kind == WEIGHT else self._router.passes[site.layer, call]
            late = site.skipped == LAZY and fired > 0  # a lazy module that has values by now
            skipped = None if late else site.skipped or self._why_not_dropped(site)
            skipped = skipped or (None if fired else _why_silent(site))
            yield CoverageRow(
                layer=site.layer,
                call=call,
                kind=site.kind,
                type=type(site.module).__name__,
                functional=site.functional,
                expected=late or (site.skipped is None and self._why_not_dropped(site) is None),
                fired=0 if skipped else fired,
                sampled=None if stride is None else f"1 in {stride} values",
                skipped=skipped,
                dropout=None if site.dropout is None else self._masks.words(site, call),
            )

    def _why_not_dropped(self, site: Site) -> str | None:
        if site.kind != DROPOUT or site.skipped is not None:
            return None
        if not self._masks.wanted:
            return "no probe of dropouts is recorded"
        return "rate 0: it drops nothing" if self._masks.at_rate_0(site) else None


def _together(layers: Sequence[str], model: nn.Module) -> Site:
    """Return one site in the place of dropouts that drop nothing."""
    shown = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    return Site(f"{len(layers)} dropouts", DROPOUT, model, skipped=f"rate 0: they drop nothing ({shown})")


def _why_silent(site: Site) -> str:
    if site.kind == WEIGHT:
        return "never read: it has no values yet, or no step was on the schedule"
    return "no recorded forward pass went through it"
