"""The share of net values in the saturation area."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo
from dropdiag.sketches.intervals import IntervalCounts
from dropdiag.store.schema import quantities as own


class Saturation(Probe[IntervalCounts]):
    """Exact share of net values where |phi'(z)| <= 0.1 sup|phi'|, left and right apart.

    Missing where there is no net value, or one that is not finite, or one so far out that the area is not known there
    (of a function that oscillates). For GAAF, phi is the base function. Shares for other limits follow from the
    histogram of net values, to within the bins at the borders.
    """

    name = "saturation"
    signal = Signal.NET_VALUE
    quantities = own("saturation_share_left", "saturation_share_right")
    on_eval = True

    def sketch(self, info: SiteInfo) -> IntervalCounts | None:
        """Open counts where the activation's derivative is known."""
        if info.activation is None:  # learned (PReLU), or zero everywhere: there is no area to count in
            return None
        return IntervalCounts([info.activation.left, info.activation.right], info.activation.known)

    def values(self, sketch: IntervalCounts) -> Iterable[tuple[str, ProbeValue]]:
        """Return the two shares."""
        left, right = (Counted(share if sketch.seen else None, sketch.seen) for share in sketch.shares())
        return [("saturation_share_left", left), ("saturation_share_right", right)]
