"""Calls of activation functions in a forward pass, each with the name of its site, in the hands of what wants them."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

from dropdiag.functional.dimensions import Dims
from dropdiag.functional.functions import DOUBTFUL, FUNCTIONS, Function, argument, bound
from dropdiag.functional.layers import Layer, Layers
from dropdiag.functional.producers import Producers, Trail
from dropdiag.functional.rules import RULES, elementwise
from dropdiag.model.activations import MIXING, Phi, is_activation
from dropdiag.model.dropouts import kind_of

_CHECKPOINT: Final = str(torch.utils.checkpoint.__file__)
_FRAMES: Final = 24
"""There are few frames between a graph that torch compiled and what runs it."""


class NamedCall(NamedTuple):
    """A call of an activation function in the forward method of a module.

    Attributes
    ----------
    layer : str
        Name of its site.
    function : Function
    activation : str
        The function's name with its settings.
    phi : callable or None
        The function of one tensor with these settings; None where there is no fixed one.
    module : nn.Module
        Whose method called.
    frame : FrameType
        Of the call.
    z : Tensor
    inplace : bool
    gate_dim : int or None
        See `dropdiag.model.sites.Site`.
    from_layer : bool
        Whether the site is named after the layer whose output `z` is, and not after the module alone.
    dims : tuple of int or None
        The dimensions of `z` that count nodes, from the end, where it is known where it comes from.
    """

    layer: str
    function: Function
    activation: str
    phi: Phi | None
    module: nn.Module
    frame: FrameType
    z: Tensor
    inplace: bool
    gate_dim: int | None
    from_layer: bool
    dims: Dims


class CallNames:
    """What the calls of functions in a model's forward passes are named: as a Recorder names them.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = Layers(model, ())
        self._names: dict[tuple[Layer | None, nn.Module, str], str] = {}
        self._own: dict[nn.Module, bool] = {}
        self._sites: set[str] = set()

    def pass_begins(self) -> None:
        """Look at the model again if modules came."""
        self.layers.pass_begins()
        if not self.layers.complete():
            self.layers.survey()
            self._names.clear()
            self._own.clear()

    def named(
        self,
        function: Function,
        frame: FrameType,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        producers: Producers,
    ) -> NamedCall | None:
        """Return a call that is about to be made; None where it is not of an activation, or part of a module's own."""
        module = self.layers.nearest(frame)
        z = args[0] if args else keywords.get("input")
        if module is None or function.of_masks or self._is_own(module) or not isinstance(z, Tensor):
            return None
        described = bound(function, args[1:], keywords)
        if described is None:
            return None
        activation, phi = described
        gated = function.name == "glu"
        trail = producers.trail(z)
        layer = self._site(trail, module, "glu" if gated else activation)
        # What nothing learned leads to is arithmetic: the angles of positions have a sine, too.
        if layer not in self._sites and function.name in DOUBTFUL and trail is None and not z.requires_grad:
            return None
        self._sites.add(layer)
        # inplace is the one flag among the positional arguments of these functions.
        inplace = function.inplace or bool(keywords.get("inplace")) or any(a is True for a in args[1:])
        gate_dim = int(argument(args[1:], keywords, 0, "dim", -1)) if gated else None
        from_layer = trail is not None and not trail.of_weight and trail.layer is not None
        dims = None if trail is None else trail.dims
        return NamedCall(layer, function, activation, phi, module, frame, z, inplace, gate_dim, from_layer, dims)

    def _site(self, trail: Trail | None, module: nn.Module, called: str) -> str:
        key = None if trail is None or trail.of_weight else trail.layer, module, called
        if key not in self._names:
            self._names[key] = self.layers.site_name(*key)
        return self._names[key]

    def _is_own(self, module: nn.Module) -> bool:
        """Whether the functions that a module calls are part of an activation or a mask of its own."""
        if module not in self._own:
            kind = kind_of(module)
            draws = kind is not None and kind.own_activations
            self._own[module] = draws or is_activation(module) or isinstance(module, MIXING)
        return self._own[module]


class FollowedCalls(TorchFunctionMode, ABC):
    """Intercepts the calls of activation functions in one pass, and follows tensors through all others.

    Parameters
    ----------
    names : CallNames
    """

    def __init__(self, names: CallNames) -> None:
        super().__init__()
        self.names = names
        self.producers = Producers(names.layers)

    @abstractmethod
    def made(self, call: NamedCall, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Make a call of an activation function, and return what it gives."""

    def traced(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Make a call in a part of the model that is being compiled, which is not seen."""
        return func(*args, **keywords)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``, or hand it over where it is an activation; follow its result."""
        keywords = kwargs or {}
        # A compiled part of the model is being traced, or its graph runs, which calls operators by their overloads.
        if torch.compiler.is_compiling():
            return self.traced(func, args, keywords)
        if type(func) is OpOverload and in_compiled_graph(sys._getframe(1)):
            return func(*args, **keywords)
        function = FUNCTIONS.get(func)
        call = None
        if function is not None:
            call = self.names.named(function, sys._getframe(1), args, keywords, self.producers)
        result = func(*args, **keywords) if call is None else self.made(call, func, args, keywords)
        rule = RULES.get(func) or (None if function is None else elementwise)
        if rule is not None:
            self.producers.follow(rule, args, keywords, result)
        return result


def is_checkpoint(code: CodeType) -> bool:
    """Whether code is that of `torch.utils.checkpoint`, which runs again what it calls."""
    return code.co_filename.endswith(_CHECKPOINT)


def in_checkpoint(frame: FrameType | None) -> bool:
    """Whether a call is made in what `torch.utils.checkpoint` runs."""
    while frame is not None:
        if is_checkpoint(frame.f_code):
            return True
        frame = frame.f_back
    return False


def in_compiled_graph(frame: FrameType | None) -> bool:
    """Whether an operator is called by a graph that torch compiled: what it is called for, nobody can tell."""
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if "_aot_autograd" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
