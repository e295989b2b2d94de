"""Forward passes of a model under fresh dropout masks, at fixed input, that leave no trace in it."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils.spectral_norm import SpectralNorm

from dropdiag.errors import ArgumentError
from dropdiag.model.dropouts import inverted_variance, mask_variance_of, rate_of, settable_rates
from dropdiag.model.hook_base import DropdiagHook, eager
from dropdiag.model.sites import ACTIVATION, LayerPatterns, Site, select, survey

CallKey: TypeAlias = tuple[str, int]
"""Layer and call index."""
NetHook: TypeAlias = Callable[[CallKey, Tensor], None]
T = TypeVar("T")

_CONVOLUTIONS: Final = nn.modules.conv._ConvNd
_LAYERS: Final = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


@dataclass
class MaskedLayer:
    """A layer whose output is a net value, right behind a dropout.

    Attributes
    ----------
    x : Tensor
        The layer's input when no mask is drawn.
    variance : float
        Of the factor by which the dropout multiplies each input, independently.
    layer : nn.Module
    call : int
        Call index of the layer.
    """

    x: Tensor
    variance: float
    layer: nn.Module
    call: int


class _Marks(Generic[T]):
    """What is known of tensors, each until an operation in place changes it."""

    def __init__(self) -> None:
        # Tensors are found again by their id(). They are held here, as the id of a freed one may be given to another.
        self._marks: dict[int, tuple[Tensor, int, T]] = {}

    def put(self, tensor: Tensor, mark: T) -> None:
        self._marks[id(tensor)] = tensor, _version(tensor), mark

    def get(self, tensor: Tensor) -> T | None:
        held, version, mark = self._marks.get(id(tensor), (tensor, None, None))
        return mark if _version(held) == version else None


@dataclass
class _Watch:
    """Hooks of one pass, and what they have seen."""

    on_net: NetHook
    links: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    layer_calls: Counter[int] = field(default_factory=Counter)
    masked: _Marks[float] = field(default_factory=_Marks)
    linear: _Marks[MaskedLayer] = field(default_factory=_Marks)
    masked_layers: dict[CallKey, MaskedLayer] = field(default_factory=dict)

    def net_value(self, site: Site, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of an activation."""
        z = _input(args, kwargs)
        if z is None:
            return
        key = site.layer, self.calls[site.layer]
        self.calls[site.layer] += 1
        if (layer := self.linear.get(z)) is not None:
            self.masked_layers[key] = layer
        net = site.net(z.detach())
        self.on_net(key, net.cpu() if net.device.type == "mps" else net)  # there is no float64 on MPS

    def place_dropout(self, p: float, _module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> Tensor:
        """Forward hook of an activation: puts a dropout behind it."""
        dropped = F.dropout(h, p, training=True)
        if self.links:
            self.masked.put(dropped, inverted_variance(p))
        return dropped

    def dropout(
        self, variance: Callable[[float], float], module: nn.Module, _args: tuple[Any, ...], output: Tensor
    ) -> None:
        """Forward hook of a dropout."""
        self.masked.put(output, variance(rate_of(module)))

    def layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Forward hook of a layer that has a closed form."""
        call = self.layer_calls[id(module)]
        self.layer_calls[id(module)] += 1
        x = _input(args, kwargs)
        variance = None if x is None else self.masked.get(x)
        if x is not None and variance is not None and math.isfinite(variance):
            self.linear.put(output, MaskedLayer(x, variance, module, call))


class MaskedPasses:
    """Passes of one batch through a model, each under fresh masks.

    Parameters
    ----------
    model : nn.Module
    batch : Tensor, sequence or mapping
        What the model is called with: one argument, several, or named ones. Every pass gets copies of its tensors.
    p : float, optional
        Dropout rate to measure at. A model with dropout modules (also attention and recurrent layers with a rate) takes
        it in each of them; one without gets a dropout on the node values of every activation. Without `p` the model's
        own rates hold.
    include, exclude : pattern or patterns, optional
        Which activations are watched.

    Attributes
    ----------
    sites : list of Site
        The activation modules that are watched.

    Raises
    ------
    ArgumentError
        For a rate outside [0, 1), a model without activation modules, one with lazy modules that have no values yet, or
        a rate for a model that draws random numbers outside of its dropout modules.

    Notes
    -----
    Passes run eagerly and without gradients in training mode, so that every kind of dropout draws (also those that are
    no modules), but batch norms and spectral norms stay in evaluation mode. Afterwards training flags, buffers, rates
    and torch's random number generators are what they were; a Recorder on the model sees nothing of it.
    """

    def __init__(
        self, model: nn.Module, batch: object, p: float | None, include: LayerPatterns, exclude: LayerPatterns
    ) -> None:
        if p is not None and not (isinstance(p, (int, float)) and 0 <= p < 1):
            raise ArgumentError(f"p must be a dropout rate in [0, 1), got {p!r}")
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model must be an nn.Module, got {type(model).__name__}")
        self.model = eager(model)
        tensors = (*self.model.parameters(), *self.model.buffers())
        if any(isinstance(t, (UninitializedParameter, UninitializedBuffer)) for t in tensors):
            raise ArgumentError("the model has lazy modules without values: run it once before it is measured")
        self.batch, self.p = batch, p
        everything = [s for s in survey(self.model) if s.kind == ACTIVATION and s.skipped is None]
        if not everything:
            raise ArgumentError(
                "the model has no activation modules to watch (functions such as F.relu are not seen here: use nn.ReLU)"
            )
        self.sites = [s for s in select(everything, include, exclude) if s.skipped is None]
        self._rates = settable_rates(self.model)
        self._placed = everything if p is not None and not self._rates else []
        if p is not None:
            self._check_that_p_is_all()

    def _check_that_p_is_all(self) -> None:
        """Refuse a rate where masks are drawn that it does not reach."""
        # At rate 0 torch's dropouts draw nothing: whatever moves the generator then is out of p's reach.
        with self.ready(0, rate=0.0):
            before = torch.default_generator.get_state()
            self._call()
            if not torch.equal(before, torch.default_generator.get_state()):
                raise ArgumentError(
                    "the model draws random numbers outside of its dropout modules (F.dropout, DropPath or the like), "
                    "which p= does not reach; leave p= out to measure at the model's own rates"
                )

    @contextmanager
    def ready(self, seed: int, *, rate: float | None = None) -> Iterator[Callable[[NetHook, int], None]]:
        """Prepare the model; give a function that makes passes.

        Parameters
        ----------
        seed : int
            Of the masks; the same seed gives the same masks.
        rate : float, optional
            In place of `p`.

        Yields
        ------
        callable
            Of (on_net, masks): makes so many passes from the seed on, calling ``on_net`` with each net value.
        """
        tensors = (*self.model.parameters(), *self.model.buffers())
        devices = sorted({t.device.index for t in tensors if t.is_cuda})
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            _put_back_at_end(self.model, stack)
            stack.enter_context(torch.random.fork_rng(devices=devices))
            if any(t.device.type == "mps" for t in tensors):
                stack.callback(torch.mps.set_rng_state, torch.mps.get_rng_state())
            self._set_modes(self.p if rate is None else rate)

            def passes(on_net: NetHook, masks: int) -> None:
                # torch.manual_seed() would seed the generators of all devices, those that are not forked as well.
                torch.default_generator.manual_seed(seed)
                for device in devices:
                    torch.cuda.default_generators[device].manual_seed(seed)
                if any(t.device.type == "mps" for t in tensors):
                    torch.mps.manual_seed(seed)
                for _ in range(masks):
                    self._once(on_net)

            yield passes

    def masked_layers(self, seed: int) -> dict[CallKey, MaskedLayer]:
        """Return where a dropout comes right before the layer of a net value, with the layer's input without masks.

        Found from the tensors of one pass: what the dropout gives is what the layer takes, and what that gives is
        what the activation takes, with nothing done to it in between.
        """
        with self.ready(seed):
            found = self._once(lambda _key, _z: None, links=True).masked_layers
            if not found:
                return {}
            for module in self.model.modules():  # not eval(): models override train(), say to keep parts frozen
                module.training = False
            return self._with_inputs(found)

    def _with_inputs(self, found: dict[CallKey, MaskedLayer]) -> dict[CallKey, MaskedLayer]:
        layers = {id(masked.layer): masked.layer for masked in found.values()}
        inputs: dict[int, list[Tensor]] = {at: [] for at in layers}

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = _input(args, kwargs)
            inputs[id(module)].append(torch.empty(0) if x is None else x.detach().clone())

        with ExitStack() as hooks:  # a hook's handle is a context that takes it off
            for layer in layers.values():
                hooks.enter_context(layer.register_forward_pre_hook(keep, with_kwargs=True))
            self._call()
        return {
            key: replace(masked, x=inputs[id(masked.layer)][masked.call])
            for key, masked in found.items()
            if masked.call < len(inputs[id(masked.layer)])  # some models leave layers out at random
        }

    def _set_modes(self, rate: float | None) -> None:
        # A parametrisation in training mode may have side effects of its own, as spectral norm does.
        lists = [part for m in self.model.modules() for part in getattr(m, "parametrizations", {}).values()]
        still = {id(part) for listed in lists for part in listed.modules()}
        for module in self.model.modules():
            module.training = id(module) not in still and not _stays_in_evaluation(module)
        for module, attribute in self._rates if rate is not None else ():
            setattr(module, attribute, rate)

    def _once(self, on_net: NetHook, *, links: bool = False) -> _Watch:
        watch = _Watch(on_net, links)
        with ExitStack() as hooks:
            for s in self.sites:
                hook = partial(watch.net_value, s)
                hooks.enter_context(s.module.register_forward_pre_hook(hook, with_kwargs=True))
            for s in self._placed:
                hooks.enter_context(s.module.register_forward_hook(partial(watch.place_dropout, self.p or 0.0)))
            for module in self.model.modules() if links else ():
                if (variance := mask_variance_of(module)) is not None:
                    hooks.enter_context(module.register_forward_hook(partial(watch.dropout, variance)))
                elif _has_closed_form(module):
                    hooks.enter_context(module.register_forward_hook(watch.layer, with_kwargs=True))
            self._call()
        return watch

    def _call(self) -> None:
        batch = _copied(self.batch)
        # Hooks come and go: whatever of the model is compiled would be compiled again for each pass.
        with torch.compiler.set_stance("force_eager"):
            if isinstance(batch, Mapping):
                self.model(**batch)
            elif isinstance(batch, (tuple, list)):
                self.model(*batch)
            else:
                self.model(batch)


def _stays_in_evaluation(module: nn.Module) -> bool:
    """Whether a module does more in training mode than to draw masks: change its state, or other noise."""
    if isinstance(module, (nn.modules.batchnorm._NormBase, nn.RReLU)):
        return True
    # The old spectral norm takes its step of the power iteration in a forward pre-hook, which this private table shows.
    return any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())


def _has_closed_form(module: nn.Module) -> bool:
    """Whether a layer is torch's own w x + b, in which each input is in one product of a net value only."""
    if isinstance(module, _CONVOLUTIONS) and module.padding_mode != "zeros":
        return False
    return any(type(module).forward is kind.forward for kind in _LAYERS)


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return a module's tensor argument: the first, by position or by name."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # private; tensors of inference mode have none


def _copied(nested: Any) -> Any:
    """Return the same with copies of its tensors, as a model may work on its input in place."""
    if isinstance(nested, Tensor):
        return nested.detach().clone()
    if isinstance(nested, Mapping):
        return {name: _copied(value) for name, value in nested.items()}
    if isinstance(nested, tuple) and hasattr(nested, "_fields"):
        return type(nested)(*map(_copied, nested))
    return type(nested)(map(_copied, nested)) if isinstance(nested, (tuple, list)) else nested


def _put_back_at_end(model: nn.Module, stack: ExitStack) -> None:
    """Take a Recorder's hooks off a model; put them, dropout rates, modes and buffers back when the stack unwinds."""
    for module, name in settable_rates(model):
        stack.callback(setattr, module, name, getattr(module, name))
    for module in model.modules():
        stack.callback(setattr, module, "training", module.training)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                stack.callback(_put_back, module, name, buffer, buffer.detach().clone(), _version(buffer))
        # A Recorder's hooks come off by hand and go back into their old places: removing and registering them again
        # would change their order among the user's own, and need their handles.
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            ours = [number for number, hook in hooks.items() if isinstance(hook, DropdiagHook)]
            if ours:
                stack.callback(hooks.update, OrderedDict(hooks))
                stack.callback(hooks.clear)  # called before the update: the last callback comes first
            for number in ours:
                del hooks[number]


def _put_back(module: nn.Module, name: str, buffer: Tensor, value: Tensor, version: int) -> None:
    module._buffers[name] = buffer
    if _version(buffer) != version:  # writing to a buffer that a user's graph has saved breaks its backward
        buffer.copy_(value)
