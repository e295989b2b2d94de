"""Reads the gradients of net values when they come, each as the one of the step's loss or not at all."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dropdiag.probes.base import Signal
from dropdiag.recording.backward import BackwardPasses, backward_number
from dropdiag.recording.calls import Call
from dropdiag.recording.chain.chain import Chain
from dropdiag.recording.chain.readings import Reading
from dropdiag.recording.collector import Collector, Opened
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.notices import Notice
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.parts import is_spread
from dropdiag.recording.ranks.passes import RankedPasses
from dropdiag.recording.views import Part, watched
from dropdiag.sketches.native import PLAIN


class NetGradients:
    """Watches net values for their gradients.

    Parameters
    ----------
    train : Collector
        For training steps.
    loss_scale : LossScale
        What gradients are divided by.
    overhead : Overhead
        What hooks add their time to.
    backward : BackwardPasses
        Tells which backward passes train.
    chain : Chain
        Is told of each gradient, too; it learns here which of them are of the step's loss.
    ranks : RankedPasses
    notices : set of Notice
        What gradients show is added.
    """

    def __init__(
        self,
        train: Collector,
        loss_scale: LossScale,
        overhead: Overhead,
        *,
        backward: BackwardPasses,
        chain: Chain,
        ranks: RankedPasses,
        notices: set[Notice],
    ) -> None:
        self._train, self._loss_scale, self.overhead = train, loss_scale, overhead
        self.backward, self.chain, self.ranks, self._notices = backward, chain, ranks, notices
        self.scaled = loss_scale.active
        self._leaves: list[RemovableHandle] = []
        chain.takes, chain.trains = self.takes, self.trains
        self.on_failure: Callable[[Exception], object] = bool

    def release(self) -> None:
        """Take hooks off parameters, and keep no node of the graph."""
        self.backward.node = None
        while self._leaves:
            self._leaves.pop().remove()

    def watch(self, call: Call, z: Tensor, *, inplace: bool = False) -> None:
        """Take in dL/dz of a call's net value when it comes.

        Parameters
        ----------
        call : Call
        z : Tensor
        inplace : bool
            Whether the activation is about to overwrite z.
        """
        opened = self.expect(call)
        if opened is None or not z.requires_grad:
            return
        if self.backward.node is None:
            self.backward.see(z)
        if inplace and type(z) not in PLAIN:
            self._notices.add(Notice.SPREAD_IN_PLACE)
            return
        tensor, part = (z, None) if not inplace else watched(z)
        if tensor is None:
            return  # its gradient is missing
        # A view that is overwritten has no place of its own in the graph.
        reading = self.chain.net(call, z) if Signal.CHAIN in self._train.active and part is None else None
        hook = _Hook(self, call, part, opened, reading)
        node = tensor.grad_fn if type(tensor) in PLAIN else None
        if node is None:
            handle = tensor.register_hook(hook.of_one)  # type: ignore[no-untyped-call]
            if tensor.is_leaf:  # parameters outlive the step, other tensors take their hooks with them
                self._leaves.append(handle)
        else:
            # On the node that makes the tensor, which gets what a hook on the tensor would, in a third of the time.
            hook.number = tensor.output_nr
            node.register_prehook(hook)

    def expect(self, call: Call) -> list[Opened] | None:
        """Return the sketches for dL/dz of a call, which stay empty until it comes; None where no probe wants it."""
        train = self._train
        if call.collector is not train or not (Signal.NET_GRAD in train.active or self.ranks.reduced.asks):
            return None
        return train.open(Signal.NET_GRAD, call.info, call.number)

    def trains(self) -> bool:
        """Whether the backward pass that runs right now trains."""
        passes, number = self.backward, backward_number()
        if number != passes.number:
            passes.change_to(number)
            if number != -1:
                self.ranks.reduced.backward_begins()
        return passes.trains

    def takes(self, call: Call) -> bool:
        """Whether the gradient that comes for a call right now is the one of the step's loss."""
        if not (self.trains() or call.recomputed):
            return False
        number = backward_number()
        if call.backward is None:
            call.backward = number
            return True
        if number == call.backward != -1:
            return True
        self.spoil(call)
        return False

    def spoil(self, call: Call) -> None:
        """Give up the gradient of a call that a second loss was propagated through."""
        # The mean size of a sum does not follow from those of its terms, and keeping the terms is keeping activations.
        # A forward pass of an earlier step has had its gradient then, and takes no part in this one.
        if call.period == call.collector.period:
            self._notices.add(Notice.SEVERAL_BACKWARDS)
            for signal in (Signal.NET_GRAD, Signal.CHAIN):
                call.collector.spoil(signal, call.info, call.number)

    def take(self, call: Call, gradient: Tensor) -> None:
        """Take in dL/dz of a call."""
        if call.collector.wants(Signal.NET_GRAD):
            if call.divisor is None:
                self._notices.add(Notice.JOINED_UNEVENLY)
                call.collector.spoil(Signal.NET_GRAD, call.info, call.number)
                return
            if call.mask is not None:
                gradient = call.unpadded(gradient)
            if self.scaled:
                gradient = self._loss_scale.unscaled(gradient)
            if call.divisor != 1.0 and type(gradient) in PLAIN:
                gradient = gradient.detach() / call.divisor
            call.collector.feed(Signal.NET_GRAD, call.info, call.number, gradient)


class _Hook:
    """Hook on a net value: its gradient is dL/dz of a call."""

    __slots__ = ("call", "number", "opened", "owner", "part", "reading")

    def __init__(
        self, owner: NetGradients, call: Call, part: Part | None, opened: list[Opened], reading: Reading | None
    ) -> None:
        self.owner, self.call, self.part, self.opened, self.reading = owner, call, part, opened, reading
        self.number = 0

    def __call__(self, gradients: tuple[Tensor | None, ...]) -> None:
        """Take in the gradients of what a node makes: ours is one of them."""
        gradient = gradients[self.number]
        try:
            if gradient is not None:
                self._take(gradient)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self.owner.on_failure(error)

    def of_one(self, gradient: Tensor) -> None:
        """Take in the gradient of the one tensor that it was put on."""
        self((gradient,))

    def _take(self, gradient: Tensor) -> None:
        begun = clock()
        owner, call = self.owner, self.call
        passes = owner.backward
        if call.backward is None and passes.trains and passes.number == backward_number():  # as in most hooks
            call.backward = passes.number
            taken = True
        else:
            taken = owner.takes(call)
        if taken:
            if self.reading is not None:
                owner.chain.arrive(self.reading, gradient)
            if type(gradient) not in PLAIN and is_spread(gradient):
                held = owner.ranks.held_gradient(call, gradient)
                if held is None:
                    return
                gradient = held
            whole = self.part is None and call.info.site.gate_dim is None
            if not whole and type(gradient) in PLAIN:  # nothing of ours runs on a subclass, which the collector refuses
                gradient = self._own(gradient)
            plain = call.mask is None and not owner.scaled and call.divisor == 1.0
            if plain and call.collector.period == call.period:
                call.collector.update(self.opened, call.info, gradient)  # the sketches are known: no look-up
            else:  # its step is over, or it is not to be taken as it is
                owner.take(call, gradient)
        owner.overhead.spent += clock() - begun

    def _own(self, gradient: Tensor) -> Tensor:
        """Return the part of a gradient that is the net value's."""
        if self.part is not None:
            gradient = self.part(gradient.detach())
        return gradient if self.call.info.site.gate_dim is None else self.call.info.site.net(gradient.detach())
