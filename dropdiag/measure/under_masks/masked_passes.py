"""Forward passes of a model under fresh dropout masks, at fixed input, for the net variance."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.functional.calls import NamedCall
from dropdiag.measure.passes.called_activations import Taker
from dropdiag.measure.passes.net_values import CallKey, NetHook, Watched, tensor_argument
from dropdiag.measure.passes.passes import NO_ACTIVATIONS, Passes
from dropdiag.measure.passes.state.random_states import same_states
from dropdiag.measure.passes.steady import Outputs
from dropdiag.measure.passes.tensors import close
from dropdiag.measure.passes.watches import Watch
from dropdiag.measure.under_masks.links import Links, MaskedLayer
from dropdiag.measure.under_masks.rates import Rates, Unmasked
from dropdiag.model.dropouts import inverted_variance
from dropdiag.model.inserted import named_inserted
from dropdiag.model.sites import LayerPatterns, Site, select

_NOT_REACHED: Final = "p= does not reach it; leave p= out to measure at the model's own rates"
_PASSES_AT_ZERO: Final = 64
"""So many at least, where random numbers are drawn at rate 0: they may have no effect, or a rare one."""


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


class MaskedPasses(Passes):
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
        super().__init__(model, batch)
        self.p = p
        self.find_calls()
        if not self.activations:
            raise ArgumentError(NO_ACTIVATIONS)
        self.sites = [s for s in select(self.activations, include, exclude) if s.skipped is None]

    @cached_property
    def rates(self) -> Rates:
        """The dropouts that a rate is set in; known once passes can be made."""
        return Rates(self.copy.found.modules)

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
        net_values = Watched(self.sites, partial(_on_host, on_net), called=self.called).watch
        # in this order: a dropout that is put behind an activation comes last
        every: list[Watch] = [partial(self._set, rate), net_values, *watches, partial(self._place, rate)]
        with ExitStack() as stack:
            for watch in every:
                stack.enter_context(self.watched(watch))
            for _ in range(masks):
                self.forward()

    def _set(self, rate: float | None, _hooks: ExitStack) -> None:
        if rate is not None:
            self.rates.set(rate)

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
        modules, first = self.copy.found.modules, Outputs()
        self.go_on(_nothing, 1, partial(first.watch, modules), rate=0.0)
        for _ in range(_PASSES_AT_ZERO):  # what is drawn may be rare
            seen = Outputs()
            self.go_on(_nothing, 1, partial(seen.watch, modules), rate=0.0)
            if (name := first.source(seen)) is not None:
                return f"{name} (a {type(modules[name]).__name__})"
        return "the model"

    def masked_layers(self) -> dict[CallKey, MaskedLayer]:
        """Return where a dropout comes right before the layer of a net value, with the layer's input without masks.

        Found from the tensors of one pass: what the dropout gives is what the layer takes, and what that gives is
        what the activation takes, with nothing done to it in between.
        """
        self._links = links = Links()
        net_calls: Counter[str] = Counter()

        def link(site: Site, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            key = site.layer, net_calls[site.layer]
            z = tensor_argument(args, kwargs)
            net_calls[site.layer] += z is not None
            if z is not None and (layer := links.linear.get(z)) is not None:
                links.found[key] = layer

        def watch(hooks: ExitStack) -> None:
            inserted = (dropout for _, _, dropout in named_inserted(self.root))
            links.watch((*self.root.modules(), *inserted), hooks)
            for s in self.sites:
                if not s.functional:
                    hooks.enter_context(s.module.register_forward_pre_hook(partial(link, s), with_kwargs=True))
            functions = {s.layer: s for s in self.sites if s.functional}

            def link_call(call: NamedCall) -> None:
                if call.layer in functions:
                    link(functions[call.layer], call.module, (call.z,), {})

            self.called.take(hooks, Taker(before=link_call))

        self.run(_nothing, 1, watch)
        self._links = None
        return self._with_inputs(links.found) if links.found else {}

    _links: Links | None = None

    def _with_inputs(self, found: dict[CallKey, MaskedLayer]) -> dict[CallKey, MaskedLayer]:
        layers = {id(masked.layer): masked.layer for masked in found.values()}
        inputs: dict[int, list[Tensor]] = {at: [] for at in layers}

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = tensor_argument(args, kwargs)
            inputs[id(module)].append(torch.empty(0) if x is None else x.detach().clone())

        self._hooks.close()  # those of the last pass
        batch, _ = self.copy.renew()
        for module in self.root.modules():  # not eval(): models override train(), say to keep parts frozen
            module.training = False
        with ExitStack() as hooks:
            for layer in layers.values():
                hooks.enter_context(layer.register_forward_pre_hook(keep, with_kwargs=True))
            self.call(batch)
        return {
            key: replace(masked, x=inputs[id(masked.layer)][masked.call])
            for key, masked in found.items()
            if masked.call < len(inputs[id(masked.layer)])  # some models leave layers out at random
        }

    def _place(self, rate: float | None, hooks: ExitStack) -> None:
        """Put a dropout behind each activation, if a rate is asked for and the model has no dropout that takes it."""
        if self.p is None or self.rates.sites or not rate:
            return
        chosen = [site for site in self.activations if site.module.training or not self.in_training]
        for site in chosen:
            if not site.functional:
                hooks.enter_context(site.module.register_forward_hook(partial(self._drop, rate)))
        functions = {site.layer for site in chosen if site.functional}
        drop = lambda call, h: self._drop(rate, call.module, (), h) if call.layer in functions else None  # noqa: E731
        self.called.take(hooks, Taker(after=drop))

    def _drop(self, rate: float, _module: nn.Module, _args: tuple[Any, ...], h: Tensor) -> Tensor:
        """Forward hook of an activation: puts a dropout behind it."""
        dropped = F.dropout(h, rate, training=True)
        if self._links is not None:
            self._links.masked.put(dropped, inverted_variance(rate))
        return dropped


def _on_host(on_net: NetHook, key: CallKey, net: Tensor) -> None:
    """Hand over a net value where there is float64: not on MPS."""
    on_net(key, net.cpu() if net.device.type == "mps" else net)


def _nothing(_key: CallKey, _z: Tensor) -> None:
    """Take no net value."""
