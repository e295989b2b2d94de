"""Recording inside ``torch.compile``: hooks become calls of custom operators, which a compiled graph keeps.

A hook that Python runs would break the graph, and a broken graph draws other dropout masks. So while a graph is
traced, our hooks call mutating custom operators instead. They are opaque to the compiler, run in the order of
the graph (each mutates one common tensor), and do at run time what the hooks do in eager mode. Whether a step is on
the schedule is decided inside them, so a schedule never causes a new compilation.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Final

import torch
from torch import Tensor
from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

from dropdiag.probes.base import SiteInfo
from dropdiag.recording.backward import backward_number
from dropdiag.recording.calls import Call
from dropdiag.recording.compiled import tracing
from dropdiag.recording.notices import Notice
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.views import part_of
from dropdiag.sketches.native import PLAIN

OPEN_CALLS: Final = 4096
"""Passes of a site whose gradients are still waited for; older ones are assumed to have none."""

_numbers = itertools.count()
# An operator's arguments are tensors and numbers: it finds its site, which no graph may hold, by a number.
# Weakly: the hooks on the model hold it, so that a model that nobody has any more is freed.
_sites: weakref.WeakValueDictionary[int, CompiledSite] = weakref.WeakValueDictionary()


def next_number() -> int:
    """Return a number by which a graph can name something of ours."""
    return next(_numbers)


def forget(number: int) -> None:
    """Make the operators of a site do nothing from now on."""
    _sites.pop(number, None)


class Order:
    """The tensor that all operators in a graph mutate, so that the compiler keeps their order.

    There is one for each run of a graph: a graph with a checkpoint in it saves the tensor for its backward pass, where
    it must be found as it was.
    """

    def __init__(self, device: torch.device) -> None:
        self.tensor = torch.zeros(1, device=device)

    def renew(self) -> None:
        """Take another tensor for the next run of a graph; the one that runs has its own."""
        self.tensor = torch.zeros_like(self.tensor)


class CompiledSite(tracing.Traced):
    """What the operators of one site need at run time. They do nothing once it is closed.

    Attributes
    ----------
    number : int
        By which a compiled graph refers to it.
    order : Order
        Shared by the sites of one model.
    """

    def __init__(self, router: PassRouter, info: SiteInfo | None, order: Order) -> None:
        self.number = next_number()
        _sites[self.number] = self
        self.router, self.info, self.order = router, info, order
        self.pending: list[Call | None] = []
        self.open_calls: dict[int, Call] = {}
        self._tokens = itertools.count(1)
        self._period = -1
        self._at: dict[int, list[int]] = {}

    def token(self, call: Call, place: int) -> int:
        """Return a number by which the backward pass finds a call."""
        token = next(self._tokens)
        self.open_calls[token] = call
        if call.collector.period != self._period:
            self._at.clear()
            self._period = call.collector.period
        self._at.setdefault(place, []).append(token)
        # A pass without a backward pass never comes back for its call: the oldest ones go, so that memory is bounded.
        while len(self.open_calls) > OPEN_CALLS:
            del self.open_calls[next(iter(self.open_calls))]
        return token

    def expect(self, call: Call | None, place: int) -> int:
        """Return the token of a call whose gradient is wanted; 0 where it is not, or will not come."""
        if call is None or self.router.gradients.expect(call) is None:
            return 0
        if tracing.overwritten(place):
            self.router.notices.add(Notice.UNWATCHED)
            return 0
        return self.token(call, place)

    def again(self, place: int) -> int:
        """Return the token of a pass that is computed again in a backward pass (a checkpoint); 0 where that is open.

        Parameters
        ----------
        place : int
            Of the operator in its graph.
        """
        # The first pass gave the token; a checkpoint keeps nothing of that pass, but this is the same place.
        opened = [token for token in self._at.get(place, ()) if token in self.open_calls]
        waiting = [token for token in opened if self.open_calls[token].backward is None]
        if backward_number() == -1 or not waiting:
            return 0
        if len(waiting) > 1:
            self.router.notices.add(Notice.RECOMPUTED)
            return 0
        return waiting[0]


def trace_begin(site: CompiledSite, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Put the operator that begins a forward pass into the graph being traced, with what the model is called with."""
    tracing.note(site.number)
    named = keywords if not args else args[0] if isinstance(args[0], dict) else None
    given = args[:1] if named is None else named.values()
    inputs, by_name = [value.detach() for value in given if type(value) in PLAIN], named is not None
    torch.ops.dropdiag.forward_begins(site.order.tensor, site.number, inputs, by_name)


def trace_net_value(z: Tensor, site: CompiledSite, training: bool, gradients: bool, inplace: bool) -> None:
    """Put a net value's operators into the graph being traced, forward and backward."""
    tracing.note(site.number)
    place = tracing.new_place()
    token = torch.ops.dropdiag.net_value(
        z.detach(), site.order.tensor, site.number, place, training=training, gradients=gradients
    )
    if not (training and gradients and z.requires_grad):
        return
    where = tracing.where_watched(z, place)
    if where == tracing.INSIDE:
        torch.ops.dropdiag.watch(z, token, site.number, inplace)
    elif where == tracing.OUTSIDE and not z.is_leaf:  # a hook on a parameter would outlive the step
        # A graph knows its own part of the gradient of what enters it. So the tensor is watched from outside: the
        # compiler registers this hook when the graph has run.
        z.register_hook(  # type: ignore[no-untyped-call]
            lambda g: torch.ops.dropdiag.net_grad(g, token, site.number)
        )
    else:
        torch.ops.dropdiag.unwatched(site.order.tensor, site.number)


def trace_output(h: Tensor, site: CompiledSite, training: bool, gradients: bool) -> None:
    """Put an output's operator into the graph being traced."""
    tracing.note(site.number)
    torch.ops.dropdiag.output(h.detach(), site.order.tensor, site.number, training, gradients)


@torch.library.custom_op("dropdiag::forward_begins", mutates_args={"order"})
def _forward_begins(order: Tensor, number: int, inputs: list[Tensor], by_name: bool) -> None:
    site = _sites.get(number)
    if site is not None:
        site.order.renew()
        site.router.compiled_forward_begins()
        named = {str(at): value for at, value in enumerate(inputs)} if by_name else {}
        site.router.batch_begins(() if by_name else inputs, named)


@torch.library.custom_op("dropdiag::net_value", mutates_args={"order"})
def _net_value(z: Tensor, order: Tensor, number: int, place: int, *, training: bool, gradients: bool) -> Tensor:
    site = _sites.get(number)
    if site is None or site.info is None:
        return torch.zeros((), dtype=torch.int64)
    begun = clock()
    site.order.renew()
    router = site.router
    router.notices.add(Notice.COMPILED)
    call = router.net_value(site.info, site.info.site.net(z), training=training, gradients=gradients)
    site.pending.append(call)
    token = site.again(place) if call is None and training and gradients else site.expect(call, place)
    router.overhead.spent += clock() - begun
    return torch.tensor(token, dtype=torch.int64)


@_net_value.register_fake
def _net_value_fake(z: Tensor, order: Tensor, number: int, place: int, *, training: bool, gradients: bool) -> Tensor:
    return torch.empty((), dtype=torch.int64)


@torch.library.custom_op("dropdiag::unwatched", mutates_args={"order"})
def _unwatched(order: Tensor, number: int) -> None:
    site = _sites.get(number)
    if site is not None:
        site.router.notices.add(Notice.UNWATCHED)


@torch.library.custom_op("dropdiag::node_value", mutates_args={"order"})
def _node_value(h: Tensor, order: Tensor, number: int) -> None:
    site = _sites.get(number)
    call = site.pending.pop() if site is not None and site.pending else None
    if site is not None and call is not None:
        begun = clock()
        site.router.node_value(call, h)
        site.router.overhead.spent += clock() - begun


_library: Final = torch.library.Library("dropdiag", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("watch(Tensor z, Tensor token, int number, bool inplace) -> ()")  # type: ignore[no-untyped-call]


# Tensor.register_hook, which this stands for, loses what the model does to Python objects after it (up to 2.13 at
# least): Dynamo traces the hook on a copy of its list of side effects, goes on with the copy, and objects that it met
# before write into the old list. A Hugging Face classifier sets config.problem_type, and had no loss. What an operator
# does in its autograd kernel is no business of Dynamo's. The kernel runs where AOTAutograd traces the backward
# pass, and leaves net_grad in the graph alone; in graphs without gradients there is nothing to watch.
@torch.library.impl(_library, "watch", "Autograd")
def _watch(z: Tensor, token: Tensor, number: int, inplace: bool) -> None:
    base = z._base if inplace else None  # as in `views.watched`, but of the compiler's own class
    if not z.requires_grad or (base is not None and base.dtype != z.dtype):
        return
    part = None if base is None else part_of(z, base)
    tensor = z if base is None else base
    tensor.register_hook(  # type: ignore[no-untyped-call]
        lambda g: torch.ops.dropdiag.net_grad(g if part is None else part(g), token, number)
    )


@torch.library.impl(_library, "watch", "CompositeExplicitAutograd")
def _watch_nothing(z: Tensor, token: Tensor, number: int, inplace: bool) -> None:
    """Do nothing where there are no gradients."""


# The backward operator mutates nothing: the common tensor would be saved for it, and a second forward pass before
# the backward pass would have changed that. Its effect is declared instead, so that it is kept and kept in order.
@torch.library.custom_op("dropdiag::net_grad", mutates_args=())
def _net_grad(gradient: Tensor, token: Tensor, number: int) -> None:
    site = _sites.get(number)
    call = None if site is None else site.open_calls.get(int(token))
    if site is None or site.info is None or call is None:
        return
    begun = clock()
    if site.router.gradients.takes(call):
        site.router.gradients.take(call, site.info.site.net(gradient))
    site.router.overhead.spent += clock() - begun


@_net_grad.register_fake
def _net_grad_fake(gradient: Tensor, token: Tensor, number: int) -> None:
    return None


_register_effectful_op(torch.ops.dropdiag.net_grad.default, _EffectType.ORDERED)


@torch.library.custom_op("dropdiag::output", mutates_args={"order"})
def _output(h: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> None:
    site = _sites.get(number)
    if site is not None and site.info is not None:
        begun = clock()
        site.order.renew()
        site.router.batches.returned(site.info.site.module, h)
        site.router.output(site.info, h, training=training, gradients=gradients)
        site.router.overhead.spent += clock() - begun
