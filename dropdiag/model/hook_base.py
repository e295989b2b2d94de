"""Hooks that become no-ops in copies and pickles of a model and wherever torch moves them; models that they work on."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn
from torch.fx import _symbolic_trace
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError

# Private, as their public forms take five times as long, and every hook asks.
_jit_traces = torch._C._is_tracing
dispatch_modes = torch._C._len_torch_dispatch_stack
# Private, as the public question writes a warning into the log whenever it is asked. Before torch 2.14 it was a flag.
_fx_traces = getattr(_symbolic_trace, "_get_is_fx_tracing", lambda: _symbolic_trace._is_fx_tracing_flag)
# Private: there is no public question for which of torch's own modes are on.
_MODES_WITHOUT_VALUES: Final = tuple(
    getattr(torch._C._TorchDispatchModeKey, name) for name in ("FAKE", "PROXY", "FUNCTIONAL")
)


def makes_a_program() -> bool:
    """Whether this forward pass is no computation: it makes a program (export, ONNX, jit, fx) or looks for shapes.

    Nothing of ours may get into such a program, and its tensors have no values to record.
    """
    if _jit_traces() or _fx_traces():
        return True
    # Other modes, a counter of floating-point operations say, watch what is computed.
    return dispatch_modes() > 0 and any(torch._C._get_dispatch_mode(key) is not None for key in _MODES_WITHOUT_VALUES)


class DropdiagHook(ABC):
    """Base of all hooks that dropdiag puts on a model.

    Copies and pickles of a hooked model hold a builtin that does nothing in its place, so they load where dropdiag
    is not installed, and a copy (a moving average of the weights, say) adds nothing to the original's run.

    Attributes
    ----------
    n_args : int
        Number of arguments that torch calls the hook with, the way it was registered: four for a forward hook.
    closed : bool
        Whether it does nothing any more.
    on_failure : callable or None
        Called with the exception where what the hook does fails, so that the model's passes go on. None: it is raised.
    number : int
        By which torch knows it where it was put.
    """

    n_args: int = 4
    closed: bool = False
    number: int = -1
    on_failure: Callable[[Exception], None] | None = None
    _handle: RemovableHandle

    def __call__(self, *args: Any) -> None:
        """Take what torch gives to a hook."""
        # torch.ao.quantization.fuse_modules registers hooks again, without their keywords, on another module: with
        # another number of arguments this is no longer the place that the hook was made for.
        if len(args) != self.n_args or self.closed:
            return
        # First whether Dynamo traces this very code, as it cannot trace the other questions.
        if torch.compiler.is_dynamo_compiling():
            # Private: what torch.compiler.is_exporting() returns. Up to torch 2.9 Dynamo takes that call for True.
            if not torch.compiler._is_exporting_flag:
                self.trace(*args)
        elif not makes_a_program():
            try:
                self.fire(*args)
            except Exception as error:
                if self.on_failure is None:
                    raise
                self.on_failure(error)

    def attach(self, register: Callable[..., RemovableHandle], **options: bool) -> None:
        """Put the hook on a module or tensor by one of its ``register_...`` methods."""
        self._handle = register(self, **options)
        self.number = self._handle.id  # of its own, as Dynamo cannot trace a handle

    def remove(self) -> None:
        """Take the hook off again."""
        self.closed = True  # where torch moved the hook, removing its handle does nothing
        self._handle.remove()

    @property
    def __name__(self) -> str:
        """What `torch.jit.script` asks a hook for, to compile it."""
        raise AttributeError("a model with a Recorder on it cannot be scripted: close() the Recorder first")

    @abstractmethod
    def fire(self, *args: Any) -> None:
        """Do what the hook is for."""

    def trace(self, *args: Any) -> None:  # noqa: B027 - most are for no graph
        """Put what the hook is for into the graph that Dynamo makes of this very code, if it is for graphs at all."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A hook must be a callable that takes any arguments and returns None (anything else would replace the
        # module's input or output). sys.audit is such a builtin; pickle and deepcopy find it without dropdiag.
        return functools.partial, (sys.audit, "dropdiag.model.hook_base")


def eager(model: nn.Module) -> nn.Module:
    """Return the module inside a model that `torch.compile` wrapped, or the model itself."""
    # Private, but part of every name in a compiled model's state_dict, so it is not likely to change. Hooks go on the
    # module inside: those of the wrapper would run outside of the graph.
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def check_model(model: object) -> None:
    """Raise `ArgumentError` unless hooks on this model would run.

    Refused: what is no module, and what holds `nn.DataParallel` (its replicas share our hooks, in threads of their
    own) or scripted and traced modules (which run no Python hooks) anywhere.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"a Recorder takes an nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if reason := why_unhookable(module):
            raise ArgumentError(f"{name or 'the model'} {reason}")


def why_unhookable(module: nn.Module) -> str | None:
    """Return why our hooks would not run on a module as they should, None if they would."""
    if isinstance(module, nn.DataParallel):
        return (
            "is an nn.DataParallel, whose replicas run in threads of their own and cannot be recorded: "
            "use DistributedDataParallel, or record the module inside without it"
        )
    if isinstance(module, torch.jit.ScriptModule):
        # Private: torch.jit hands the name on without declaring it.
        how = "traced" if isinstance(module, torch.jit._trace.TracedModule) else "scripted"
        return f"is {how} and runs no Python hooks: record it before torch.jit, or leave it out of the model"
    return None
