"""The functions that are intercepted where a forward method calls them: activations, and dropouts of every kind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_unary

from dropdiag.errors import ArgumentError
from dropdiag.model.activations import TORCH_ACTIVATIONS, Phi, own_forward, register_module
from dropdiag.model.dropouts import DROPOUT_KINDS, DropoutKind


class Function(NamedTuple):
    """A function that is intercepted: an activation, a dropout of a kind, or one that masks are made of by hand."""

    name: str
    inplace: bool = False
    dropout: DropoutKind | None = None
    draws: bool = False
    compares: bool = False

    @property
    def of_masks(self) -> bool:
        """Whether it is anything but an activation."""
        return self.dropout is not None or self.draws or self.compares


def _every_spelling() -> dict[Callable[..., Any], Function]:
    """Return each way to call one of the functions: ``F.relu``, ``torch.relu_``, ``x.relu()``, ..."""
    activations = [(name, None) for name in TORCH_ACTIVATIONS.values() if name is not None]
    dropouts = [(name, kind) for kind in DROPOUT_KINDS for name in kind.functions]
    found: dict[Callable[..., Any], Function] = {}
    for name, kind in (*activations, *dropouts):
        for suffix in ("", "_"):
            # torch._C._nn is private, but F.gelu and some others are its functions themselves and are called by it.
            for home in (F, torch, Tensor, torch._C._nn):
                function = getattr(home, name + suffix, None)
                if callable(function):
                    found.setdefault(function, Function(name, bool(suffix), kind))
    return {**found, **_of_masks(), torch.special.expit: Function("sigmoid"), F.glu: Function("glu")}


def _of_masks() -> dict[Callable[..., Any], Function]:
    """Return what masks are made of by hand: draws of zeros and ones, uniform numbers, comparisons."""
    zeros_and_ones, uniform = Function("bernoulli", draws=True), Function("rand", draws=True)
    found: dict[Callable[..., Any], Function] = {}
    found |= dict.fromkeys((torch.bernoulli, Tensor.bernoulli, Tensor.bernoulli_), zeros_and_ones)
    found |= dict.fromkeys((torch.rand, torch.rand_like, Tensor.uniform_), uniform)
    for name in ("lt", "le", "gt", "ge"):
        spellings = (getattr(torch, name), getattr(Tensor, name), getattr(Tensor, f"__{name}__"))
        found |= dict.fromkeys(spellings, Function(name, compares=True))
    return found


FUNCTIONS: Final = _every_spelling()
PYTHON_FUNCTIONS: Final = {name: kind for kind in DROPOUT_KINDS for name in kind.python_functions}
"""Dropouts of other libraries that are functions, by the name of the function that calls ``bernoulli_``."""
_OWN: Final[dict[str, Callable[..., Tensor]]] = {}  # functions of users, by name


F_ = TypeVar("F_", bound=Callable[..., Tensor])


@overload
def register_activation(target: type[nn.Module], base: Callable[[nn.Module], Phi] | None = ...) -> type[nn.Module]: ...
@overload
def register_activation(target: F_) -> F_: ...
def register_activation(target: Any, base: Any = own_forward) -> Any:
    """Make an activation of your own known: a module class, or a function. Can be used as a decorator.

    Parameters
    ----------
    target : type or callable
        An `nn.Module` class whose forward is one elementwise function of one tensor, or such a function.
    base : callable or None
        For a class: module -> the function whose derivative decides where the module is saturated. Default: the
        module's forward. ``None``: saturation is not judged, everything else is recorded.

    Returns
    -------
    type or callable
        The class itself; for a function, the function to be called instead, under the same name.

    Raises
    ------
    ArgumentError
        If ``target`` is neither.

    Examples
    --------
    >>> @register_activation
    ... def swish(x, beta=1.0):
    ...     return x * torch.sigmoid(beta * x)
    """
    if isinstance(target, type) and issubclass(target, nn.Module):
        register_module(target, base)
        return target
    if isinstance(target, type) or not callable(target):
        raise ArgumentError(f"register_activation takes an nn.Module class or a function of a tensor, got {target!r}")

    @functools.wraps(target)
    def activation(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_unary(x):
            return handle_torch_function(activation, (x,), x, *args, **kwargs)
        return target(x, *args, **kwargs)

    FUNCTIONS[activation] = Function(target.__name__)
    _OWN[target.__name__] = target
    return activation


def argument(args: Sequence[Any], keywords: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    """Return a call's argument, by position or by name, or its default."""
    return args[position] if len(args) > position else keywords.get(name, default)


def bound(function: Function, rest: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, Phi | None]:
    """Return the activation's name with its settings, and the function of one tensor with these settings."""
    called = function.name
    if called == "glu":
        return "sigmoid", torch.sigmoid
    settings = {k: v for k, v in keywords.items() if k not in ("input", "inplace")}
    positional = [v for v in rest if not isinstance(v, bool)]
    if any(isinstance(v, Tensor) for v in (*positional, *settings.values())):
        return called, None
    words = [*map(repr, positional), *(f"{k}={v!r}" for k, v in settings.items())]
    plain: Callable[..., Tensor] = _OWN.get(called) or getattr(F, called, None) or getattr(torch, called)
    name = f"{called}({', '.join(words)})" if words else called
    return name, lambda x: plain(x, *positional, **settings)
