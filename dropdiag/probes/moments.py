"""Exact moments of weights and net values."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.sketches.moments import NUMBERS, Moments
from dropdiag.store.schema import quantities as own


class _MomentsProbe(Probe[Moments]):
    def sketch(self, info: SiteInfo) -> Moments:
        """Open moments at every site."""
        # Of all values, where a histogram takes a sample: the extremes of a sample are not those of the whole.
        return Moments()

    def values(self, sketch: Moments) -> Iterable[tuple[str, ProbeValue]]:
        """Return mean, standard deviation, excess kurtosis, mean absolute value, minimum and maximum."""
        return [(f"{self.signal.value}_{name}", number) for name, number in sketch.numbers().items()]

    def states(self, sketch: Moments) -> Iterable[tuple[str, State]]:
        """Return mean, M2, M3, M4, mean |x|, minimum and maximum, where there are values."""
        if sketch.state is not None:
            yield f"{self.signal.value}_moments", State(sketch.n, 1, sketch.state)


class WeightMoments(_MomentsProbe):
    """Moments of each weight matrix."""

    name = "weight_moments"
    signal = Signal.WEIGHT
    quantities = own(*(f"weight_{name}" for name in NUMBERS))


class NetValueMoments(_MomentsProbe):
    """Moments of the net values."""

    name = "net_value_moments"
    signal = Signal.NET_VALUE
    quantities = own(*(f"net_value_{name}" for name in NUMBERS))
    on_eval = True
