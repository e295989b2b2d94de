"""Forward passes of a model under fresh dropout masks, at fixed input, that leave no trace in it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.inert import InertHook
from dropdiag.network import ACTIVATION, Site, select, survey

Key: TypeAlias = tuple[str, int]
"""Layer and call index."""
NetHook: TypeAlias = Callable[[Key, Tensor], None]

_NORMS: Final = (nn.modules.batchnorm._NormBase,)
_DROPOUTS: Final = (nn.modules.dropout._DropoutNd,)


@dataclass
class Chain:
    """Inputs of the dropout right before a layer whose output is a net value."""

    x: Tensor
    p: float
    layer: nn.Module


@dataclass
class _Watch:
    """What the hooks of one pass have seen; tensors are held so that their identities stay apart."""

    on_net: NetHook
    calls: Counter[str] = field(default_factory=Counter)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    masked: dict[int, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    linear: dict[int, tuple[Tensor, Chain]] = field(default_factory=dict)
    chains: dict[Key, Chain] = field(default_factory=dict)
    links: bool = False


class MaskedPasses:
    """Passes of one batch through a model, each under fresh masks.

    Parameters
    ----------
    model : nn.Module
    batch : Tensor, sequence or mapping
        What the model is called with: one argument, several, or named ones.
    p : float, optional
        Dropout rate to measure at. A model with dropout modules takes it in each of them; one without gets a dropout
        on the node values of every activation in `sites`. Without `p` the model's own rates hold.
    include, exclude : pattern or patterns, optional
        Which activations.

    Attributes
    ----------
    sites : list of Site
        The activation modules that are watched.

    Raises
    ------
    ArgumentError
        For a rate outside [0, 1), or a model without activation modules.

    Notes
    -----
    Passes run without gradients in training mode, so that every kind of dropout draws (also those that are no
    modules), but batch norms stay in evaluation mode. Afterwards training flags, buffers, rates and the random
    number generators are what they were; a Recorder on the model sees nothing of it.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: object,
        p: float | None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
    ) -> None:
        if p is not None and not 0 <= p < 1:
            raise ArgumentError(f"p must be a dropout rate in [0, 1), got {p!r}")
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model must be an nn.Module, got {type(model).__name__}")
        inner = getattr(model, "_orig_mod", None)  # of torch.compile: its graphs know nothing of hooks set now
        self.model = inner if isinstance(inner, nn.Module) else model
        self.batch, self.p = batch, p
        sites = select(survey(self.model), include, exclude)
        self.sites: list[Site] = [s for s in sites if s.kind == ACTIVATION and s.skipped is None]
        if not self.sites:
            raise ArgumentError(
                "the model has no activation modules to watch (functions such as F.relu are not seen here: use nn.ReLU)"
            )
        self._dropouts = [m for m in self.model.modules() if isinstance(m, _DROPOUTS)]
        self._placed = p is not None and not self._dropouts

    @contextmanager
    def ready(self, seed: int) -> Iterator[Callable[[NetHook, int], None]]:
        """Prepare the model; give a function that makes passes.

        Parameters
        ----------
        seed : int
            Of the masks; the same seed gives the same masks.

        Yields
        ------
        callable
            Of (on_net, masks): makes so many passes from the seed on, calling ``on_net`` with each net value.
        """
        devices = {t.device for t in (*self.model.parameters(), *self.model.buffers()) if t.is_cuda}
        with torch.no_grad(), _kept(self.model), torch.random.fork_rng(devices=list(devices)):
            self._set_modes()

            def passes(on_net: NetHook, masks: int) -> None:
                torch.manual_seed(seed)
                for _ in range(masks):
                    self._once(on_net)

            yield passes

    def chains(self, seed: int) -> dict[Key, Chain]:
        """Return where a dropout comes right before the layer of a net value, with the dropout's input.

        Found from the tensors of one pass: what the dropout gives is what the layer takes, and what that gives is
        what the activation takes. The dropout's input is that of a pass in which no mask is drawn before it.
        """
        found: dict[Key, Chain] = {}
        with self.ready(seed):
            found = self._once(lambda _key, _z: None, links=True).chains
            if found:
                self.model.eval()
                found = self._inputs(found)
        return found

    def _inputs(self, found: dict[Key, Chain]) -> dict[Key, Chain]:
        """Return the chains with the inputs of their layers in evaluation mode."""
        queues: dict[int, list[Tensor]] = {id(chain.layer): [] for chain in found.values()}
        layers = {id(chain.layer): chain.layer for chain in found.values()}
        handles = [
            layer.register_forward_pre_hook(lambda _m, args, at=at: queues[at].append(args[0].detach().clone()))
            for at, layer in layers.items()
        ]
        try:
            self._call()
        finally:
            for handle in handles:
                handle.remove()
        return {key: Chain(queues[id(c.layer)].pop(0), c.p, c.layer) for key, c in found.items() if queues[id(c.layer)]}

    def _set_modes(self) -> None:
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, _NORMS):
                module.eval()
        rate = self.p
        for dropout in self._dropouts if rate is not None else ():
            dropout.p = cast(float, rate)

    def _once(self, on_net: NetHook, *, links: bool = False) -> _Watch:
        watch = _Watch(on_net, links=links)
        handles = [
            site.module.register_forward_pre_hook(_NetValue(watch, site), with_kwargs=True) for site in self.sites
        ]
        if self._placed:
            handles += [site.module.register_forward_hook(_Placed(watch, self.p or 0.0)) for site in self.sites]
        if links:
            for module in self.model.modules():
                if type(module) is nn.Dropout:
                    handles.append(module.register_forward_pre_hook(_DropoutIn(watch)))
                    handles.append(module.register_forward_hook(_DropoutOut(watch)))
                elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                    handles.append(module.register_forward_hook(_LayerOut(watch)))
        try:
            self._call()
        finally:
            for handle in handles:
                handle.remove()
        return watch

    def _call(self) -> None:
        if isinstance(self.batch, Mapping):
            self.model(**self.batch)
        elif isinstance(self.batch, (tuple, list)):
            self.model(*self.batch)
        else:
            self.model(self.batch)


@dataclass
class _NetValue:
    watch: _Watch
    site: Site

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        z = args[0] if args else kwargs["input"]
        key = self.site.layer, self.watch.calls[self.site.layer]
        self.watch.calls[self.site.layer] += 1
        if id(z) in self.watch.linear:
            self.watch.chains[key] = self.watch.linear[id(z)][1]
        self.watch.on_net(key, self.site.net(z.detach()))


@dataclass
class _Placed:
    watch: _Watch
    p: float

    def __call__(self, _module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> Tensor:
        dropped = F.dropout(h, self.p, training=True)
        if self.watch.links:
            self.watch.masked[id(dropped)] = dropped, h, self.p
        return dropped


@dataclass
class _DropoutIn:
    watch: _Watch

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.watch.inputs[id(module)] = args[0].detach().clone()  # it may work in place


@dataclass
class _DropoutOut:
    watch: _Watch

    def __call__(self, module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        x = self.watch.inputs.pop(id(module))
        self.watch.masked[id(output)] = output, x, cast(nn.Dropout, module).p


@dataclass
class _LayerOut:
    watch: _Watch

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args and id(args[0]) in self.watch.masked:
            _, x, p = self.watch.masked[id(args[0])]
            self.watch.linear[id(output)] = output, Chain(x, p, module)


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """Put a model's training flags, buffers, dropout rates and Recorder hooks back at the end."""
    modes = [(m, m.training) for m in model.modules()]
    rates = [(m, m.p) for m in model.modules() if isinstance(m, _DROPOUTS)]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    hooks = [h for m in model.modules() for h in (m._forward_pre_hooks, m._forward_hooks)]
    before = [(h, OrderedDict(h)) for h in hooks if any(isinstance(hook, InertHook) for hook in h.values())]
    for registered, _ in before:
        for number in [n for n, hook in registered.items() if isinstance(hook, InertHook)]:
            del registered[number]
    try:
        yield
    finally:
        for registered, all_of_them in before:
            registered.clear()
            registered.update(all_of_them)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for dropout, rate in rates:
            dropout.p = rate
        for module, mode in modes:
            module.training = mode
