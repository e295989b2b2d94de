"""The functions that are intercepted where a forward method calls them: activations, and dropouts of every kind."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_unary

from dropdiag.errors import ArgumentError
from dropdiag.model.activations import TORCH_ACTIVATIONS, Phi, own_forward, register_module
from dropdiag.model.dropouts import DROPOUT_KINDS, DropoutKind

# fmt: off
PARAMETERS: Final[dict[str, dict[str, float | str]]] = {
    "celu": {"alpha": 1.0}, "elu": {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}, "gelu": {"approximate": "none"},
    "hardshrink": {"lambd": 0.5}, "hardtanh": {"min_val": -1.0, "max_val": 1.0}, "leaky_relu": {"negative_slope": 0.01},
    "rrelu": {"lower": 1 / 8, "upper": 1 / 3}, "softplus": {"beta": 1.0, "threshold": 20.0},
    "softshrink": {"lambd": 0.5}, "threshold": {"threshold": math.nan, "value": math.nan},  # nan: it has no default
    "prelu": {"weight": math.nan}, "clamp": {"min": math.nan, "max": math.nan}, "clamp_min": {"min": math.nan},
    "clip": {"min": math.nan, "max": math.nan},
}
"""Settings of each function in their order, with their defaults; nothing else that it takes changes the function."""

_OTHER_NAMES: Final = {
    "expit": "sigmoid", "log_sigmoid": "logsigmoid", "arctan": "atan", "clamp_min": "clamp",
    "clip": "clamp",
}
# fmt: on
DOUBTFUL: Final = ("sin", "erf", "atan", "clamp")
"""Functions that are an activation in some networks and arithmetic in others (angles of positions, say)."""

MIXING_FUNCTIONS: Final = ("softmax", "softmin", "log_softmax")
"""Functions in which each node value depends on several net values: they are listed, not measured."""


class Function(NamedTuple):
    """A function that is intercepted: an activation, a dropout of a kind, or one that masks are made of by hand.

    Attributes
    ----------
    name : str
        One for all its spellings.
    inplace : bool
        Whether this spelling works in place.
    dropout : DropoutKind or None
    parameters : tuple of str
        Names of this spelling's settings, in their order.
    draws, compares : bool
        Whether it draws random numbers, or compares.
    """

    name: str
    inplace: bool = False
    dropout: DropoutKind | None = None
    parameters: tuple[str, ...] = ()
    draws: bool = False
    compares: bool = False

    @property
    def of_masks(self) -> bool:
        """Whether it is anything but an activation."""
        return self.dropout is not None or self.draws or self.compares


def _every_spelling() -> dict[Callable[..., Any], Function]:
    """Return each way to call one of the functions: ``F.relu``, ``torch.relu_``, ``x.relu()``, ..."""
    elementwise = [name for name in TORCH_ACTIVATIONS.values() if name is not None]
    names = {name: name for name in (*elementwise, "glu", *DOUBTFUL, *MIXING_FUNCTIONS)} | _OTHER_NAMES
    activations = [(spelt, name, None) for spelt, name in names.items()]
    dropouts = [(name, name, kind) for kind in DROPOUT_KINDS for name in kind.functions]
    found: dict[Callable[..., Any], Function] = {}
    for spelt, name, kind in (*activations, *dropouts):
        for suffix in ("", "_"):
            function = Function(name, bool(suffix), kind, tuple(PARAMETERS.get(spelt, ())))
            for called in _called(spelt + suffix):
                found.setdefault(called, function)
    return {**found, **_of_masks()}


def _called(name: str) -> Iterator[Callable[..., Any]]:
    """Give torch's functions of a name, operators and their overloads among them."""
    # torch._C._nn is private, but F.gelu and some others are its functions themselves and are called by it.
    for home in (F, torch, Tensor, torch.special, torch._C._nn):
        if callable(function := getattr(home, name, None)):
            yield function
    if (packet := getattr(torch.ops.aten, name, None)) is not None:
        yield packet
        yield from (getattr(packet, overload) for overload in packet.overloads())


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
    >>> @dd.register_activation
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

    FUNCTIONS[activation] = Function(target.__name__, parameters=tuple(p.name for p in _parameters(target)))
    _OWN[target.__name__] = target
    return activation


def argument(args: Sequence[Any], keywords: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    """Return a call's argument, by position or by name, or its default."""
    return args[position] if len(args) > position else keywords.get(name, default)


def bound(function: Function, rest: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, Phi | None] | None:
    """Return the activation's name with its settings, and the function of one tensor with these settings.

    Parameters
    ----------
    function : Function
    rest : sequence
        Positional arguments after the tensor.
    keywords : mapping

    Returns
    -------
    (str, callable or None) or None
        Two calls of one name are the same function, however they are spelt. No callable where a setting is a tensor,
        which may be learned, where nodes are mixed or slopes are drawn; None where the call is no activation: a clamp
        that does not cut at 0.
    """
    called, own = function.name, _OWN.get(function.name)
    if called == "glu":
        return "sigmoid", torch.sigmoid
    given = {**dict(zip(function.parameters, rest, strict=False)), **keywords}
    settings = _settings(given, PARAMETERS.get(called, {}) if own is None else _defaults(own, given))
    if called == "clamp" and settings.get("min") != 0:
        return None
    if called in (*MIXING_FUNCTIONS, "rrelu") or any(isinstance(value, Tensor) for value in settings.values()):
        return called, None
    plain: Callable[..., Tensor] = own or getattr(F, called, None) or getattr(torch, called)
    return _name(called, settings), functools.partial(plain, **settings) if settings else plain


def known_name(spelt: str) -> str:
    """Return the one name of a function for a spelling of it: ``relu`` for ``relu_``."""
    bare = spelt.removesuffix("_")
    return _OTHER_NAMES.get(bare, bare)


def _settings(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, in the function's order."""
    return {name: given[name] for name, usual in known.items() if not _equal(given.get(name, usual), usual)}


def _equal(value: object, usual: object) -> bool:
    # None is a bound that is not set. A setting without a default has NaN for one, which equals nothing.
    return value is None or value is usual or (not isinstance(value, Tensor) and bool(value == usual))


def _defaults(own: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a user's function with their defaults, NaN where there is none."""
    known = {p.name: math.nan if p.default is p.empty else p.default for p in _parameters(own)}
    return {**known, **{name: math.nan for name in given if name not in known}}


def _parameters(own: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return what a user's function takes by name, after its tensor."""
    _, *others = inspect.signature(own).parameters.values()
    return [p for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _name(called: str, settings: Mapping[str, Any]) -> str:
    """Return the name with its settings: numbers by position where nothing before them is left out, others by name."""
    places = () if called == "clamp" else tuple(PARAMETERS.get(called, ()))
    words = [
        _word(value) if places[i : i + 1] == (name,) and isinstance(value, (int, float)) else f"{name}={_word(value)}"
        for i, (name, value) in enumerate(settings.items())
    ]
    return f"{called}({', '.join(words)})" if words else called


def _word(value: object) -> str:
    # 2 and 2.0 are one setting
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)
