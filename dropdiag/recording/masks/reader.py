"""Reads dropouts: their rates, what their masks replace, and whether masks are drawn where none should be.

A dropout is read before and after its mask: a module by hooks, a function by its interception. In steps that are not
scheduled its hooks return at once.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from dropdiag.model.dropouts import DropoutKind, kept_rate, rate_of
from dropdiag.model.inserted import follow_modes
from dropdiag.model.rates import may_draw, plain_rate
from dropdiag.model.sites import Site
from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.calls import Call
from dropdiag.recording.collector import Collector
from dropdiag.recording.masks.draws import EvaluationDraws
from dropdiag.recording.masks.places import MaskPlaces
from dropdiag.recording.notices import Notice
from dropdiag.recording.parts import local
from dropdiag.recording.passes import PassRouter
from dropdiag.sketches.chain import MASK_INPUT, MASK_OUTPUT
from dropdiag.sketches.dropout import MaskCounter, MaskedPass, NodeNoise
from dropdiag.sketches.native import PLAIN

COMPILED: Final = "the mask is drawn inside torch.compile"
SUBCLASS: Final = "its input is a tensor subclass, nested or sparse, which is not read"
OTHER_SHAPE: Final = "what comes out is not what goes in under a mask"


class Begun:
    """A pass through a dropout whose mask is still to come.

    Attributes
    ----------
    call : Call
    rate : float, Tensor or None
    counter : MaskCounter or None
        None where the mask is not compared.
    noise : NodeNoise or None
    unpads : bool
        Whether padding is left out of what is counted.
    mask_alone : bool
        Whether what comes is the mask (0: dropped), not what it was applied to.
    fed : bool
        Whether the mask was seen by the calls of functions inside the module.
    """

    __slots__ = ("call", "counter", "fed", "mask_alone", "noise", "period", "rate", "unpads")

    def __init__(self, call: Call, rate: float | Tensor | None) -> None:
        self.call, self.rate, self.period = call, rate, call.collector.period
        kind = call.info.site.dropout
        self.unpads = call.mask is not None and kind is not None and kind.grain in ("element", "token", "unknown")
        self.counter: MaskCounter | None = None
        self.noise: NodeNoise | None = None
        self.fed = self.mask_alone = False


class MaskReader:
    """Reads the passes through all dropouts of a model.

    Parameters
    ----------
    model : nn.Module
    router : PassRouter
    train : Collector
        For training steps.
    wanted : bool
        Whether any probe of the run takes dropouts.

    Attributes
    ----------
    train : Collector
    draws : EvaluationDraws
    places : MaskPlaces
    rates : dict
        The last rate of each (layer, call) that drew, or that would have with another rate than 0.
    unseen : dict
        Why the masks of a layer are not seen, where that showed.
    """

    def __init__(self, model: nn.Module, router: PassRouter, train: Collector, *, wanted: bool) -> None:
        self._model, self._router, self.train, self.wanted = model, router, train, wanted
        self._modules: dict[int, tuple[nn.Module, SiteInfo]] = {}
        self._open: dict[int, Begun] = {}  # of modules whose masks their functions draw
        self.places = MaskPlaces()
        self.draws = EvaluationDraws(model, router, self._modules)
        self._compiled: dict[str, float | Tensor | None] = {}
        self._seen: set[str] = set()
        self._dropped: set[str] = set()  # layers whose rate was not 0, now or before
        self.rates: dict[tuple[str, int], float | Tensor | None] = {}
        self.unseen: dict[str, str] = {}

    @property
    def listening(self) -> bool:
        """Whether anything is to be done at a pass."""
        return self._router.evaluating or self._router.intercept or self.train.takes_masks

    def add(self, info: SiteInfo) -> None:
        """Take in the site of a module."""
        self._modules[id(info.site.module)] = info.site.module, info

    def forget(self, info: SiteInfo) -> None:
        """Read the site of a module no more."""
        self._modules.pop(id(info.site.module), None)

    def fail(self, info: SiteInfo, error: Exception) -> None:
        """Disable the probes of dropouts at a site that could not be read."""
        self.train.fail(Signal.DROPOUT, info, error)

    def located(self, info: SiteInfo, x: object) -> SiteInfo:
        """Return a site with the dimension that counts nodes in its input; note what made that."""
        if not isinstance(x, Tensor):
            return info
        if self._router.trace.on and self._router.following and self._router.producers is not None:
            self.places.takes(info.site.layer, x, self._router.producers)
        return self._router.located(info, x)

    def begins(self, info: SiteInfo, x: Tensor | None, rate: object, *, draws: bool) -> Begun | None:
        """Take in what a mask is about to be applied to.

        Parameters
        ----------
        info : SiteInfo
        x : Tensor or None
            None where there is no tensor.
        rate : object
        draws : bool
            Whether it is in training mode.

        Returns
        -------
        Begun or None
            What `ends` takes; None where nothing is compared.
        """
        router, layer = self._router, info.site.layer
        # What is computed here would become part of a graph that torch.jit.trace makes. torch.jit does not export it.
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return None
        number = plain_rate(rate)
        if not draws or router.evaluating or not self.train.takes_masks:
            router.count(info)
            if router.evaluating and draws and may_draw(number):
                self.draws.by_dropout()
            return None
        call = router.masked(info, x)
        if call is None:
            return None
        self._seen.add(layer)
        self._note_rate(layer, call.number, number)
        begun = Begun(call, number)
        if _has_gradients(info.site):
            router.chain_tensor(call, MASK_INPUT, x)
        if not self.train.wants(Signal.DROPOUT):
            return begun
        try:
            self._prepare(begun, x)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self.fail(info, error)
        return begun

    def _note_rate(self, layer: str, call: int, rate: float | Tensor | None) -> None:
        self.rates[layer, call] = rate
        if may_draw(rate):
            self._dropped.add(layer)

    def _prepare(self, begun: Begun, x: Tensor | None) -> None:
        kind = begun.call.info.site.dropout
        if kind is None or kind.unseen or not may_draw(begun.rate) or x is None:
            return
        x = local(x)
        if type(x) not in PLAIN or x is None or x.is_nested or x.layout != torch.strided:
            self.unseen[begun.call.info.site.layer] = SUBCLASS
            return
        with torch._C.DisableTorchFunction():  # as in PassRouter: what is computed here is not the model's
            self._count(begun, kind, x)

    def _count(self, begun: Begun, kind: DropoutKind, x: Tensor) -> None:
        site, axis = begun.call.info.site, x.ndim
        of_batch = kind.grain == "sample" and getattr(site.module, "mode", None) == "batch"
        leading = 0 if of_batch else kind.leading(x.ndim)
        if begun.unpads:
            x, whole = begun.call.unpadded(x), x
            leading = max(leading - (whole.ndim - x.ndim), 1)
        begun.counter = MaskCounter(x, leading, locked=kind.locked, replacement=kind.replacement)
        p = begun.rate
        if kind.noise_to_signal is not None and isinstance(p, float) and 0 < p < 1 and x.ndim and x.is_floating_point():
            begun.noise = NodeNoise(x, site.node_axis(axis), kind.noise_to_signal(p), kind.replacement)

    def ends(self, begun: Begun, result: object) -> None:
        """Take in what came out."""
        if begun.period != begun.call.collector.period:
            return
        info = begun.call.info
        if self._router.trace.on and self._router.following and not begun.mask_alone:
            self.places.gives(info.site.layer, result)
        if _has_gradients(info.site) and not begun.mask_alone:
            self._router.chain_tensor(begun.call, MASK_OUTPUT, result)
        try:
            with torch._C.DisableTorchFunction():
                masked = self._compared(begun, result)
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(info, error)
        else:
            self.train.feed(Signal.DROPOUT, info, begun.call.number, masked)

    def _compared(self, begun: Begun, result: object) -> MaskedPass:
        site, counter = begun.call.info.site, begun.counter
        y = result[0] if isinstance(result, tuple) and result else result
        y = local(y) if isinstance(y, Tensor) else y
        if begun.mask_alone and counter is not None and isinstance(y, Tensor):
            y = y.expand(counter.shape)
        if counter is None or site.dropout is None or not isinstance(y, Tensor) or type(y) not in PLAIN:
            return MaskedPass(begun.rate)
        y = begun.call.unpadded(y.detach()) if begun.unpads else y.detach()
        replaced: float | Tensor = site.dropout.replacement
        if site.dropout.replaced is not None and isinstance(begun.rate, float):
            replaced = site.dropout.replaced(begun.rate, y)
        counts = counter.count(y, replaced, int(getattr(site.module, "num_prefix_tokens", 0)))
        if counts is None:
            self.unseen[site.layer] = OTHER_SHAPE
            return MaskedPass(begun.rate)
        return MaskedPass(begun.rate, *counts, begun.noise)

    # A module whose own functions draw its masks -------------------------------------------------------------

    def module_begins(self, info: SiteInfo, rate: object, *, draws: bool) -> Begun | None:
        """Open a pass through a module whose masks are seen at the functions that it calls."""
        begun = self.begins(info, None, rate, draws=draws)
        if begun is not None:
            self._open[id(info.site.module)] = begun
        return begun

    def module_ends(self, module: nn.Module, begun: Begun) -> None:
        """Close it; where no function was seen, its rate alone is recorded."""
        self._open.pop(id(module), None)
        if not begun.fed:
            self.unseen[begun.call.info.site.layer] = "its mask is not drawn by F.dropout in its forward method"
            self.ends(begun, None)

    def inside(self, module: nn.Module, x: Tensor | None, rate: object) -> Begun | None:
        """Take in what a function inside such a module is given."""
        outer = self._open.get(id(module))
        if outer is None:
            return None
        outer.fed = True
        begun = Begun(outer.call, plain_rate(rate))
        try:
            self._prepare(begun, x)
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(outer.call.info, error)
        return begun

    # torch.compile, where hooks do not run ---------------------------------------------------------------------

    def forward_begins(self) -> None:
        """Keep the rates as they stand, for the dropouts that turn out to be compiled."""
        if Notice.COMPILED not in self._router.notices or not (self._router.evaluating or self.train.takes_masks):
            return
        follow_modes(self._model)  # those of inserted dropouts, which compiled code sets as it runs
        at_work = [(module, info) for module, info in self._modules.values() if module.training]
        if self._router.evaluating:
            if any(may_draw(plain_rate(rate_of(module))) for module, _ in at_work):
                self.draws.by_dropout()
        else:
            self._compiled = {info.site.layer: _rate(info, module) for module, info in at_work}

    def step_ends(self) -> None:
        """Record the rates of compiled dropouts, and forget what the step showed."""
        if self._compiled and self.train.takes_masks:
            for _, info in self._modules.values():
                layer = info.site.layer
                if layer in self._compiled and layer not in self._seen:
                    self._record_compiled(info, self._compiled[layer])
        self._compiled = {}
        self._seen.clear()

    def _record_compiled(self, info: SiteInfo, rate: float | Tensor | None) -> None:
        layer = info.site.layer
        self._router.passes[layer, 0] += 1
        self._note_rate(layer, 0, rate)
        self.unseen[layer] = COMPILED
        self.train.feed(Signal.DROPOUT, info, 0, MaskedPass(rate))

    # Words for coverage ------------------------------------------------------------------------------------------

    def at_rate_0(self, site: Site) -> bool:
        """Whether a dropout has dropped nothing so far, as its rate is 0."""
        return site.layer not in self._dropped and not may_draw(self._rate_now(site))

    def _rate_now(self, site: Site) -> float | Tensor | None:
        try:
            return site.rate if site.functional else plain_rate(rate_of(site.module))
        except Exception:  # noqa: BLE001 - a user's own property, whose failure was reported where its rate was wanted
            return None

    def words(self, site: Site, call: int) -> str:
        """Return rate and grain of a dropout in words, and why its mask is not seen if it is not."""
        rate = self.rates.get((site.layer, call), site.rate)
        shown = f"rate {rate:g}" if isinstance(rate, float) else "rate learned" if rate is not None else "rate unknown"
        grain = "unknown" if site.dropout is None else site.dropout.grain
        why = self.unseen.get(site.layer) or (site.dropout.unseen if site.dropout is not None else "")
        return f"{shown}, grain {grain}" + (f"; rate alone: {why}" if why else "")


def _has_gradients(site: Site) -> bool:
    """Whether what enters and leaves a dropout is what its mask is applied to: not so of a layer that has it inside."""
    kind = site.dropout
    of_weight = site.layer.endswith(":weight_dropout")
    return kind is not None and not (kind.unseen or kind.inside_layer or kind.by_functions or of_weight)


def _rate(info: SiteInfo, module: nn.Module) -> float | Tensor | None:
    return None if info.site.dropout is None else plain_rate(kept_rate(info.site.dropout, module))
