"""Recording inside ``torch.compile``: hooks become calls of custom operators, which a compiled graph keeps.

A hook that Python runs would break the graph, and a broken graph draws other dropout masks. So while a graph is
traced, our hooks call mutating custom operators instead. They are opaque to the compiler, run in the order of
the graph (each mutates one common tensor), and do at run time what the hooks do in eager mode. Whether a step is on
the schedule is decided inside them, so a schedule never causes a new compilation.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

from dropdiag.probes.base import SiteInfo
from dropdiag.recording.notices import Notice
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, PassRouter

OPEN_CALLS: Final = 4096
"""Passes of a site whose gradients are still waited for; older ones are assumed to have none."""

_numbers = itertools.count()
# An operator's arguments are tensors and numbers: it finds its site, which no graph may hold, by a number.
# Weakly: the hooks on the model hold it, so that a model that nobody has any more is freed.
_sites: weakref.WeakValueDictionary[int, CompiledSite] = weakref.WeakValueDictionary()


class CompiledSite:
    """What the operators of one site need at run time. They do nothing once it is closed.

    Attributes
    ----------
    number : int
        By which a compiled graph refers to it.
    order : Tensor
        The tensor that all operators of one model mutate, so that the compiler keeps their order.
    """

    def __init__(self, router: PassRouter, info: SiteInfo | None, order: Tensor) -> None:
        self.number = next(_numbers)
        self.router, self.info, self.order = router, info, order
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
        # A pass without a backward pass never comes back for its call: the oldest ones go, so that memory is bounded.
        while len(self.open_calls) > OPEN_CALLS:
            oldest = next(iter(self.open_calls))
            del self.open_calls[oldest]
            self.returned.discard(oldest)
        return token


class CompiledSites:
    """The compiled sites of one recorded model, and the compiler's settings that recording needs."""

    def __init__(self, model: nn.Module, router: PassRouter) -> None:
        self._router = router
        device = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
        self._order = torch.zeros(1, device=device)
        self._opened: list[int] = []
        self._skipped_guards = _guard_hooks()

    def open(self, info: SiteInfo | None) -> CompiledSite:
        """Open the compiled site of a site, or of the model itself."""
        site = CompiledSite(self._router, info, self._order)
        _sites[site.number] = site
        self._opened.append(site.number)
        return site

    def close(self) -> None:
        """Close all of them: graphs that still refer to them record nothing. May be called again."""
        for number in self._opened:
            _sites.pop(number, None)
        self._opened.clear()
        if self._skipped_guards is not None:
            _dynamo().config.skip_nnmodule_hook_guards = self._skipped_guards
            self._skipped_guards = None


def _guard_hooks() -> bool | None:
    """Make graphs depend on hooks and drop those that do not; return the setting before, None without a compiler."""
    # By default (since pytorch#98371) a compiled graph does not notice hooks that came later (pytorch#117758), and the
    # graph of a like model without hooks is used for one with hooks: nothing would be recorded, without a word.
    dynamo = _dynamo()
    if dynamo is None:  # nothing was ever compiled in this process
        return None
    before: bool = dynamo.config.skip_nnmodule_hook_guards
    dynamo.config.skip_nnmodule_hook_guards = False
    dynamo.reset()
    return before


def _dynamo() -> Any:
    module = sys.modules.get("torch._dynamo")  # importing it takes seconds: only who compiles has it
    return module if hasattr(module, "reset") else None  # another thread may be importing it right now


def trace_net_value(z: Tensor, site: CompiledSite, training: bool, gradients: bool) -> None:
    """Put a net value's operators into the graph being traced, forward and backward."""
    token = torch.ops.dropdiag.net_value(z.detach(), site.order, site.number, training, gradients)
    if training and gradients and z.requires_grad and not z.is_leaf:
        z.register_hook(  # type: ignore[no-untyped-call]
            lambda g: torch.ops.dropdiag.net_grad(g, token, site.number)
        )


def trace_output(h: Tensor, site: CompiledSite, training: bool, gradients: bool) -> None:
    """Put an output's operator into the graph being traced."""
    torch.ops.dropdiag.output(h.detach(), site.order, site.number, training, gradients)


@torch.library.custom_op("dropdiag::forward_begins", mutates_args={"order"})
def _forward_begins(order: Tensor, number: int) -> None:
    site = _sites.get(number)
    if site is not None:
        site.router.compiled_forward_begins()


@torch.library.custom_op("dropdiag::net_value", mutates_args={"order"})
def _net_value(z: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> Tensor:
    site = _sites.get(number)
    if site is None or site.info is None:
        return torch.zeros((), dtype=torch.int64)
    begun = clock()
    router = site.router
    router.notices.add(Notice.COMPILED)
    call = router.net_value(site.info, site.info.site.net(z), training=training, gradients=gradients)
    site.pending.append(call)
    expected = call is not None and router.expect_gradient(call) is not None
    token = torch.tensor(site.token(call if expected else None), dtype=torch.int64)
    router.overhead.spent += clock() - begun
    return token


@_net_value.register_fake
def _net_value_fake(z: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> Tensor:
    return torch.empty((), dtype=torch.int64)


@torch.library.custom_op("dropdiag::node_value", mutates_args={"order"})
def _node_value(h: Tensor, order: Tensor, number: int) -> None:
    site = _sites.get(number)
    call = site.pending.pop() if site is not None and site.pending else None
    if site is not None and call is not None:
        begun = clock()
        site.router.node_value(call, h)
        site.router.overhead.spent += clock() - begun


# The backward operator mutates nothing: the common tensor would be saved for it, and a second forward pass before
# the backward pass would have changed that. Its effect is declared instead, so that it is kept and kept in order.
@torch.library.custom_op("dropdiag::net_grad", mutates_args=())
def _net_grad(gradient: Tensor, token: Tensor, number: int) -> None:
    site = _sites.get(number)
    call = None if site is None else site.open_calls.get(int(token))
    if site is None or site.info is None or call is None:
        return
    begun = clock()
    if int(token) in site.returned:
        site.router.notices.add(Notice.SEVERAL_BACKWARDS)
    site.returned.add(int(token))
    site.router.net_grad(call, site.info.site.net(gradient))
    site.router.overhead.spent += clock() - begun


@_net_grad.register_fake
def _net_grad_fake(gradient: Tensor, token: Tensor, number: int) -> None:
    return None


# Private, as torch.library has no public way to declare an effect.
_register_effectful_op(torch.ops.dropdiag.net_grad.default, _EffectType.ORDERED)


@torch.library.custom_op("dropdiag::output", mutates_args={"order"})
def _output(h: Tensor, order: Tensor, number: int, training: bool, gradients: bool) -> None:
    site = _sites.get(number)
    if site is not None and site.info is not None:
        begun = clock()
        site.router.output(site.info, h, training=training, gradients=gradients)
        site.router.overhead.spent += clock() - begun
