"""Forward passes of a model under fresh dropout masks, at fixed input, that leave no trace in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm

from dropdiag.errors import ArgumentError
from dropdiag.measure.random_states import RandomStates, same_states
from dropdiag.measure.rates import Rates, Unmasked, close, tensors_in
from dropdiag.measure.working_copy import WorkingCopy
from dropdiag.model.dropouts import inverted_variance, mask_variance_of, rate_of
from dropdiag.model.hook_base import eager
from dropdiag.model.inserted import follow_modes, named_inserted
from dropdiag.model.sites import ACTIVATION, LayerPatterns, Site, select, survey

CallKey: TypeAlias = tuple[str, int]
"""Layer and call index."""
NetHook: TypeAlias = Callable[[CallKey, Tensor], None]
Watch: TypeAlias = Callable[[ExitStack], None]
"""Puts hooks on modules for one pass, onto the stack that takes them off."""
T = TypeVar("T")

_NOT_REACHED: Final = "p= does not reach it; leave p= out to measure at the model's own rates"
_PASSES_AT_ZERO: Final = 64
"""So many at least, where random numbers are drawn at rate 0: they may have no effect, or a rare one."""

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
class _Links:
    """Which layers come right behind a dropout and right before a net value, seen in one pass."""

    calls: Counter[int] = field(default_factory=Counter)
    masked: _Marks[float] = field(default_factory=_Marks)
    linear: _Marks[MaskedLayer] = field(default_factory=_Marks)
    found: dict[CallKey, MaskedLayer] = field(default_factory=dict)

    def dropout(
        self, variance: Callable[[float], float], module: nn.Module, _args: tuple[Any, ...], output: Tensor
    ) -> None:
        """Forward hook of a dropout."""
        if module.training:
            self.masked.put(output, variance(rate_of(module)))

    def layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """Forward hook of a layer that has a closed form."""
        call = self.calls[id(module)]
        self.calls[id(module)] += 1
        x = _input(args, kwargs)
        variance = None if x is None else self.masked.get(x)
        if x is not None and variance is not None and math.isfinite(variance):
            self.linear.put(output, MaskedLayer(x, variance, module, call))

    def watch(self, modules: Iterable[nn.Module], hooks: ExitStack) -> None:
        """Put hooks on dropouts and layers for one pass."""
        for module in modules:
            if (variance := mask_variance_of(module)) is not None:
                hooks.enter_context(module.register_forward_hook(partial(self.dropout, variance)))
            elif _has_closed_form(module):
                hooks.enter_context(module.register_forward_hook(self.layer, with_kwargs=True))


@dataclass
class _NetValues:
    """The net values of a pass, and which of another pass are not the same."""

    kept: dict[CallKey, Tensor] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)

    def keep(self, key: CallKey, z: Tensor) -> None:
        self.kept[key] = z.clone()

    def compare(self, key: CallKey, z: Tensor) -> None:
        if key not in self.kept or not close(self.kept[key], z):
            self.differs.append(key[0])


@dataclass
class _Outputs:
    """Sums over what each module takes and gives, in the order in which they end: enough to tell two passes apart."""

    calls: list[tuple[str, list[float], list[float]]] = field(default_factory=list)

    def watch(self, modules: Mapping[str, nn.Module], hooks: ExitStack) -> None:
        """Put hooks on all modules for one pass."""
        for name, module in modules.items():
            taken: list[list[float]] = []
            hooks.enter_context(module.register_forward_pre_hook(partial(self._before, taken), with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(partial(self._after, name, taken)))

    def _before(self, taken: list[list[float]], _m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken.append(_sums((*args, *kwargs.values())))

    def _after(self, name: str, taken: list[list[float]], _module: nn.Module, _args: object, output: Any) -> None:
        self.calls.append((name, taken.pop(), _sums(output)))


class MaskedPasses:
    """Passes of one batch through a model, each under fresh masks.

    Parameters
    ----------
    model : nn.Module
    batch : Tensor, sequence or mapping
        What the model is called with: one argument, several, or named ones. Every pass gets copies of its tensors.
    p : float, optional
        Dropout rate to measure at. A model with dropout modules (also attention and recurrent layers with a rate) takes
        it in each of them; one without gets a dropout on the node values of every activation that is in training mode
        (of every one, where the model itself is not). Without `p` the model's own rates hold.
    include, exclude : pattern or patterns, optional
        Which activations are watched.

    Attributes
    ----------
    sites : list of Site
        The activation modules that are watched.
    in_training : bool
        Whether the model itself is in training mode.

    Raises
    ------
    ArgumentError
        For a rate outside [0, 1), a model without activation modules, or one with lazy modules that have no values yet.

    Notes
    -----
    Passes run eagerly and without gradients, in the modes that the modules have, but batch norms and spectral norms are
    in evaluation mode. Each starts from what the model held at first (see `WorkingCopy`), but for random numbers, which
    go on from pass to pass.
    """

    def __init__(
        self, model: nn.Module, batch: object, p: float | None, include: LayerPatterns, exclude: LayerPatterns
    ) -> None:
        if p is not None and not (isinstance(p, (int, float)) and 0 <= p < 1):
            raise ArgumentError(f"p must be a dropout rate in [0, 1), got {p!r}")
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model must be an nn.Module, got {type(model).__name__}")
        self.model = eager(model)
        # Run by its wrapper, one process would wait for the others.
        self._root = self.model.module if isinstance(self.model, nn.parallel.DistributedDataParallel) else self.model
        tensors = (*self.model.parameters(), *self.model.buffers())
        if any(isinstance(t, (UninitializedParameter, UninitializedBuffer)) for t in tensors):
            raise ArgumentError("the model has lazy modules without values: run it once before it is measured")
        if any(isinstance(module, torch.jit.ScriptModule) for module in self.model.modules()):
            raise ArgumentError("parts of the model are scripted and run no Python hooks: measure it before jit.script")
        self.batch, self.p = batch, p
        self._everything = [s for s in survey(self.model) if s.kind == ACTIVATION and s.skipped is None]
        if not self._everything:
            raise ArgumentError(
                "the model has no activation modules to watch (functions such as F.relu are not seen here: use nn.ReLU)"
            )
        self.sites = [s for s in select(self._everything, include, exclude) if s.skipped is None]

    @contextmanager
    def ready(self, seed: int) -> Iterator[None]:
        """Let the model work on copies of what it holds; passes are made inside.

        Parameters
        ----------
        seed : int
            Of the masks; the same seed gives the same masks.
        """
        self._seed, self.in_training = seed, self._root.training
        with ExitStack() as stack:
            for context in _own_contexts():
                stack.enter_context(context)
            self.copy = WorkingCopy(self._root, self.batch)
            self.random = RandomStates(self.copy.found.generators)
            stack.callback(self.random.put_back)
            stack.callback(self.copy.put_back)
            self.rates = Rates(self.copy.found.modules)
            self._modules = sum(1 for _ in self._root.modules())
            yield

    def run(self, on_net: NetHook, masks: int, *watches: Watch) -> None:
        """Make so many passes from the seed on.

        Parameters
        ----------
        on_net : callable
            Called with layer and call index, and the net value, of each call of a watched activation.
        masks : int
        *watches : callable
            Put hooks of their own on modules for each pass.
        """
        self.random.begin(self._seed)
        self.go_on(on_net, masks, *watches)

    def go_on(self, on_net: NetHook, masks: int, *watches: Watch, rate: float | None = None) -> None:
        """Make passes that go on with random numbers where the last one stopped, by default at the rate `p`."""
        rate = self.p if rate is None else rate
        for _ in range(masks):
            batch = self.copy.renew()
            self._set_modes()
            if rate is not None:
                self.rates.set(rate)
            calls: Counter[str] = Counter()
            with ExitStack() as hooks:  # a hook's handle is a context that takes it off
                for s in self.sites:
                    hook = partial(_net_value, s, calls, on_net)
                    hooks.enter_context(s.module.register_forward_pre_hook(hook, with_kwargs=True))
                for watch in watches:
                    watch(hooks)
                self._place(rate, hooks)
                self._call(batch)

    def check_that_rate_reaches(self, masks: int) -> None:
        """Refuse the rate `p` where masks are drawn that it does not reach, judged by passes at rate 0.

        Parameters
        ----------
        masks : int
            So many passes are to be made at `p`: what changes nothing in as many at rate 0 is of no account.

        Raises
        ------
        ArgumentError
            Where a dropout does not give what it takes, or net values change from pass to pass.
        """
        unmasked, first = Unmasked(self.rates), _NetValues()
        self.random.begin(self._seed)
        before = self.random.now()
        self.go_on(first.keep, 1, unmasked.watch, rate=0.0)
        if unmasked.changed:
            raise ArgumentError(f"at rate 0 {unmasked.changed[0]} does not give what it takes: {_NOT_REACHED}")
        drawn = not same_states(before, self.random.now())
        if any(site.more for site in self.rates.sites):
            self.go_on(first.compare, 1, self.rates.switch_off_inside_layers, rate=0.0)
            if first.differs:
                layers = ", ".join(str(site) for site in self.rates.sites if site.more)
                raise ArgumentError(f"at rate 0 {layers} give other values than without dropout: {_NOT_REACHED}")
        self.go_on(first.compare, max(masks, _PASSES_AT_ZERO) if drawn else 1, rate=0.0)
        if first.differs:
            raise ArgumentError(
                f"at rate 0 the net values of {first.differs[0]} change from pass to pass, as {self._source()} draws "
                f"random numbers outside of its dropout modules: {_NOT_REACHED}"
            )

    def _source(self) -> str:
        """Return the innermost module whose output changed from pass to pass at rate 0 while its input did not."""
        modules, first = self.copy.found.modules, _Outputs()
        self.go_on(_nothing, 1, partial(first.watch, modules), rate=0.0)
        for _ in range(_PASSES_AT_ZERO):  # what is drawn may be rare
            seen = _Outputs()
            self.go_on(_nothing, 1, partial(seen.watch, modules), rate=0.0)
            for (name, x, y), (other, also_x, also_y) in zip(first.calls, seen.calls, strict=False):
                if name == other and x == also_x and y != also_y:
                    return f"{name} (a {type(modules[name]).__name__})"
        return "the model"

    def masked_layers(self) -> dict[CallKey, MaskedLayer]:
        """Return where a dropout comes right before the layer of a net value, with the layer's input without masks.

        Found from the tensors of one pass: what the dropout gives is what the layer takes, and what that gives is
        what the activation takes, with nothing done to it in between.
        """
        self._links = links = _Links()
        net_calls: Counter[str] = Counter()

        def link(site: Site, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            key = site.layer, net_calls[site.layer]
            z = _input(args, kwargs)
            net_calls[site.layer] += z is not None
            if z is not None and (layer := links.linear.get(z)) is not None:
                links.found[key] = layer

        def watch(hooks: ExitStack) -> None:
            inserted = (dropout for _, _, dropout in named_inserted(self._root))
            links.watch((*self._root.modules(), *inserted), hooks)
            for s in self.sites:
                hooks.enter_context(s.module.register_forward_pre_hook(partial(link, s), with_kwargs=True))

        self.run(_nothing, 1, watch)
        self._links = None
        return self._with_inputs(links.found) if links.found else {}

    _links: _Links | None = None

    def _with_inputs(self, found: dict[CallKey, MaskedLayer]) -> dict[CallKey, MaskedLayer]:
        layers = {id(masked.layer): masked.layer for masked in found.values()}
        inputs: dict[int, list[Tensor]] = {at: [] for at in layers}

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = _input(args, kwargs)
            inputs[id(module)].append(torch.empty(0) if x is None else x.detach().clone())

        batch = self.copy.renew()
        for module in self._root.modules():  # not eval(): models override train(), say to keep parts frozen
            module.training = False
        with ExitStack() as hooks:
            for layer in layers.values():
                hooks.enter_context(layer.register_forward_pre_hook(keep, with_kwargs=True))
            self._call(batch)
        return {
            key: replace(masked, x=inputs[id(masked.layer)][masked.call])
            for key, masked in found.items()
            if masked.call < len(inputs[id(masked.layer)])  # some models leave layers out at random
        }

    def _set_modes(self) -> None:
        follow_modes(self._root)
        for module in self.copy.found.modules.values():
            if _stays_in_evaluation(module):
                module.training = False

    def _place(self, rate: float | None, hooks: ExitStack) -> None:
        """Put a dropout behind each activation, if a rate is asked for and the model has no dropout that takes it."""
        if self.p is None or self.rates.sites or not rate:
            return
        for site in self._everything:
            if site.module.training or not self.in_training:
                hooks.enter_context(site.module.register_forward_hook(partial(self._drop, rate)))

    def _drop(self, rate: float, _module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> Tensor:
        """Forward hook of an activation: puts a dropout behind it."""
        dropped = F.dropout(h, rate, training=True)
        if self._links is not None:
            self._links.masked.put(dropped, inverted_variance(rate))
        return dropped

    def _call(self, batch: Any) -> None:
        # Hooks come and go: whatever of the model is compiled would be compiled again for each pass.
        with torch.compiler.set_stance("force_eager"):
            if isinstance(batch, Mapping):
                self._root(**batch)
            elif isinstance(batch, (tuple, list)):
                self._root(*batch)
            else:
                self._root(batch)
        if sum(1 for _ in self._root.modules()) != self._modules:
            raise ArgumentError("the model builds modules in its forward pass: run it once before it is measured")


def _own_contexts() -> Iterator[AbstractContextManager[Any]]:
    """Give what passes run in, whatever the user's own surroundings are."""
    yield torch.inference_mode(False)  # copies that are made in it could not be worked on in place
    yield torch.no_grad()
    # Both caches would give what is computed here, without a graph, to the training that goes on. The fused path of
    # transformer layers in evaluation mode does not give the same values to the last bit.
    yield _switched(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False)
    yield _switched(lambda: parametrize._cache_enabled, _set_parametrize_cache, 0)
    yield _switched(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False)


@contextmanager
def _switched(read: Callable[[], T], write: Callable[[T], object], value: T) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def _set_parametrize_cache(depth: int) -> None:
    parametrize._cache_enabled = depth  # private, as that cache has no public switch


def _net_value(
    site: Site, calls: Counter[str], on_net: NetHook, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Forward pre-hook of an activation."""
    z = _input(args, kwargs)
    if z is None:
        return
    key = site.layer, calls[site.layer]
    calls[site.layer] += 1
    net = site.net(z.detach())
    on_net(key, net.cpu() if net.device.type == "mps" else net)  # there is no float64 on MPS


def _nothing(_key: CallKey, _z: Tensor) -> None:
    """Take no net value."""


def _stays_in_evaluation(module: nn.Module) -> bool:
    """Whether a module does more in training mode than to draw masks: change its state, or other noise."""
    kinds = (nn.modules.batchnorm._NormBase, nn.RReLU, parametrizations._SpectralNorm)  # private, with no public names
    if isinstance(module, kinds):
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


def _sums(nested: Any) -> list[float]:
    tensors = [t.to(torch.float64) for t in tensors_in(nested) if t.is_floating_point()]
    return [float(sums) for t in tensors for sums in (t.sum(), t.abs().sum())]
