"""What is on a model while it is recorded: hooks, and the interception of functional calls.

No hook returns anything, keeps a tensor, or draws a random number, so the training is bit for bit what it
would be without.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.rnn import PackedSequence

from dropdiag.model.hook_base import DropdiagHook
from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, layers_of_both_kinds
from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording import compiled
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.mask_hooks import MaskBegins, MaskEnds
from dropdiag.recording.mask_hooks import Pending as PendingMasks
from dropdiag.recording.masks import MaskReader
from dropdiag.recording.nested import tensors
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, PassRouter

NESTED: Final = 64
"""Calls of one activation that may be open inside each other. Bounded, as torch may have moved what ends them."""

Pending = deque[Call | None]
"""The calls of one activation module that have begun and not ended, the innermost last."""


class _ForwardBegins(DropdiagHook):
    """Forward pre-hook of the model itself: resets the call counters, starts the interception of functional calls."""

    n_args = 3

    def __init__(self, hooks: Hooks, compiled_site: compiled.CompiledSite) -> None:
        self.hooks, self.compiled_site = hooks, compiled_site

    def fire(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            torch.ops.dropdiag.forward_begins(self.compiled_site.order, self.compiled_site.number)
            return
        router, calls = self.hooks.router, self.hooks.calls
        if not router.forward_begins():
            return  # the model calls itself
        self.hooks.watch_weights()
        self.hooks.masks.forward_begins()
        if router.evaluating:
            self.hooks.masks.draws.forward_begins()
        # Interception costs a little at every operator: where no functional call was found, most steps go without.
        if router.evaluating or (module.training and (router.intercept or calls.needed)):
            calls.begin()


class _ForwardEnds(DropdiagHook):
    """Forward hook of the model itself, called after an exception as well."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks

    def fire(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.hooks.watch_weights()
            if self.hooks.router.forward_ends():
                self.hooks.calls.end()
                if self.hooks.router.evaluating:
                    self.hooks.masks.draws.forward_ends()


class _NetValue(DropdiagHook):
    """Forward pre-hook of an activation: its input is z; a hook on the tensor z gives dL/dz."""

    # Not a full backward hook of the module: that raises where the activation works in place (pytorch#61519) and gives
    # the module another tensor than the user's (pytorch#61446).

    n_args = 3

    def __init__(
        self, router: PassRouter, info: SiteInfo, pending: Pending, compiled_site: compiled.CompiledSite
    ) -> None:
        self.router, self.info, self.pending, self.compiled_site = router, info, pending, compiled_site

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            z = args[0] if args else kwargs["input"]
            compiled.trace_net_value(z, self.compiled_site, module.training, torch.is_grad_enabled())
            return
        begun = clock()
        z = args[0] if args and type(args[0]) is Tensor else next(tensors((args, kwargs)), None)
        if z is None:
            return
        router, info = self.router, self.info
        if router.axis_rule is not None:
            info = router.located(info)
        net = z if info.site.gate_dim is None else info.site.net(z)
        call = router.net_value(info, net, training=module.training, gradients=torch.is_grad_enabled())
        self.pending.append(call)
        if call is not None:
            router.watch(call, z, inplace=bool(getattr(module, "inplace", False)))
        router.overhead.spent += clock() - begun


class _NodeValue(DropdiagHook):
    """Forward hook of an activation: its output is h."""

    def __init__(self, router: PassRouter, pending: Pending, compiled_site: compiled.CompiledSite) -> None:
        self.router, self.pending, self.compiled_site = router, pending, compiled_site

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if torch.compiler.is_compiling():
            torch.ops.dropdiag.node_value(output.detach(), self.compiled_site.order, self.compiled_site.number)
            return
        call = self.pending.pop() if self.pending else None
        if call is not None and call.collector.wants(Signal.NODE_VALUE) and isinstance(output, Tensor):
            begun = clock()
            self.router.node_value(call, output)
            self.router.overhead.spent += clock() - begun


class _Output(DropdiagHook):
    """Forward hook of a module whose node values are its output: recurrent layers, attention."""

    def __init__(self, router: PassRouter, info: SiteInfo, compiled_site: compiled.CompiledSite) -> None:
        self.router, self.info, self.compiled_site = router, info, compiled_site

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # A PackedSequence is a tuple as well: its first field is its data, not the output of a (output, state) pair.
        h = output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output
        if torch.compiler.is_compiling():
            compiled.trace_output(h, self.compiled_site, module.training, torch.is_grad_enabled())
            return
        begun = clock()
        h = next(tensors(h), None)
        if h is not None:
            self.router.output(self.info, h, training=module.training, gradients=torch.is_grad_enabled())
        self.router.overhead.spent += clock() - begun


class _LastLayer(DropdiagHook):
    """Forward hook of a layer: hands the router the dimension of its output that counts nodes."""

    def __init__(self, router: PassRouter, axis_rule: str) -> None:
        self.router, self.axis_rule = router, axis_rule

    def fire(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.router.axis_rule = self.axis_rule


class _RawGradient(DropdiagHook):
    """Hook on a weight, called each time a backward pass has added to its gradient."""

    n_args = 1

    def __init__(self, router: PassRouter, info: SiteInfo) -> None:
        self.router, self.info = router, info

    def fire(self, parameter: Tensor) -> None:
        begun = clock()
        self.router.raw_weight_grad(self.info, parameter.grad)
        self.router.overhead.spent += clock() - begun


class Hooks:
    """All hooks on one model.

    Parameters
    ----------
    model : nn.Module
        An eager one on which hooks run.
    sites : sequence of SiteInfo
        Activations, modules with node values alone, and weights whose raw gradients are wanted.
    router : PassRouter
    calls : FunctionalCalls
    masks : MaskReader
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[SiteInfo],
        router: PassRouter,
        calls: FunctionalCalls,
        masks: MaskReader,
    ) -> None:
        self._hooks: list[DropdiagHook] = []
        self.calls, self.router, self.masks = calls, router, masks
        self._watched: dict[SiteInfo, weakref.ref[Tensor] | None] = {}
        self._compiled = compiled.CompiledSites(model, router)
        try:
            begins = _ForwardBegins(self, self._compiled.open(None))
            self._add(model.register_forward_pre_hook, begins)
            for layer, axis_rule in layers_of_both_kinds(model):
                self._add(layer.register_forward_hook, _LastLayer(router, axis_rule))
            for info in sites:
                self._attach(info)
            self.watch_weights()
            # always_call: an exception in a forward pass must not leave interception on. Last of all, so that it runs
            # after every other hook of the model itself.
            self._add(model.register_forward_hook, _ForwardEnds(self), always_call=True)
        except BaseException:
            self.remove()
            raise

    def _attach(self, info: SiteInfo) -> None:
        module, kind, router = info.site.module, info.site.kind, self.router
        if kind == WEIGHT:
            self._watched[info] = None
            return
        if kind == DROPOUT:
            self.masks.add(info)
            masks: PendingMasks = deque(maxlen=NESTED)
            self._add(module.register_forward_pre_hook, MaskBegins(self.masks, router, info, masks))
            self._add(module.register_forward_hook, MaskEnds(self.masks, router, info, masks), always_call=True)
            return
        compiled_site = self._compiled.open(info)
        if kind == ACTIVATION:
            pending: Pending = deque(maxlen=NESTED)
            self._add(module.register_forward_pre_hook, _NetValue(router, info, pending, compiled_site))
            # always_call: what the pre-hook put on the stack must come off it after an exception, too.
            self._add(module.register_forward_hook, _NodeValue(router, pending, compiled_site), always_call=True)
        elif kind == OUTPUT:
            self._add(module.register_forward_hook, _Output(router, info, compiled_site))

    def watch_weights(self) -> None:
        """Put hooks on weights that take gradients by now: a frozen, lazy or exchanged one may do so later."""
        for info, watched in self._watched.items():
            now = info.site.module._parameters.get(info.site.parameter)
            ready = now is not None and now.is_leaf and now.requires_grad
            if now is None or not ready or isinstance(now, UninitializedParameter):
                continue
            # A lazy parameter has no shape before it has values: only then is it known to be a bias.
            late_bias = info.site.skipped == LAZY and now.ndim < 2
            if late_bias or (watched is not None and watched() is now):
                continue
            hook = _RawGradient(self.router, info)
            hook.attach(now.register_post_accumulate_grad_hook)
            self._hooks.append(hook)
            self._watched[info] = weakref.ref(now)

    def _add(self, register: Callable[..., Any], hook: DropdiagHook, **options: bool) -> None:
        hook.attach(register, with_kwargs=True, **options)
        self._hooks.append(hook)

    def remove(self) -> None:
        """Take everything off the model. May be called again."""
        while self._hooks:
            self._hooks.pop().remove()
        self.calls.release()
        self.router.release()
        self._compiled.close()
