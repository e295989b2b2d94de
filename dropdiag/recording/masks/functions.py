"""Dropouts that are called as functions, and masks that a forward method makes by hand."""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.functional.functions import PYTHON_FUNCTIONS, Function, argument
from dropdiag.model.dropouts import DropoutKind, kind_of
from dropdiag.model.inserted import named_inserted
from dropdiag.model.rates import plain_rate
from dropdiag.model.sites import Site, axis_rule_inside, dropout_site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.backward import backward_number
from dropdiag.recording.masks.reader import Begun, MaskReader
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.recomputed import checkpoint_number

OWN_DRAW: Final = (
    "random numbers of its forward method look like a mask (bernoulli, or rand < p), which is not measured: draw it by "
    "F.dropout or nn.Dropout, or make its class known as a dropout kind"
)

WEIGHT_DROPOUT: Final = "weight_dropout"
"""What a dropout of a layer's weight is called: its output may have one, too."""


class MaskFunctions:
    """Takes in intercepted calls of dropouts, and of what masks are made of.

    Parameters
    ----------
    model : nn.Module
    router : PassRouter
    reader : MaskReader
    named : callable
        (calling module, function's name, its tensor) -> name of the site.
    skipped : callable
        Layer name -> why it is not recorded, or None.
    has_new_modules : callable
        () -> whether modules came whose functions have no names yet: no site is made then.

    Attributes
    ----------
    kinds : dict
        The kind of each module that is a dropout or has one inside, by the module's id.
    sites : dict
        By layer name.
    new : list of SiteInfo
        Those that were made since they were taken last.
    """

    def __init__(
        self,
        model: nn.Module,
        router: PassRouter,
        reader: MaskReader,
        *,
        named: Callable[[nn.Module, str, object], str],
        skipped: Callable[[str], str | None],
        has_new_modules: Callable[[], bool],
    ) -> None:
        self._router, self._reader, self._named, self._skipped = router, reader, named, skipped
        self._has_new_modules = has_new_modules
        self.look_at(model)
        self._uniform: Callable[[], object] = bool  # the random numbers that were drawn last, while they live
        self.sites: dict[str, SiteInfo] = {}
        self.new: list[SiteInfo] = []
        self._held: defaultdict[tuple[int, str, int], deque[SiteInfo | None]] = defaultdict(deque)
        self._held_in = router.period

    def look_at(self, model: nn.Module) -> None:
        """Look which modules of a model are dropouts, or have one inside."""
        inserted = (dropout for _, _, dropout in named_inserted(model))
        self.kinds = {id(m): kind for m in (*model.modules(), *inserted) if (kind := kind_of(m)) is not None}

    @property
    def needed(self) -> bool:
        """Whether a training step has to be intercepted for the sites that are known."""
        if not self._reader.train.takes_masks:  # as in most steps
            return False
        return bool(self.sites) or any(kind.by_functions for kind in self.kinds.values())

    def own_activations(self, module: nn.Module) -> bool:
        """Whether the activations that a module calls are part of drawing its mask."""
        kind = self.kinds.get(id(module))
        return kind is not None and kind.own_activations

    def before(
        self,
        function: Function,
        frame: FrameType,
        module: nn.Module,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> Begun | None:
        """Take in a call that is about to be made from a frame; return what `after` takes."""
        if not self._reader.listening:
            return None
        if function.dropout is not None:
            return self._dropout(function, function.dropout, module, args, keywords)
        return self._drawn(function, frame, module, args)

    def after(self, function: Function, begun: object, result: object) -> None:
        """Take in what the call gave."""
        if isinstance(begun, Begun):
            self._reader.ends(begun, result)
        elif function.draws and isinstance(result, Tensor):
            self._uniform = weakref.ref(result)

    def _dropout(
        self, function: Function, kind: DropoutKind, module: nn.Module, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Begun | None:
        """Take in a call of a dropout."""
        rate = argument(args, keywords, *kind.argument)
        draws = kind.training is None or bool(_flag(args, keywords, *kind.training))
        x = args[0] if args else keywords.get("input", keywords.get("query"))
        own = self.kinds.get(id(module))
        if own is not None and (own.grain == kind.grain or not own.inside_layer):  # the module is the site
            return self._reader.inside(module, x, rate) if own.by_functions and draws else None
        info = self._info(function.name, kind, module, rate, x)
        return None if info is None else self._reader.begins(info, x, rate, draws=draws)

    def _drawn(self, function: Function, frame: FrameType, module: nn.Module, args: Sequence[Any]) -> Begun | None:
        """Take in what a mask may be made of: by a dropout of another library, or by nobody known."""
        if id(module) in self.kinds:
            return None
        kind = PYTHON_FUNCTIONS.get(frame.f_code.co_name)
        if function.draws and kind is not None:
            return self._python_function(kind, function, frame, module)
        uniform = self._uniform()
        if function.name == "bernoulli" or (uniform is not None and any(a is uniform for a in args)):
            self._own_draw(module)
        return None

    def _python_function(
        self, kind: DropoutKind, function: Function, frame: FrameType, module: nn.Module
    ) -> Begun | None:
        """Take in the draw of a dropout that is a function of another library."""
        given, code = frame.f_locals, frame.f_code
        rate = next((given[name] for name in kind.rates if name in given), None)
        x = given.get(code.co_varnames[0])
        info = self._info(code.co_name, kind, module, rate, x)
        if info is None:
            return None
        # Of samples that are kept (1) or dropped (0) the draw is the mask; of anything else it is only where it begins.
        of_samples = kind.grain == "sample" and function.name == "bernoulli"
        begun = self._reader.begins(info, x if of_samples else None, rate, draws=True)
        if begun is not None:
            begun.mask_alone = True
        return begun

    def _info(self, function: str, kind: DropoutKind, module: nn.Module, rate: object, x: object) -> SiteInfo | None:
        """Return the site of a dropout that is called; None where it is not recorded."""
        if backward_number() != -1:  # what enters is a copy, whose layer is not known: the first pass knew it
            held = self._held[id(module), function, checkpoint_number()]
            return held.popleft() if held else None
        info = self._found(function, kind, module, rate, x)
        if not torch.is_grad_enabled() and (checkpoint := checkpoint_number()):
            self._hold((id(module), function, checkpoint), info)
        return info

    def _hold(self, place: tuple[int, str, int], info: SiteInfo | None) -> None:
        """Keep the site of a call, or that it has none, for the pass of a reentrant checkpoint that repeats it."""
        if self._held_in != self._router.period:
            self._held_in = self._router.period
            self._held.clear()
        self._held[place].append(info)

    def _found(self, function: str, kind: DropoutKind, module: nn.Module, rate: object, x: object) -> SiteInfo | None:
        """Return the site of a dropout, which is made at the first call with another rate than 0."""
        # The weights of attention are no layer's output: they come of a product of two.
        layer = self._named(module, function, None if kind.grain == "attention weight" else x)
        if layer not in self.sites:
            if plain_rate(rate) == 0:
                self._router.pass_by(layer)
                return None
            if self._has_new_modules():
                return None
            if layer.endswith(f":{WEIGHT_DROPOUT}"):  # no data: nothing to compare its noise with
                kind = replace(kind, grain="weight", noise_to_signal=None)
            site = dropout_site(layer, kind, module, rate)
            self._add(replace(site, axis_rule=axis_rule_inside(module), skipped=self._skipped(layer)))
        info = self.sites[layer]
        if info.site.skipped is not None:
            return None
        return self._reader.located(info, x)

    def _own_draw(self, module: nn.Module) -> None:
        layer = self._named(module, "mask", None)
        if layer not in self.sites:
            self._add(replace(dropout_site(layer, DropoutKind("unknown"), module, None), skipped=OWN_DRAW))

    def _add(self, site: Site) -> None:
        self.sites[site.layer] = SiteInfo(site, None)
        self.new.append(self.sites[site.layer])


def _flag(args: Sequence[Any], keywords: Mapping[str, Any], position: int, names: Sequence[str], default: bool) -> Any:
    """Return a call's argument that says whether it draws."""
    if len(args) > position:
        return args[position]
    return next((keywords[name] for name in names if name in keywords), default)
