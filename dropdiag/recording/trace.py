"""What the forward passes of a recorded model run, in which order."""

from __future__ import annotations

from dropdiag.model.order import ExecutionOrder, Place


class ForwardTrace:
    """Keeps the sequence of the current forward pass, and the order that all passes agree on.

    Attributes
    ----------
    on : bool
        Whether a forward pass is under way whose sequence is wanted.
    order : ExecutionOrder
    """

    def __init__(self) -> None:
        self.on = False
        self.order = ExecutionOrder()
        self._sequence: list[Place] = []

    def begin(self, *, wanted: bool) -> None:
        """Start a forward pass of the attached model; one that did not report its end is over."""
        self.end()
        self.on = wanted

    def note(self, layer: str, call: int) -> None:
        """Note that a site is passed, whatever its kind; nothing is noted outside of forward passes of the model."""
        if self.on:
            self._sequence.append((layer, call))

    def end(self) -> None:
        """End the forward pass. May be called again."""
        self.on = False
        if self._sequence:
            self.order.add(self._sequence)
            self._sequence = []
