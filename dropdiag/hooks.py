"""Hooks on a model's activation modules: what passes there goes to a sink, and nothing else happens.

No hook returns anything, keeps a tensor, or draws a random number, so the training is bit for bit what it
would be without.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError
from dropdiag.probes import Place, Tap


class Sink(Protocol):
    """Where the tensors go."""

    def forward_begins(self) -> None:
        """Say that the model's own forward pass begins."""

    def wants(self, tap: Tap, training: bool) -> bool:
        """Whether a tensor of this kind is of use now, in a module that is in training mode or not."""

    def open(self, tap: Tap, place: Place, call: int, training: bool) -> None:
        """Say that a tensor of this kind may come: if it does not, it is missing rather than zero."""

    def feed(self, tap: Tap, place: Place, call: int, training: bool, tensor: Tensor) -> None:
        """Take in a tensor."""

    def next_call(self, place: Place) -> int:
        """Return how often the place was called in this forward pass, and count one more."""


class InertHook:
    """Base of our hooks: copies and pickles of a hooked model hold a builtin that does nothing in their place.

    `sys.audit` takes any arguments, returns None, and needs no dropdiag to be loaded.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (sys.audit, "dropdiag.inert")


class _ModelHook(InertHook):
    """Forward pre-hook of the model itself."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.sink.forward_begins()


class _InputHook(InertHook):
    """Forward pre-hook of an activation: its input is z; a hook on the tensor z gives dL/dz.

    A hook on the tensor, not a full backward hook of the module, is right also where the activation works
    in place, and keeps the identity of the tensors.
    """

    def __init__(self, sink: Sink, place: Place, calls: list[int]) -> None:
        self.sink, self.place, self.calls = sink, place, calls

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        z = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        if z is None:
            return
        sink, place, training = self.sink, self.place, module.training
        call = sink.next_call(place)
        self.calls.append(call)
        if sink.wants(Tap.NET_VALUE, training):
            sink.feed(Tap.NET_VALUE, place, call, training, z)
        if training and torch.is_grad_enabled() and sink.wants(Tap.NET_GRAD, training):
            sink.open(Tap.NET_GRAD, place, call, training)
            if z.requires_grad:
                z.register_hook(  # type: ignore[no-untyped-call]
                    lambda g: sink.feed(Tap.NET_GRAD, place, call, training, g)
                )


class _OutputHook(InertHook):
    """Forward hook of an activation: its output is h."""

    def __init__(self, sink: Sink, place: Place, calls: list[int]) -> None:
        self.sink, self.place, self.calls = sink, place, calls

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = self.calls.pop() if self.calls else 0
        if isinstance(output, Tensor) and self.sink.wants(Tap.NODE_VALUE, module.training):
            self.sink.feed(Tap.NODE_VALUE, self.place, call, module.training, output)


class Hooks:
    """All hooks on one model.

    Parameters
    ----------
    model : nn.Module
    places : sequence of Place
        Activation sites to be hooked.
    sink : Sink

    Raises
    ------
    ArgumentError
        If the model is one whose hooks would not run, or has these hooks already.
    """

    def __init__(self, model: nn.Module, places: Sequence[Place], sink: Sink) -> None:
        check_model(model)
        self._handles: list[RemovableHandle] = []
        try:
            self._add(model.register_forward_pre_hook, _ModelHook(sink))
            for place in places:
                calls: list[int] = []
                self._add(place.site.module.register_forward_pre_hook, _InputHook(sink, place, calls))
                self._add(place.site.module.register_forward_hook, _OutputHook(sink, place, calls))
        except BaseException:
            self.remove()
            raise

    def _add(self, register: Callable[..., RemovableHandle], hook: InertHook) -> None:
        self._handles.append(register(hook, with_kwargs=True))

    def remove(self) -> None:
        """Take every hook off the model. May be called again."""
        while self._handles:
            self._handles.pop().remove()


def check_model(model: object) -> None:
    """Raise `ArgumentError` unless hooks on this model would run.

    Refused: what is no module, `nn.DataParallel` (its replicas run no hooks of ours), scripted modules,
    compiled modules, a model that has a Recorder.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"a Recorder takes an nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise ArgumentError("nn.DataParallel cannot be recorded: use DistributedDataParallel, or the module inside")
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise ArgumentError("a model compiled by torch.compile cannot be recorded yet: attach to the eager model")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ArgumentError(
                f"{name or 'the model'} is scripted and runs no Python hooks: record it before jit.script"
            )
        if any(isinstance(hook, InertHook) for hook in module._forward_pre_hooks.values()):
            raise ArgumentError(f"{name or 'the model'} has a Recorder already: close() that one first")
