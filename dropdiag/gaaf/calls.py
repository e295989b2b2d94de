"""GAAF in the place of functions that forward methods call: ``F.relu(x)``, ``torch.tanh(x)``, ``x.sigmoid_()``."""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, TypeAlias, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.functional.calls import CallNames, FollowedCalls, NamedCall, is_checkpoint
from dropdiag.functional.modes import put_lowest, take_off
from dropdiag.functional.replaced import ReplacesFunctions
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.functions import FunctionGAAFs, alike
from dropdiag.model.compiler import guard_hooks, release_hook_guards
from dropdiag.model.names import named_modules

Place: TypeAlias = tuple[int, CodeType, int]
"""Number of the calling module, its code, and where in it a function is called."""

_NOT_COMPILED: Final = (
    "GAAF takes the place of functions by intercepting their calls, which a graph of torch.compile or torch.export "
    "does not make: use modules (nn.ReLU() in the place of F.relu) and replace those, or run the model as it is"
)


class _Open(NamedTuple):
    """A module that runs, and the interception that began with it, if one did."""

    module: nn.Module
    mode: Intercepted | None


class FunctionCalls:
    """Puts GAAF in the place of the functions that one model calls, while it runs.

    Interception begins where the model is called, or one of its parts that calls such functions: what
    `torch.utils.checkpoint` runs again in the backward pass are parts.

    Parameters
    ----------
    model : nn.Module
    gaafs : FunctionGAAFs
    parts : sequence of nn.Module
        Parts of the model that are known to call functions; others are found as they do.
    """

    def __init__(self, model: nn.Module, gaafs: FunctionGAAFs, parts: Sequence[nn.Module]) -> None:
        self.model, self.gaafs = model, gaafs
        self.closed = self._told = False
        self.watched: list[nn.Module] = []
        self._begin_here()
        for module in (model, *parts):
            self.watch(module)

    def _begin_here(self) -> None:
        """Set up what belongs to this very model and process, and to no copy."""
        self._handles: list[RemovableHandle] = []
        self._names: CallNames | None = None
        self._places: defaultdict[Place, set[str]] = defaultdict(set)
        self._of_thread = threading.local()
        # Otherwise the graph of a like model would be used for this one, and nothing would be replaced.
        guard_hooks(load=True)
        self._guards = weakref.finalize(self, release_hook_guards)

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("model", "gaafs", "closed", "watched", "_told")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin_here()

    def watch(self, module: nn.Module) -> None:
        """Begin interception where this module is called, too."""
        if not any(known is module for known in self.watched):
            self.watched.append(module)
            self._handles.append(module.register_forward_pre_hook(_Begins(self), prepend=True))
            self._handles.append(module.register_forward_hook(_Ends(self), always_call=True))

    def release(self) -> None:
        """Let functions be what they are. May be called again."""
        self.closed = True
        while self._handles:
            self._handles.pop().remove()
        self.watched.clear()
        self._guards()

    @property
    def _open(self) -> list[_Open]:
        held: list[_Open] = vars(self._of_thread).setdefault("open", [])
        return held

    def begin(self, module: nn.Module) -> None:
        """Intercept from here on: a module is about to run."""
        if not any(known is module for known in self.watched):
            raise ArgumentError(
                f"a {type(module).__name__} runs with the hooks by which GAAF takes the place of functions, and is no "
                "part of the model that they were put on (a replica of nn.DataParallel, or a shallow copy): use "
                "copy.deepcopy, DistributedDataParallel, or modules such as nn.ReLU"
            )
        running = self._open
        if running and _times_running(running[0].module) <= (running[0].module is module):
            self._leave(0)  # torch runs no hook after a KeyboardInterrupt
        mode = None
        if not running:
            self._names = self._names or CallNames(self.model)
            self._names.pass_begins()
            mode = Intercepted(self, self._names, whole=module is self.model)
            put_lowest(mode)
        running.append(_Open(module, mode))

    def end(self, module: nn.Module) -> None:
        """Stop intercepting where that began with this module."""
        at = next((i for i, one in reversed([*enumerate(self._open)]) if one.module is module), None)
        if at is not None:
            self._leave(at)
        if module is self.model and not self._open and not self._told and sys.exc_info()[0] is None:
            self._told = True
            self._tell()

    def _leave(self, at: int) -> None:
        while len(self._open) > at:
            mode = self._open.pop().mode
            if mode is not None:
                take_off(mode)

    def _tell(self) -> None:
        missed = [name for name in self.gaafs.wanted if name not in self.gaafs.called]
        if missed and (self.gaafs.named or len(missed) == len(self.gaafs.wanted)):
            warnings.warn(
                f"no call of {', '.join(missed)} was seen in the model's first forward pass, so that GAAF takes the "
                "place of none: functions inside scripts and compiled parts are not seen",
                DropdiagWarning,
                stacklevel=2,
            )

    def gaaf_at(self, call: NamedCall, *, whole: bool) -> GAAF | None:
        """Return the GAAF for a call that is about to be made, None where the function is to stay.

        Parameters
        ----------
        call : NamedCall
        whole : bool
            Whether the model itself runs, and not a part of it alone, where the layers before it are not known.
        """
        if call.function.name not in self.gaafs.wanted:
            return None
        place, runs = _place(call)
        if runs is None:
            raise ArgumentError(
                f"{call.layer} is called in what torch.utils.checkpoint runs, outside of any module that is called "
                "there: GAAF would be lost where it runs again. Checkpoint a module (self.block and not a method or a "
                "closure), or leave checkpointing off"
            )
        if whole:
            self._places[place].add(call.layer)
            if id(runs) in self._known_modules():
                self.watch(runs)
            return self.gaafs.get(call.layer, call)
        return self._again(call, self._places.get(place, set()))

    def _again(self, call: NamedCall, seen: set[str]) -> GAAF | None:
        """Return the GAAF of a call in a part of the model that runs alone, or again in a backward pass."""
        if not seen or (call.layer in seen and (call.from_layer or len(seen) == 1)):
            return self.gaafs.get(call.layer, call)
        found = [gaaf for layer in sorted(seen) if (gaaf := self.gaafs.get(layer, call)) is not None]
        if found and not alike(found):
            raise ArgumentError(
                f"of {', '.join(sorted(seen))} it cannot be told which one a part of the model calls when it is run "
                "alone, or again by torch.utils.checkpoint, and their GAAFs differ: give them the same settings, or "
                "leave checkpointing off"
            )
        return found[0] if found else None

    def _known_modules(self) -> Mapping[int, str]:
        return {} if self._names is None else self._names.layers.names


class Intercepted(FollowedCalls):
    """One pass in which GAAF takes the place of functions."""

    def __init__(self, calls: FunctionCalls, names: CallNames, *, whole: bool) -> None:
        super().__init__(names)
        self._calls, self._whole = calls, whole
        self._spelt = tuple(calls.gaafs.spelt)

    def traced(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """See `FollowedCalls.traced`: a part of the model is compiled, which calls functions by themselves."""
        if getattr(func, "__name__", "") in self._spelt:
            _refuse_to_compile()
        return func(*args, **keywords)

    def made(self, call: NamedCall, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Call GAAF, or the function where none is wanted; an operation in place stays one."""
        plain = "out" in keywords or not call.z.is_floating_point()
        gaaf = None if plain else self._calls.gaaf_at(call, whole=self._whole)
        if gaaf is None:
            return func(*args, **keywords)
        if not call.inplace:
            return gaaf(call.z)
        return call.z.copy_(gaaf(call.z.clone()))  # which is needed again in the backward pass


class _Begins(ReplacesFunctions):
    """Forward pre-hook of a module: starts the interception."""

    def __init__(self, calls: FunctionCalls) -> None:
        self.calls = calls

    def replaced(self) -> Iterable[str]:
        """See `ReplacesFunctions.replaced`."""
        return self.calls.gaafs.at or self.calls.gaafs.wanted

    def __call__(self, module: nn.Module, _args: Any) -> None:
        if torch.compiler.is_compiling():  # where torch runs no hook after an exception
            _refuse_to_compile()
        elif not self.calls.closed:
            self.calls.begin(module)


class _Ends:
    """Forward hook of a module, called after an exception as well: ends the interception."""

    def __init__(self, calls: FunctionCalls) -> None:
        self.calls = calls

    def __call__(self, module: nn.Module, _args: Any, _output: Any) -> None:
        self.calls.end(module)


def calls_of(model: nn.Module) -> FunctionCalls | None:
    """Return what puts GAAF in the place of a model's functions, if anything does; wrappers do not count."""
    for name, module in named_modules(model):
        if name:
            break
        for hook in module._forward_pre_hooks.values():  # private, as torch has no public table of hooks
            if isinstance(hook, _Begins) and hook.calls.model is module:
                return hook.calls
    return None


def _refuse_to_compile() -> None:
    """Raise `ArgumentError` where a model is traced whose functions are replaced: in its graph they would not be."""
    if not torch.compiler.is_dynamo_compiling():  # torch.export without it
        raise ArgumentError(_NOT_COMPILED)
    from torch._dynamo.comptime import comptime  # noqa: PLC0415 - takes seconds; loaded already where code is traced

    comptime(_refuse)


def _refuse(_context: object) -> None:
    raise ArgumentError(_NOT_COMPILED)


def _place(call: NamedCall) -> tuple[Place, nn.Module | None]:
    """Return where a call is made, and the module whose call it is part of; None where a checkpoint comes between."""
    frame: FrameType | None = call.frame
    place: Place = id(call.module), call.frame.f_code, call.frame.f_lasti
    found = False
    while frame is not None:
        code = frame.f_code
        if not found and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is call.module:
            place, found = (id(call.module), code, frame.f_lasti), True
        if code.co_name == "_call_impl" and isinstance(module := frame.f_locals.get("self"), nn.Module):
            return place, module
        if is_checkpoint(code):
            return place, None
        frame = frame.f_back
    return place, call.module


def _times_running(module: nn.Module) -> int:
    """Return how often a module is being called right now, by this thread."""
    times, frame = 0, cast(FrameType | None, sys._getframe(1))
    while frame is not None:  # torch keeps no record of which module is running
        times += frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is module
        frame = frame.f_back
    return times
