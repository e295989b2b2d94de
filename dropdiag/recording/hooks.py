"""What is on a model while it is recorded: hooks, and the interception of functional calls.

No hook returns anything, keeps a tensor, or draws a random number, so the training is bit for bit what it
would be without.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError
from dropdiag.model.hook_base import InertHook
from dropdiag.model.sites import ACTIVATION, LAZY, OUTPUT, WEIGHT, layers_of_both_kinds
from dropdiag.probes import Place, Tap
from dropdiag.recording import compiled
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, Taps

NESTED: Final = 64
"""Calls of one activation that may be open inside each other. Bounded, as torch may have moved what ends them."""


class _ForwardBegins(InertHook):
    """Forward pre-hook of the model itself: calls are counted anew, functional calls are intercepted."""

    takes = 3

    def __init__(
        self,
        taps: Taps,
        calls: FunctionalCalls,
        port: compiled.Port,
        dropouts: Sequence[nn.Module],
        begins: Callable[[], None],
    ) -> None:
        self.taps, self.calls, self.port, self.dropouts, self.begins = taps, calls, port, dropouts, begins

    def hear(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            torch.ops.dropdiag.forward_begins(self.port.order, self.port.number)
            return
        if not self.taps.forward_begins():
            return  # the model calls itself
        self.begins()
        if self.taps.evaluating and any(dropout.training for dropout in self.dropouts):
            self.taps.masks_in_evaluation = True
        # Interception costs a little at every operator: where none was found, it is not for every step.
        if self.taps.active(module.training) and (self.taps.thorough or self.taps.evaluating or self.calls.found):
            self.calls.begin()


class _ForwardEnds(InertHook):
    """Forward hook of the model itself, called also after an exception."""

    takes = 4

    def __init__(self, taps: Taps, calls: FunctionalCalls, ends: Callable[[], None]) -> None:
        self.taps, self.calls, self.ends = taps, calls, ends

    def hear(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.ends()
            if self.taps.forward_ends():
                self.calls.end()


class _NetValue(InertHook):
    """Forward pre-hook of an activation: its input is z; a hook on the tensor z gives dL/dz.

    A hook on the tensor, not a full backward hook of the module, is right also where the activation works
    in place, and keeps the identity of the tensors.
    """

    takes = 3

    def __init__(self, taps: Taps, place: Place, pending: deque[Call | None], port: compiled.Port) -> None:
        self.taps, self.place, self.pending, self.port = taps, place, pending, port

    def hear(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            z = args[0] if args else kwargs["input"]
            compiled.trace_net_value(z, self.port, module.training, torch.is_grad_enabled())
            return
        begun = clock()
        z = args[0] if args and type(args[0]) is Tensor else next(_tensors((args, kwargs)), None)
        if z is None:
            return
        taps, place = self.taps, self.place
        if taps.hint is not None:
            place = taps.located(place)
        net = z if place.site.gate_dim is None else place.site.net(z)
        call = taps.net_value(place, net, training=module.training, gradients=torch.is_grad_enabled())
        self.pending.append(call)
        if call is not None:
            taps.watch(call, z, inplace=bool(getattr(module, "inplace", False)))
        taps.cost.spent += clock() - begun


class _NodeValue(InertHook):
    """Forward hook of an activation: its output is h."""

    takes = 4

    def __init__(self, taps: Taps, pending: deque[Call | None], port: compiled.Port) -> None:
        self.taps, self.pending, self.port = taps, pending, port

    def hear(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if torch.compiler.is_compiling():
            torch.ops.dropdiag.node_value(output.detach(), self.port.order, self.port.number)
            return
        call = self.pending.pop() if self.pending else None
        if call is not None and call.collector.wants(Tap.NODE_VALUE) and isinstance(output, Tensor):
            begun = clock()
            self.taps.node_value(call, output)
            self.taps.cost.spent += clock() - begun


class _Output(InertHook):
    """Forward hook of a module whose node values are its output: recurrent layers, attention."""

    takes = 4

    def __init__(self, taps: Taps, place: Place, port: compiled.Port) -> None:
        self.taps, self.place, self.port = taps, place, port

    def hear(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        h = output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output
        if torch.compiler.is_compiling():
            compiled.trace_output(h, self.port, module.training, torch.is_grad_enabled())
            return
        begun = clock()
        h = next(_tensors(h), None)
        if h is not None:
            self.taps.output(self.place, h, training=module.training, gradients=torch.is_grad_enabled())
        self.taps.cost.spent += clock() - begun


class _LastLayer(InertHook):
    """Forward hook of a layer: tells which dimension counts nodes in what it gave."""

    takes = 4

    def __init__(self, taps: Taps, hint: str) -> None:
        self.taps, self.hint = taps, hint

    def hear(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.taps.hint = self.hint


class _RawGradient(InertHook):
    """Hook on a weight, called each time a backward pass has added to its gradient."""

    takes = 1

    def __init__(self, taps: Taps, place: Place) -> None:
        self.taps, self.place = taps, place

    def hear(self, parameter: Tensor) -> None:
        begun = clock()
        self.taps.raw_weight_grad(self.place, parameter.grad)
        self.taps.cost.spent += clock() - begun


class Hooks:
    """All hooks on one model.

    Parameters
    ----------
    model : nn.Module
    places : sequence of Place
        Activations, modules with node values alone, and weights whose raw gradients are wanted.
    taps : Taps
    calls : FunctionalCalls
    dropouts : sequence of nn.Module
        Which are to be in evaluation mode inside evaluations.

    Raises
    ------
    ArgumentError
        If the model is one whose hooks would not run, or has these hooks already.
    """

    def __init__(
        self,
        model: nn.Module,
        places: Sequence[Place],
        taps: Taps,
        calls: FunctionalCalls,
        dropouts: Sequence[nn.Module] = (),
    ) -> None:
        check_model(model)
        model = eager(model)
        self._handles: list[RemovableHandle] = []
        self._hooks: list[InertHook] = []
        self._calls, self._taps = calls, taps
        self._watched: dict[Place, weakref.ref[Tensor] | None] = {}
        self._ports = compiled.Ports(model, taps)
        try:
            root = _ForwardBegins(taps, calls, self._ports.open(None), dropouts, self._watch_weights)
            self._add(model.register_forward_pre_hook, root)
            for layer, hint in layers_of_both_kinds(model):
                self._add(layer.register_forward_hook, _LastLayer(taps, hint))
            for place in places:
                self._attach(place, taps)
            self._watch_weights()
            self._add(model.register_forward_hook, _ForwardEnds(taps, calls, self._watch_weights), always_call=True)
        except BaseException:
            self.remove()
            raise

    def _attach(self, place: Place, taps: Taps) -> None:
        module, port = place.site.module, self._ports.open(place)
        if place.site.kind == ACTIVATION:
            pending: deque[Call | None] = deque(maxlen=NESTED)
            self._add(module.register_forward_pre_hook, _NetValue(taps, place, pending, port))
            self._add(module.register_forward_hook, _NodeValue(taps, pending, port), always_call=True)
        elif place.site.kind == OUTPUT:
            self._add(module.register_forward_hook, _Output(taps, place, port))
        elif place.site.kind == WEIGHT:
            self._watched[place] = None

    def _watch_weights(self) -> None:
        """Put hooks on weights that take gradients by now: a frozen, lazy or exchanged one may do so later."""
        for place, watched in self._watched.items():
            now = place.site.module._parameters.get(place.site.parameter)
            ready = now is not None and now.is_leaf and now.requires_grad
            if now is None or not ready or isinstance(now, UninitializedParameter):
                continue
            late_bias = place.site.skipped == LAZY and now.ndim < 2
            if late_bias or (watched is not None and watched() is now):
                continue
            hook = _RawGradient(self._taps, place)
            handle = now.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
            self._handles.append(handle)
            self._hooks.append(hook)
            self._watched[place] = weakref.ref(now)

    def _add(self, register: Callable[..., RemovableHandle], hook: InertHook, **options: bool) -> None:
        self._handles.append(register(hook, with_kwargs=True, **options))
        self._hooks.append(hook)

    def remove(self) -> None:
        """Take everything off the model. May be called again."""
        while self._handles:
            self._handles.pop().remove()
        while self._hooks:
            self._hooks.pop().closed = True
        self._calls.release()
        self._taps.release()
        self._ports.close()


def eager(model: nn.Module) -> nn.Module:
    """Return the module inside a model that `torch.compile` wrapped, or the model itself."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def check_model(model: object) -> None:
    """Raise `ArgumentError` unless hooks on this model would run.

    Refused: what is no module, `nn.DataParallel` (its replicas run no hooks of ours), scripted modules, a model
    that has a Recorder.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"a Recorder takes an nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise ArgumentError("nn.DataParallel cannot be recorded: use DistributedDataParallel, or the module inside")
    for name, module in model.named_modules():
        what = name or "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise ArgumentError(f"{what} is scripted and runs no Python hooks: record it before jit.script")
        if any(isinstance(hook, InertHook) and not hook.closed for hook in module._forward_pre_hooks.values()):
            raise ArgumentError(f"{what} has a Recorder already: close() that one first")


def _tensors(nested: Any) -> Iterator[Tensor]:
    """Give the tensors of nested containers, depth first; a PackedSequence is its data."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, PackedSequence):
        yield nested.data
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from _tensors(value)
    elif isinstance(nested, (tuple, list)):
        for value in nested:
            yield from _tensors(value)
