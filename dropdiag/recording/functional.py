"""Activation and dropout functions called as functions, seen through a TorchFunctionMode."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Final, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError
from dropdiag.model.activations import Activation, Phi, describe_function, is_activation, itself, register_module
from dropdiag.model.hook_base import InertHook
from dropdiag.model.sites import ACTIVATION, DROPOUT, Site, hint_of_children
from dropdiag.probes import Place
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, Taps

ACTIVATIONS: Final = (
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
)
DROPOUTS: Final = (
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
    "scaled_dot_product_attention",
)


class _Function(NamedTuple):
    name: str
    kind: str
    inplace: bool


def _every_spelling() -> dict[Callable[..., Any], _Function]:
    """Return each way to call one of the functions: ``F.relu``, ``torch.relu_``, ``x.relu()``, ..."""
    found: dict[Callable[..., Any], _Function] = {}
    for kind, names in ((ACTIVATION, ACTIVATIONS), (DROPOUT, DROPOUTS)):
        for name in names:
            for suffix in ("", "_"):
                for home in (F, torch, Tensor, torch._C._nn):
                    function = getattr(home, name + suffix, None)
                    if callable(function):
                        found.setdefault(function, _Function(name, kind, bool(suffix)))
    found[torch.special.expit] = _Function("sigmoid", ACTIVATION, inplace=False)
    found[F.glu] = _Function("glu", ACTIVATION, inplace=False)
    return found


FUNCTIONS: Final = _every_spelling()


F_ = TypeVar("F_", bound=Callable[..., Tensor])


@overload
def register_activation(target: type[nn.Module], base: Callable[[nn.Module], Phi] | None = ...) -> type[nn.Module]: ...
@overload
def register_activation(target: F_) -> F_: ...
def register_activation(target: Any, base: Any = itself) -> Any:
    """Make an activation of one's own known: a module class, or a function. May be used as a decorator.

    Parameters
    ----------
    target : type or callable
        An `nn.Module` class whose forward is one elementwise function of one tensor, or such a function.
    base : callable or None
        For a class: module -> the function by whose derivative saturation is judged. Default: the module's
        forward. ``None``: saturation is not judged, all else is recorded.

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

    FUNCTIONS[activation] = _Function(target.__name__, ACTIVATION, inplace=False)
    _OWN[target.__name__] = target
    return activation


_OWN: Final[dict[str, Callable[..., Tensor]]] = {}


class FunctionalCalls(TorchFunctionMode):
    """Intercepts functional activations during the model's forward pass, and attributes them to modules.

    A call belongs to the nearest module of the model on the Python call stack; its site is called
    ``MODULE:FUNCTION``, with the settings if there are any: ``block:leaky_relu(0.2)``. Calls that an activation
    module makes itself are that module's own. What is intercepted is called with the same arguments, and its
    result is returned as it is.

    Parameters
    ----------
    model : nn.Module
    taps : Taps
    skipped : callable
        Layer name -> why it is not recorded, or None.
    on_failure : callable
        Called with the layer and the exception where recording a call fails; no call is recorded after that.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Taps,
        skipped: Callable[[str], str | None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._taps, self._skipped, self._on_failure = taps, skipped, on_failure
        self._names = {id(module): name for name, module in model.named_modules()}
        self._known: dict[str, Activation | None] = {}
        self.places: dict[str, Place] = {}
        self.dropouts: dict[str, Site] = {}
        self.new: list[Place] = []
        self._entered = False
        self._failed = False
        self._thread = 0
        self._depth = 0
        self._armed: dict[int, tuple[tuple[InertHook, RemovableHandle], ...]] = {}

    @property
    def found(self) -> bool:
        """Whether there are functional activations to be recorded."""
        return bool(self.places)

    def begin(self) -> None:
        """Intercept from now on (the model's forward pass begins)."""
        if not self._entered:
            self._entered, self._thread = True, threading.get_ident()
            self.__enter__()  # type: ignore[no-untyped-call]
            self._taps.intercepting = True

    def nest(self, change: int) -> None:
        """Enter (1) or leave (-1) a module that runs again inside backward."""
        self._depth += change
        if self._depth == max(change, 0):
            self.begin() if change > 0 else self.end()

    def end(self) -> None:
        """Intercept no more. May be called again."""
        if self._entered and self._thread == threading.get_ident():  # modes belong to their thread
            self._entered = self._taps.intercepting = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``; where it is an activation, hand over its input and output."""
        function = FUNCTIONS.get(func)
        if function is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        keywords = dict(kwargs or {})
        if torch.compiler.is_compiling():  # a compiled part of the model is being traced
            return func(*args, **keywords)
        module = self._nearest(sys._getframe(1))
        if module is None:
            return func(*args, **keywords)
        if function.kind == DROPOUT:
            self._note_dropout(function, module, args, keywords)
            return func(*args, **keywords)
        if is_activation(module):
            return func(*args, **keywords)
        begun = clock()
        call = self._guarded(function, module, args, keywords)
        self._taps.cost.spent += clock() - begun
        result = func(*args, **keywords)
        if call is not None and isinstance(result, Tensor):
            begun = clock()
            self._taps.node_value(call, result)
            self._taps.cost.spent += clock() - begun
        return result

    def _nearest(self, frame: FrameType | None) -> nn.Module | None:
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                owner = frame.f_locals.get(code.co_varnames[0])
                if id(owner) in self._names and isinstance(owner, nn.Module):
                    return owner
            frame = frame.f_back
        return None

    def _guarded(
        self, function: _Function, module: nn.Module, args: Sequence[Any], keywords: dict[str, Any]
    ) -> Call | None:
        if self._failed:
            return None
        try:
            return self._before(function, module, args, keywords)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self._failed = True
            self._on_failure(self._layer(function, module), error)
            return None

    def _before(
        self, function: _Function, module: nn.Module, args: Sequence[Any], keywords: dict[str, Any]
    ) -> Call | None:
        z = args[0] if args else keywords.get("input")
        if not isinstance(z, Tensor) or not z.is_floating_point():
            return None
        place = self._taps.located(self._place(function, module, args[1:], keywords))
        if place.site.skipped is not None:
            return None
        if module.training and not torch.is_grad_enabled():
            self._arm(module)
        net, taps = place.site.net, self._taps
        call = taps.net_value(place, net(z), training=module.training, gradients=torch.is_grad_enabled())
        if call is not None:
            inplace = function.inplace or bool(keywords.get("inplace")) or any(a is True for a in args[1:])
            taps.watch(call, z, inplace=inplace)
        return call

    def _arm(self, module: nn.Module) -> None:
        """Intercept also where this module is run again inside a backward pass (a reentrant checkpoint)."""
        if id(module) not in self._armed:
            before, after = _Recomputation(self, begins=True), _Recomputation(self, begins=False)
            self._armed[id(module)] = (
                (before, module.register_forward_pre_hook(before, with_kwargs=True)),
                (after, module.register_forward_hook(after, with_kwargs=True, always_call=True)),
            )

    def release(self) -> None:
        """Intercept no more and take hooks off modules. May be called again."""
        self.end()
        while self._armed:
            for hook, handle in self._armed.popitem()[1]:
                hook.closed = True
                handle.remove()

    def _place(self, function: _Function, module: nn.Module, rest: Sequence[Any], keywords: dict[str, Any]) -> Place:
        name, phi = _bound(function, rest, keywords)
        layer = f"{self._names[id(module)] or '(model)'}:{'glu' if function.name == 'glu' else name}"
        if layer not in self.places:
            if name not in self._known:
                self._known[name] = None if phi is None else describe_function(name, phi)
            site = Site(
                layer=layer,
                kind=ACTIVATION,
                module=module,
                activation=name,
                functional=True,
                hint=hint_of_children(module),
                gate_dim=_gate(function, rest, keywords),
                skipped=self._skipped(layer),
            )
            self.places[layer] = Place(site, self._known[name])
            self.new.append(self.places[layer])
        return self.places[layer]

    def _note_dropout(
        self, function: _Function, module: nn.Module, args: Sequence[Any], keywords: dict[str, Any]
    ) -> None:
        layer = self._layer(function, module)
        attention = function.name == "scaled_dot_product_attention"
        rate = _argument(args, keywords, *((4, "dropout_p", 0.0) if attention else (1, "p", 0.5)))
        if rate and layer not in self.dropouts and type(module) not in _DROPOUT_MODULES:
            reason = f"a dropout (rate {rate}) is listed, not measured"
            self.dropouts[layer] = Site(layer, DROPOUT, module, functional=True, skipped=reason)

    def _layer(self, function: _Function, module: nn.Module) -> str:
        return f"{self._names[id(module)] or '(model)'}:{function.name}"


class _Recomputation(InertHook):
    """Hooks of a module whose functions ran without gradients: they are seen when it runs again in backward."""

    def __init__(self, calls: FunctionalCalls, *, begins: bool) -> None:
        self.calls, self.begins = calls, begins
        self.takes = 3 if begins else 4

    def hear(self, *_: Any) -> None:
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            return
        self.calls.nest(1 if self.begins else -1)


_DROPOUT_MODULES: Final = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def _argument(args: Sequence[Any], keywords: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else keywords.get(name, default)


def _gate(function: _Function, rest: Sequence[Any], keywords: Mapping[str, Any]) -> int | None:
    return int(_argument(rest, keywords, 0, "dim", -1)) if function.name == "glu" else None


def _bound(function: _Function, rest: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, Phi | None]:
    """Return the activation's name with its settings, and the function of one tensor that it is."""
    if function.name == "glu":
        return "sigmoid", torch.sigmoid
    settings = {k: v for k, v in keywords.items() if k not in ("input", "inplace")}
    positional = [v for v in rest if not isinstance(v, bool)]
    if any(isinstance(v, Tensor) for v in (*positional, *settings.values())):
        return function.name, None
    words = [*map(repr, positional), *(f"{k}={v!r}" for k, v in settings.items())]
    name = f"{function.name}({', '.join(words)})" if words else function.name
    plain: Callable[..., Tensor] = (
        _OWN.get(function.name) or getattr(F, function.name, None) or getattr(torch, function.name)
    )
    return name, lambda x: plain(x, *positional, **settings)
