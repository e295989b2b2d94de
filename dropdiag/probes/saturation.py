"""The share of net values in the saturation area."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.sketches import IntervalCounts
from dropdiag.store.schema import quantities as own


class Saturation(Probe[IntervalCounts]):
    """Exact share of net values where |phi'(z)| <= 0.1 sup|phi'|, left and right apart.

    Of the finite net values; missing where none is. For GAAF, phi is the base function. Shares for other limits
    follow from the histogram of net values, to within the bins at the borders.
    """

    name = "saturation"
    tap = Tap.NET_VALUE
    quantities = own("saturation_share_left", "saturation_share_right")
    on_eval = True

    def sketch(self, place: Place) -> IntervalCounts | None:
        """Open counts where the activation's derivative is known."""
        if place.activation is None:
            return None
        return IntervalCounts([place.activation.left, place.activation.right])

    def values(self, sketch: IntervalCounts) -> Iterable[tuple[str, Value]]:
        """Return the two shares."""
        left, right = sketch.shares()
        return [("saturation_share_left", left), ("saturation_share_right", right)]
