"""Follows the chain of a network's tensors through its forward passes, and reads their gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.model.names import named_modules, weight_layer
from dropdiag.probes.base import Signal
from dropdiag.recording.calls import Call
from dropdiag.recording.chain import words
from dropdiag.recording.chain.graph import LIMIT, Edge, Way, edge_of, follow, steps_down, visit, way
from dropdiag.recording.chain.joints import (
    CHANGED,
    JointReading,
    Known,
    NodeHook,
    StepHook,
    StraightReading,
    judge,
    mean_of,
)
from dropdiag.recording.chain.log import ChainLog, Key
from dropdiag.recording.chain.outputs import NAME, given
from dropdiag.recording.chain.readings import Path, Reading, as_read
from dropdiag.recording.collector import Collector
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.sketches.chain import NET, OUTPUT, Branch, ChainGradient, Unknown
from dropdiag.sketches.moments import AbsMean
from dropdiag.sketches.native import PLAIN

TOO_FAR: Final = f"more than {LIMIT:,} operations lie between it and the next tensor that is read"
NOT_FOLLOWED: Final = "it is run outside of the model's own forward pass, or again inside a backward pass"
COMPILED: Final = "inside torch.compile no gradients but those of net values are read"
CAME_OTHERWISE: Final = "in some steps no gradient came to it by the chain"
NO_OUTPUT: Final = (
    "the network gives no floating tensor that takes a gradient, nor a loss of one softmax's input that is found"
)


class Chain:
    """The tensors of the chain, as hooks hand them over in order of execution.

    A reading is linked to the first one after it that it leads to. Outputs come last, and are linked among each other
    where one leads to another; a reading that leads to several outputs is linked to the first that gets a gradient.

    Parameters
    ----------
    model : nn.Module
    train : Collector
    loss_scale : LossScale
    overhead : Overhead

    Attributes
    ----------
    log : ChainLog
    takes : callable
        Whether the gradient that comes for a call right now is the one of the step's loss.
    trains : callable
        Whether the backward pass that runs right now trains.
    on_failure : callable
        Called with the exception where what a hook does fails.
    inside : bool
        Whether a forward pass is under way whose tensors are read.
    """

    def __init__(self, model: nn.Module, train: Collector, loss_scale: LossScale, overhead: Overhead) -> None:
        self._model, self._train, self._loss_scale, self._overhead = model, train, loss_scale, overhead
        self.log = ChainLog()
        self.takes: Callable[[Call], bool] = bool
        self.trains: Callable[[], bool] = bool
        self.on_failure: Callable[[Exception], object] = bool
        self._known: Known = {}
        self._between: dict[tuple[Key, Key], str] = {}
        self._straight: dict[tuple[Key, Key], list[tuple[Any, int]]] = {}
        self._layers: dict[int, str] | None = None
        self.inside = False
        self._before: Key | None = None
        self._readings: set[Edge] = set()
        self._open: dict[Edge, Reading] = {}
        self._hooks: dict[Edge, TensorHook] = {}

    # The forward pass ----------------------------------------------------------------------------------------------

    def forward_begins(self) -> None:
        """Forget a pass that did not report its end."""
        self._forget()
        self._layers = None
        self.inside = self._train.wants(Signal.CHAIN)

    def compiled_forward_begins(self) -> None:
        """Note that a compiled pass, which leaves no graph of its own, is not followed."""
        self._forget()
        if self._train.wants(Signal.CHAIN):
            self.log.passes((OUTPUT, NAME, 0), None)
            self.log.fails((OUTPUT, NAME, 0), COMPILED)

    def forward_ends(self) -> None:
        """Let go of the graph."""
        for reading in self._open.values():
            if reading.kind != OUTPUT and not reading.paths:
                self.log.ends(reading.key)
        self._forget()

    def _forget(self) -> None:
        self.inside = False
        self._before = None
        self._readings.clear()
        self._open.clear()
        self._hooks.clear()

    def wants(self, call: Call) -> bool:
        """Whether the tensors of a call are read."""
        return call.collector is self._train and self._train.wants(Signal.CHAIN)

    def net(self, call: Call, z: Tensor) -> Reading | None:
        """Take in what enters an activation; return what its gradient is to be told to, by `arrive`."""
        edge = edge_of(z) if type(z) in PLAIN else None
        if edge is None:
            return None
        reading = Reading(call, NET, self._train.open(Signal.CHAIN, call.info, call.number))
        self._enter(reading, edge)
        return reading

    def take(self, call: Call, kind: str, tensor: Tensor) -> None:
        """Take in a tensor of the chain whose gradient is read by a hook of its own."""
        if type(tensor) not in PLAIN or not tensor.is_floating_point():
            return
        edge = edge_of(tensor)
        if edge is None:
            return
        reading = Reading(call, kind, self._train.open(Signal.CHAIN, call.info, call.number))
        hook = self._hooks.get(edge)
        self._enter(reading, edge)
        if hook is not None:  # it is read already, under another name
            hook.readings.append(reading)
            return
        hook = self._hooks[edge] = TensorHook(self, reading, edge[1])
        edge[0].register_prehook(hook)

    def end(self, output: object, call_of: Callable[[str], Call], readable: Callable[[Tensor], bool]) -> None:
        """Take in what the network gives.

        Parameters
        ----------
        output : object
        call_of : callable
            Makes the call of an output of this name.
        readable : callable
            Whether a tensor's values can be read.
        """
        if not self.inside:
            return
        found = given(output, readable)
        for layer, edge in found:
            call = call_of(layer)
            reading = Reading(call, OUTPUT, self._train.open(Signal.CHAIN, call.info, call.number))
            self._enter(reading, edge)
            edge[0].register_prehook(TensorHook(self, reading, edge[1]))
        if not found and self._open:
            self.log.passes((OUTPUT, NAME, 0), self._before)
            self.log.fails((OUTPUT, NAME, 0), NO_OUTPUT)

    def _enter(self, reading: Reading, edge: Edge) -> None:
        self.log.passes(reading.key, self._before)
        if not self.inside:
            self.log.fails(reading.key, NOT_FOLLOWED)
            return
        self._before = reading.key
        self._link(reading, edge, closes=reading.kind != OUTPUT)
        self._readings.add(edge)
        self._open[edge] = reading

    def _link(self, upper: Reading, edge: Edge, *, closes: bool) -> None:
        """Link a tensor to those below that lead to it and are linked to none yet."""
        lower = self._open.get(edge)
        if lower is not None:
            self._leads(lower, upper, Path(upper, []), "")
        elif len(self._open) == 1 and self._goes_straight(upper, edge):
            if closes:
                self._open.clear()
        elif self._open:
            visited = visit(edge, self._open, self._readings)
            if visited is None:
                for lower in self._open.values():
                    self.log.fails(lower.key, TOO_FAR)
                return
            for below, lower in list(self._open.items()):
                found = way(visited, edge, below, self._readings)
                if found is not None:
                    self._join(lower, upper, found)
                    if closes:
                        del self._open[below]

    def _goes_straight(self, upper: Reading, edge: Edge) -> bool:
        """Link a tensor to the only one that is linked to none, where it is known how to get there."""
        below, lower = next(iter(self._open.items()))
        steps = self._straight.get((lower.key, upper.key))
        nodes = None if steps is None else follow(edge, steps, below)
        if steps is None or nodes is None:
            return False
        straight = StraightReading(len(nodes))
        for at, ((node, number), (_, position)) in enumerate(zip(nodes, steps, strict=True)):
            hook = StepHook(
                straight, number if at else -1, position, self.trains, self._overhead, on_failure=self.on_failure
            )
            node.register_hook(hook)
        self._leads(lower, upper, Path(upper, [], straight), None)
        return True

    def _leads(self, lower: Reading, upper: Reading, path: Path, between: str | None) -> None:
        """Note that one tensor leads to another, by what (None: that is known)."""
        lower.paths.append(path)
        if between is not None:
            self._between[lower.key, upper.key] = between
        if upper.kind != OUTPUT:  # of several outputs it is the first one that gets a gradient
            self._note(lower, path)

    def _note(self, lower: Reading, path: Path) -> None:
        upper = path.upper.key
        if not self.log.knows(lower.key, upper):
            self.log.leads(lower.key, upper, self._between[lower.key, upper], same=path.is_one)

    def _join(self, lower: Reading, upper: Reading, found: Way) -> None:
        known = (lower.key, upper.key) in self._between
        between = None if known else words.of(found, self._layer_of)
        hooks: dict[Any, NodeHook] = {}
        last = len(found.joints) - 1
        joints = []
        for at, (edge, uses, alone) in enumerate(found.joints):
            key = (lower.key, upper.key, last, last - at)
            joint = JointReading(
                key, self._known, len(uses), alone=alone, as_read=partial(as_read, self._loss_scale, lower)
            )
            joints.append(joint)
            for node, position in uses:
                self._hook(hooks, node).parts.append((joint, position))
            if at < last:
                self._hook(hooks, edge[0]).wholes.append((joint, edge[1]))
        self._leads(lower, upper, Path(upper, joints), between)
        if not any(self._known.get(joint.key, True) for joint in joints):
            steps = steps_down(found)
            if steps is not None:
                self._straight[lower.key, upper.key] = steps

    def _hook(self, hooks: dict[Any, NodeHook], node: Any) -> NodeHook:
        if node not in hooks:
            hooks[node] = NodeHook(self.trains, self._overhead, on_failure=self.on_failure)
            node.register_hook(hooks[node])
        return hooks[node]

    def _layer_of(self, parameter: Tensor) -> str | None:
        if self._layers is None or id(parameter) not in self._layers:
            self._layers = {
                id(tensor): weight_layer(name, own)
                for name, module in named_modules(self._model)
                for own, tensor in module._parameters.items()
                if tensor is not None
            }
        return self._layers.get(id(parameter))

    # The backward pass -----------------------------------------------------------------------------------------------

    def arrive(self, reading: Reading, gradient: Tensor, mean: AbsMean | None = None) -> AbsMean | None:
        """Take in the gradient of a tensor, which is the step's loss's; return the mean of its absolute values.

        ``mean``: that, where it is known.
        """
        reading.arrived = True
        collector = reading.collector
        if type(gradient) not in PLAIN or not collector.wants(Signal.CHAIN):
            return None
        info, opened = reading.info, reading.opened
        if collector.period != reading.period:  # its forward pass was in an earlier step
            opened = collector.open(Signal.CHAIN, info, reading.number)
        if reading.divisor is None:
            collector.spoil(Signal.CHAIN, info, reading.number)
            return None
        if mean is None and reading.kind != NET:
            mean = mean_of(as_read(self._loss_scale, reading, gradient))
        collector.update(opened, info, ChainGradient(reading.kind, mean))
        if reading.kind != OUTPUT or reading.paths:
            for told in self._parts(reading, gradient):
                collector.update(opened, info, told)
            reading.paths.clear()  # they lead back here: nothing need wait for the garbage collector
        return mean

    def _parts(self, reading: Reading, gradient: Tensor) -> list[Branch | Unknown]:
        path = next((path for path in reading.paths if path.upper.arrived or path.is_one), None)
        if path is None:
            self.log.fails(reading.key, CAME_OTHERWISE)
            return [Unknown(reading.kind)]
        if path.upper.kind == OUTPUT:
            self._note(reading, path)
        if path.straight is not None:
            return [] if path.straight.ends(gradient) else self._no_longer_straight(reading, path.upper)
        if not path.joints:
            return []
        path.joints[-1].take_whole(gradient)
        return self._judge(reading, path.joints)

    def _no_longer_straight(self, reading: Reading, upper: Reading) -> list[Branch | Unknown]:
        steps = self._straight.pop((reading.key, upper.key))
        for at in range(len(steps)):  # all are measured from now on, until it is known again
            self._known.pop((reading.key, upper.key, len(steps) - 1, at), None)
        self.log.fails(reading.key, CHANGED)
        return [Unknown(reading.kind)]

    def _judge(self, reading: Reading, joints: list[JointReading]) -> list[Branch | Unknown]:
        why, branching = judge(joints)
        if why is not None:
            self.log.fails(reading.key, why)
            return [Unknown(reading.kind)]
        return [Branch(reading.kind, joint.key[-1], joint.part, joint.whole) for joint in branching]


class TensorHook:
    """Hook on a tensor of the chain."""

    # On the node that makes the tensor, which gets what `Tensor.register_hook` would: nobody need hold the tensor.

    __slots__ = ("chain", "number", "readings")

    def __init__(self, chain: Chain, reading: Reading, number: int) -> None:
        self.chain, self.number = chain, number
        self.readings = [reading]

    def __call__(self, gradients: tuple[Tensor | None, ...]) -> None:
        """Hand the gradient over, to all that it is read as."""
        begun = clock()
        chain, gradient, mean = self.chain, gradients[self.number], None
        try:
            for reading in self.readings if gradient is not None else ():
                if chain.takes(reading):
                    mean = chain.arrive(reading, gradient, mean)  # type: ignore[arg-type]  # it is not None
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            chain.on_failure(error)
        chain._overhead.spent += clock() - begun
