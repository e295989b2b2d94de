"""Norms of health: nodes that pass no gradient on, and how far weights move."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.sketches.always_inside import AlwaysInside
from dropdiag.sketches.change import ChangeNorm
from dropdiag.store.schema import quantities as own


class DeadNodes(Probe[AlwaysInside]):
    """Share of nodes that pass no gradient on, and of those that are always saturated, over all samples of a phase.

    A node is dead where phi'(z) = 0 for every sample: its output is constant (ReLU: z <= 0). It is always saturated
    where every net value lies in the saturation area, on whichever side. For GAAF, phi is the base function. Missing
    where there is no area (PReLU), and where net values that are not finite leave a node undecided.
    """

    name = "dead_nodes"
    signal = Signal.NET_VALUE
    quantities = own("dead_share", "always_saturated_share")
    on_eval = True

    def sketch(self, info: SiteInfo) -> AlwaysInside | None:
        """Open codes of nodes where the activation's derivative is known."""
        phi = info.activation
        if phi is None:
            return None
        return AlwaysInside([phi.flat, [*phi.left, *phi.right]], phi.known, info.site.node_axis)

    def values(self, sketch: AlwaysInside) -> Iterable[tuple[str, ProbeValue]]:
        """Return the two shares."""
        names = (quantity.name for quantity in self.quantities)
        if not sketch.seen:
            return [(name, Counted(None, 0.0)) for name in names]
        return [(name, Counted(share, float(sketch.seen))) for name, share in zip(names, sketch.shares(), strict=True)]

    def states(self, sketch: AlwaysInside) -> Iterable[tuple[str, State]]:
        """Return what is known of each node, where there are samples."""
        if sketch.codes is not None:
            yield "dead_share", State(sketch.seen, sketch.codes.shape[1], sketch.as_state())


class _Moved(Probe[ChangeNorm]):
    def sketch(self, info: SiteInfo) -> ChangeNorm:
        """Open norms at every weight."""
        return ChangeNorm()

    def values(self, sketch: ChangeNorm) -> Iterable[tuple[str, ProbeValue]]:
        """Return the ratio; None where what the weight was is not known, or it was 0."""
        (quantity,) = self.quantities
        return [(quantity.name, Counted(sketch.ratio(), float(sketch.n)))]

    def states(self, sketch: ChangeNorm) -> Iterable[tuple[str, State]]:
        """Return both sums of squares, where there are values."""
        if sketch.squares is not None and sketch.n:
            yield self.quantities[0].name, State(sketch.n, 1, sketch.squares)


class UpdateToWeight(_Moved):
    """Size of a step's update of each weight, |w_t - w_(t-1)| / |w_(t-1)|, at scheduled steps.

    It is what the weight did from one ``step()`` of the Recorder to the next, whatever made it: momentum, clipping and
    weight decay are in it. A step that the loss scaler skipped has 0. During a scheduled step the recorded weights are
    held once more, where they are.
    """

    name = "update_to_weight"
    signal = Signal.WEIGHT_STEP
    quantities = own("update_to_weight")


class DistanceFromStart(_Moved):
    """Distance of each weight from what it was at step 0, |w_t - w_0| / |w_0|, at scheduled steps and the last.

    The recorded weights of step 0 are held for all of the training, where they are. A run that is resumed does not have
    them: it is missing there.
    """

    name = "distance_from_start"
    signal = Signal.WEIGHT_FROM_START
    quantities = own("distance_from_start")
