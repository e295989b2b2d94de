"""Recording inside ``torch.compile``: hooks become calls of custom operators, which a compiled graph keeps.

A hook that Python runs would break the graph, and a broken graph draws other dropout masks. So while a graph is
traced, our hooks call mutating custom operators instead. They are opaque to the compiler, run in the order of
the graph (each mutates one common tensor), and do at run time what the hooks do in eager mode. Whether a step is on
the schedule is decided inside them, so a schedule never causes a new compilation.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

from dropdiag.probes import Place
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, Taps

OPEN_CALLS: Final = 4096
"""Passes of a site whose gradients may still come; older ones are taken to have none."""

_numbers = itertools.count()
_ports: dict[int, Port] = {}


class Port:
    """Where the operators of one site find its taps. Closed ports take nothing.

    Attributes
    ----------
    number : int
        What a compiled graph keeps of it.
    order : Tensor
        The tensor that all operators of one model mutate, so that they keep their order.
    """

    def __init__(self, taps: Taps, place: Place | None, order: Tensor) -> None:
        self.number = next(_numbers)
        self.taps, self.place, self.order = taps, place, order
        self.pending: list[Call | None] = []
        self.open_calls: dict[int, Call] = {}
        self.returned: set[int] = set()
        self._tokens = itertools.count(1)

    def token(self, call: Call | None) -> int:
        """Return a number by which the backward pass finds a call; 0 for none."""
        if call is None:
            return 0
        token = next(self._tokens)
        self.open_calls[token] = call
        while len(self.open_calls) > OPEN_CALLS:
            oldest = next(iter(self.open_calls))
            del self.open_calls[oldest]
            self.returned.discard(oldest)
        return token


class Ports:
    """The ports of one recorded model, with the settings of the compiler that recording needs."""

    def __init__(self, model: nn.Module, taps: Taps) -> None:
        self._taps = taps
        device = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
        self._order = torch.zeros(1, device=device)
        self._opened: list[int] = []
        self._skipped_guards = _guard_hooks()

    def open(self, place: Place | None) -> Port:
        """Open a port for a place, or for the model itself."""
        port = Port(self._taps, place, self._order)
        _ports[port.number] = port
        self._opened.append(port.number)
        return port

    def close(self) -> None:
        """Close all ports: graphs that still hold their numbers record nothing. May be called again."""
        for number in self._opened:
            _ports.pop(number, None)
        self._opened.clear()
        if self._skipped_guards is not None:
            _dynamo().config.skip_nnmodule_hook_guards = self._skipped_guards
            self._skipped_guards = None


def _guard_hooks() -> bool | None:
    """Make graphs depend on hooks, and drop graphs that do not.

    By default a compiled graph does not notice hooks that came later, and a graph of a like model without hooks
    is used for one with hooks: nothing would be recorded. Returns the old setting, None if nothing was ever
    compiled in this process.
    """
    dynamo = _dynamo()
    if dynamo is None:
        return None
    before: bool = dynamo.config.skip_nnmodule_hook_guards
    dynamo.config.skip_nnmodule_hook_guards = False
    dynamo.reset()
    return before


def _dynamo() -> Any:
    return sys.modules.get("torch._dynamo")


def trace_net_value(z: Tensor, port: Port, training: bool, gradients: bool) -> None:
    """Put a net value's operators into the graph being traced, forward and backward."""
    token = torch.ops.dropdiag.net_value(z.detach(), port.order, port.number, training, gradients)
    if training and gradients and z.requires_grad and not z.is_leaf:
        z.register_hook(  # type: ignore[no-untyped-call]
            lambda g: torch.ops.dropdiag.net_grad(g, token, port.number)
        )


def trace_output(h: Tensor, port: Port, training: bool, gradients: bool) -> None:
    """Put an output's operator into the graph being traced."""
    torch.ops.dropdiag.output(h.detach(), port.order, port.number, training, gradients)


@torch.library.custom_op("dropdiag::forward_begins", mutates_args={"order"})
def _forward_begins(order: Tensor, number: int) -> None:
    port = _ports.get(number)
    if port is not None:
        port.taps.compiled_forward_begins()


@torch.library.custom_op("dropdiag::net_value", mutates_args={"order"})
def _net_value(z: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> Tensor:
    port = _ports.get(number)
    if port is None or port.place is None:
        return torch.zeros((), dtype=torch.int64)
    begun = clock()
    port.taps.compiled = True
    call = port.taps.net_value(port.place, port.place.site.net(z), training=training, gradients=gradients)
    port.pending.append(call)
    expected = call is not None and port.taps.expect_gradient(call) is not None
    token = torch.tensor(port.token(call if expected else None), dtype=torch.int64)
    port.taps.cost.spent += clock() - begun
    return token


@_net_value.register_fake
def _net_value_fake(z: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> Tensor:
    return torch.empty((), dtype=torch.int64)


@torch.library.custom_op("dropdiag::node_value", mutates_args={"order"})
def _node_value(h: Tensor, order: Tensor, number: int) -> None:
    port = _ports.get(number)
    call = port.pending.pop() if port is not None and port.pending else None
    if port is not None and call is not None:
        begun = clock()
        port.taps.node_value(call, h)
        port.taps.cost.spent += clock() - begun


# The backward operator mutates nothing: the common tensor would be saved for it, and a second forward pass before
# the backward pass would have changed that. Its effect is declared instead, so that it is kept and kept in order.
@torch.library.custom_op("dropdiag::net_grad", mutates_args=())
def _net_grad(gradient: Tensor, token: Tensor, number: int) -> None:
    port = _ports.get(number)
    call = None if port is None else port.open_calls.get(int(token))
    if port is None or port.place is None or call is None:
        return
    begun = clock()
    port.taps.several_backwards |= int(token) in port.returned
    port.returned.add(int(token))
    port.taps.net_grad(call, port.place.site.net(gradient))
    port.taps.cost.spent += clock() - begun


@_net_grad.register_fake
def _net_grad_fake(gradient: Tensor, token: Tensor, number: int) -> None:
    return None


_register_effectful_op(torch.ops.dropdiag.net_grad.default, _EffectType.ORDERED)


@torch.library.custom_op("dropdiag::output", mutates_args={"order"})
def _output(h: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> None:
    port = _ports.get(number)
    if port is not None and port.place is not None:
        begun = clock()
        port.taps.output(port.place, h, training=training, gradients=gradients)
        port.taps.cost.spent += clock() - begun
