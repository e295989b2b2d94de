"""What the masks of dropouts did in training steps."""

from __future__ import annotations

from collections.abc import Iterable

from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.sketches.dropout import DropoutSketch
from dropdiag.store.schema import quantities as own


class Dropouts(Probe[DropoutSketch]):
    """Rate of every dropout site, the share that its masks replaced, and the noise that they are beside the signal.

    ``dropout_rate`` is the nominal rate of the step. ``dropped_share`` is counted over units of the dropout's grain,
    among those that were not equal to the replacement before: a ReLU's zeros do not count as dropped, so it is the rate
    within chance: over n units, within ``sqrt(p (1 - p) / n)``. ``dropout_noise_to_signal`` is, for each node, the
    variance over masks beside the variance over data, ``p / (1 - p) mean((h - r)^2) / Var(h)`` with h the value before
    the mask and r what it is replaced by (0, or alpha dropout's constant), averaged over the nodes that vary. It is of
    the batch at hand: after a ReLU, nodes that are nearly constant over few samples raise it.
    """

    name = "dropouts"
    signal = Signal.DROPOUT
    quantities = own("dropout_rate", "dropped_share", "dropout_noise_to_signal")

    def sketch(self, info: SiteInfo) -> DropoutSketch:
        """Open a sketch at every dropout."""
        return DropoutSketch()

    def values(self, sketch: DropoutSketch) -> Iterable[tuple[str, ProbeValue]]:
        """Return the rate, and the other two where masks were seen."""
        rate = ("dropout_rate", Counted(sketch.rate, sketch.passes))
        if not sketch.seen:
            return [rate]
        share = ("dropped_share", Counted(sketch.share, sketch.counted or 0.0))
        return [rate, share, ("dropout_noise_to_signal", sketch.noise_to_signal)]

    def states(self, sketch: DropoutSketch) -> Iterable[tuple[str, State]]:
        """Return mean, M2 and noise of the nodes, where the noise has a form."""
        if sketch.noise is not None and sketch.noise.n:
            n, values = sketch.noise.n, sketch.noise.as_state()
            yield "dropout_noise_to_signal", State(n, values.numel() // 3, values)
