"""What is on a model while it is recorded: hooks, and the interception of functional calls.

No hook returns anything, keeps a tensor, or draws a random number, so the training is bit for bit what it
would be without.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from dropdiag.model.hook_base import DropdiagHook
from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, Site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.calls import Call
from dropdiag.recording.compiled import operators as compiled
from dropdiag.recording.compiled.sites import CompiledSites
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.hook_places import HookPlaces, is_last
from dropdiag.recording.masks.hooks import MaskBegins, MaskEnds
from dropdiag.recording.masks.hooks import Pending as PendingMasks
from dropdiag.recording.masks.reader import MaskReader
from dropdiag.recording.nested import tensors
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import PassRouter
from dropdiag.sketches.native import PLAIN

NESTED: Final = 64
"""Calls of one activation that may be open inside each other. Bounded, as torch may have moved what ends them."""

LATER: Final = "later"
"""A call whose net value is taken in when the function has run."""

Pending = deque[Call | str | None]
"""The calls of one activation module that have begun and not ended, the innermost last."""


class _ForwardBegins(DropdiagHook):
    """Forward pre-hook of the model itself: resets the call counters, starts the interception of functional calls."""

    n_args = 3

    def __init__(self, hooks: Hooks, compiled_site: compiled.CompiledSite) -> None:
        self.hooks, self.compiled_site = hooks, compiled_site
        self.thread = 0

    def trace(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        compiled.trace_begin(self.compiled_site, args, kwargs)

    def fire(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        router, calls = self.hooks.router, self.hooks.calls
        if router.depth and self.thread == threading.get_ident() and not _calls_itself(module):
            self.hooks.end_open_pass()
        if not router.forward_begins():
            return  # the model calls itself
        self.thread = threading.get_ident()
        self.hooks.places.restore()
        router.backward.forward_begins()
        router.before_forward()
        router.batch_begins(args, kwargs)
        self.hooks.watch_weights()
        if router.intercept:
            self.hooks.look_for_compiled_parts()
        self.hooks.masks.forward_begins()
        if router.evaluating:
            self.hooks.masks.draws.forward_begins()
        # Interception costs a little at every operator: where no functional call was found, most steps go without.
        wanted = router.intercept or calls.needed or router.axes.varies
        if router.evaluating or (module.training and wanted):
            calls.begin()


class _ForwardEnds(DropdiagHook):
    """Forward hook of the model itself, called after an exception as well."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks

    def fire(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        hooks, router = self.hooks, self.hooks.router
        hooks.watch_weights()
        router.outputs(module, output)
        if router.forward_ends():
            hooks.calls.end()
            if router.evaluating:
                hooks.masks.draws.forward_ends()


class _NetValue(DropdiagHook):
    """Forward pre-hook of an activation: its input is z; a hook on the tensor z gives dL/dz."""

    # Not a full backward hook of the module: that raises where the activation works in place (pytorch#61519) and gives
    # the module another tensor than the user's (pytorch#61446).

    n_args = 3

    def __init__(
        self, router: PassRouter, info: SiteInfo, places: HookPlaces, compiled_site: compiled.CompiledSite
    ) -> None:
        self.router, self.info, self.places, self.compiled_site = router, info, places, compiled_site
        self.pending: Pending = deque(maxlen=NESTED)

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        begun, router = clock(), self.router
        last = len(module._forward_pre_hooks) == 1 or is_last(module, self)
        if not router.depth:  # inside the model's own forward pass, all hooks are kept in their places
            self.places.restore(of=module)
        call: Call | str | None = (
            LATER  # where a hook comes after this one, the forward hook takes what enters the function
        )
        if last and router.intercepting:
            with torch._C.DisableTorchFunction():  # what is asked of z here is not asked by the model
                call = self.take(module, args, kwargs)
        elif last:
            call = self.take(module, args, kwargs)
        self.pending.append(call)
        router.overhead.spent += clock() - begun

    def trace(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_last(module, self):
            self.trace_net_value(module, args, kwargs)

    def trace_net_value(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Put what takes in the net value into a graph that is being traced."""
        z = args[0] if args else kwargs["input"]
        if type(z) in PLAIN:
            inplace = _works_in_place(module)
            compiled.trace_net_value(z, self.compiled_site, module.training, torch.is_grad_enabled(), inplace)

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Take in the net value; return its call, or None where it is not recorded."""
        z = args[0] if args and type(args[0]) is Tensor else next(tensors((args, kwargs)), None)
        if z is None:
            return None
        router, info = self.router, self.info
        if router.following:
            info = router.located(info, z)
        net = z if info.site.gate_dim is None else info.site.net(z)
        call = router.net_value(info, net, training=module.training, gradients=torch.is_grad_enabled())
        if call is not None:
            router.gradients.watch(call, z, inplace=_works_in_place(module))
        return call


class _NodeValue(DropdiagHook):
    """Forward hook of an activation: its output is h. It is the first, as others may replace what left the function."""

    def __init__(self, net_value: _NetValue) -> None:
        self.net_value, self.router = net_value, net_value.router

    def trace(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        net_value = self.net_value
        if not is_last(module, net_value) and not _works_in_place(module):
            net_value.trace_net_value(module, args, kwargs)
        if type(output) in PLAIN:
            site = net_value.compiled_site
            torch.ops.dropdiag.node_value(output.detach(), site.order.tensor, site.number)

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        net_value, router = self.net_value, self.router
        if router.following and isinstance(output, Tensor):
            router.carry(args, output)
        call = net_value.pending.pop() if net_value.pending else None
        if call is LATER:  # too late where the function has written over its input
            call = None if _works_in_place(module) else net_value.take(module, args, kwargs)
        if isinstance(call, Call) and call.collector.takes_nodes and isinstance(output, Tensor):
            begun = clock()
            router.node_value(call, output)
            router.overhead.spent += clock() - begun


class _Output(DropdiagHook):
    """Forward hook of a module whose node values are its output: recurrent layers, attention."""

    def __init__(self, router: PassRouter, info: SiteInfo, compiled_site: compiled.CompiledSite) -> None:
        self.router, self.info, self.compiled_site = router, info, compiled_site

    def trace(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        h = _first(output)
        if type(h) in PLAIN:
            compiled.trace_output(h, self.compiled_site, module.training, torch.is_grad_enabled())

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        begun = clock()
        self.router.batches.returned(module, output)
        h = next(tensors(_first(output)), None)
        if h is not None:
            self.router.output(self.info, h, training=module.training, gradients=torch.is_grad_enabled())
        self.router.overhead.spent += clock() - begun


def _first(output: Any) -> Any:
    """Return the output of an (output, state) pair."""
    # A PackedSequence is a tuple as well: its first field is its data.
    return output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output


class _WeightGradient(DropdiagHook):
    """Hook on a weight, called each time a backward pass has added to its gradient."""

    n_args = 1

    def __init__(self, router: PassRouter, info: SiteInfo) -> None:
        self.router, self.info = router, info

    def trace(self, parameter: Tensor) -> None:
        self.fire(parameter)

    def fire(self, parameter: Tensor) -> None:
        begun = clock()
        # Pruning moves a parameter to another name: its gradient is no longer that of the weight in use.
        if self.info.site.module._parameters.get(self.info.site.parameter) is parameter:
            self.router.weight_grad(self.info, parameter.grad)
        self.router.overhead.spent += clock() - begun


class Hooks:
    """All hooks on one model.

    Parameters
    ----------
    model : nn.Module
        An eager one on which hooks run.
    sites : sequence of SiteInfo
        Activations, modules with node values alone, and weights whose gradients are wanted.
    router : PassRouter
    calls : FunctionalCalls
    masks : MaskReader
    weights : sequence of Site
        Whose place in the order of execution is wanted.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[SiteInfo],
        router: PassRouter,
        calls: FunctionalCalls,
        masks: MaskReader,
        *,
        weights: Sequence[Site] = (),
    ) -> None:
        self._hooks: defaultdict[Site | None, list[DropdiagHook]] = defaultdict(list)  # by site, None: the model's
        self.calls, self.router, self.masks = calls, router, masks
        self.places = HookPlaces(model)
        self._watched: dict[SiteInfo, tuple[Tensor, int] | None] = {}
        self._compiled = CompiledSites(model, router, weights)
        self._looked_in = -1
        try:
            self._begins = _ForwardBegins(self, self._compiled.open(None))
            self._add(None, model.register_forward_pre_hook, self._begins)
            for info in sites:
                self._attach(info)
            self.watch_weights()
            # always_call: an exception in a forward pass must not leave interception on. Last of all, so that it runs
            # after every other hook of the model itself.
            self._add(None, model.register_forward_hook, _ForwardEnds(self), always_call=True)
        except BaseException:
            self.remove()
            raise

    def look_for_compiled_parts(self) -> None:
        """Watch the order of what is compiled by now; once in a step, or in the evaluations after it."""
        if self._looked_in != self.router.period:
            self._looked_in = self.router.period
            self._compiled.look_for_compiled_parts()

    def _attach(self, info: SiteInfo) -> None:
        module, kind, router = info.site.module, info.site.kind, self.router
        if kind == WEIGHT:
            self._watched[info] = None
            return
        if kind == DROPOUT:
            self.masks.add(info)
            masks: PendingMasks = deque(maxlen=NESTED)
            self._add(info, module.register_forward_pre_hook, MaskBegins(self.masks, router, info, masks))
            self._add(info, module.register_forward_hook, MaskEnds(self.masks, router, info, masks), always_call=True)
            return
        compiled_site = self._compiled.open(info)
        if kind == ACTIVATION:
            net_value = _NetValue(router, info, self.places, compiled_site)
            self._add(info, module.register_forward_pre_hook, net_value)
            # always_call: what the pre-hook put on the stack must come off it after an exception, too.
            node_value = _NodeValue(net_value)
            self._add(info, module.register_forward_hook, node_value, always_call=True)
            self.places.keep(module, last_before=net_value, first_after=node_value)
        elif kind == OUTPUT:
            output = _Output(router, info, compiled_site)
            self._add(info, module.register_forward_hook, output)
            self.places.keep(module, first_after=output)

    def watch_weights(self) -> None:
        """Put hooks on weights that take gradients by now: a frozen, lazy or exchanged one may do so later."""
        for info, watched in self._watched.items():
            if self.router.ranks.spread.weights.manages(info.site):
                continue  # what is in its place for the time of a pass is not what is trained
            now = info.site.module._parameters.get(info.site.parameter)
            if type(now) not in PLAIN or now is None or not (now.is_leaf and now.requires_grad):
                continue  # a lazy parameter is of a class of its own
            # A lazy parameter has no shape before it has values: only then is it known to be a bias.
            late_bias = info.site.skipped == LAZY and now.ndim < 2
            # No weak reference, with which torch.utils.swap_tensors refuses a parameter.
            if late_bias or (watched is not None and watched[0] is now):
                if watched is not None and watched[1] != now._cdata:
                    self._watched[info] = now, now._cdata
                    _hook_again(now)
                continue
            hook = _WeightGradient(self.router, info)
            hook.on_failure = self.router.hook_failed
            hook.attach(now.register_post_accumulate_grad_hook)
            self._hooks[info.site].append(hook)
            self._watched[info] = now, now._cdata

    def _add(self, info: SiteInfo | None, register: Callable[..., Any], hook: DropdiagHook, **options: bool) -> None:
        hook.on_failure = self.router.hook_failed
        hook.attach(register, with_kwargs=True, **options)
        self._hooks[None if info is None else info.site].append(hook)

    def exchange(self, gone: Sequence[SiteInfo], came: Sequence[SiteInfo]) -> None:
        """Take the hooks of some sites off, and put hooks on others: the model's modules have changed."""
        for info in gone:  # all of them first: what comes may have the name of what goes
            self._watched.pop(info, None)
            self.places.forget(info.site.module)
            self.masks.forget(info)
            for hook in self._hooks.pop(info.site, ()):
                hook.remove()
        for info in came:
            self._attach(info)

    def end_open_pass(self) -> None:
        """End a forward pass that did not report its end: torch runs no hook after a KeyboardInterrupt."""
        if self.router.depth:
            self.router.forward_is_over()
            self.calls.end()

    def begin_no_pass(self) -> None:
        """Leave forward passes alone that begin from now on; those that are open end as they would."""
        self._begins.closed = True

    def silence(self) -> None:
        """Let no hook do anything any more; they stay where they are."""
        for hooks in self._hooks.values():
            for hook in hooks:
                hook.closed = True

    def remove(self) -> None:
        """Take everything off the model. May be called again."""
        while self._hooks:
            for hook in self._hooks.popitem()[1]:
                hook.remove()
        self._watched.clear()
        self.calls.release()
        self.router.end()
        self._compiled.close()


def _calls_itself(module: nn.Module) -> bool:
    """Whether a module that is about to run is running already, further up the stack."""
    running = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:  # private: torch keeps no record of which module is running
        running += frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is module
        frame = frame.f_back
    return running > 1


def _works_in_place(module: nn.Module) -> bool:
    # A module's own __getattr__ takes an exception to say that there is no such thing, and most activations say so.
    if "inplace" in module.__dict__ or hasattr(type(module), "inplace"):
        return bool(getattr(module, "inplace", False))
    return False


def _hook_again(parameter: Tensor) -> None:
    """Put our hooks on a parameter whose contents were exchanged by `torch.utils.swap_tensors`."""
    # It leaves the Python object with its list of hooks, and takes away what calls them (`_cdata` tells). Setting the
    # list again makes it called. Private, as there is no public way. A user's hook is not ours to bring back.
    hooks = parameter._post_accumulate_grad_hooks
    if all(isinstance(hook, DropdiagHook) for hook in hooks.values()):
        parameter._post_accumulate_grad_hooks = hooks
