"""Which sites of a recorded model graphs may name, and the settings of the compiler that recording needs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import nn

from dropdiag.model.compiler import dynamo, guard_hooks, release_hook_guards
from dropdiag.model.sites import Site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.compiled import tracing
from dropdiag.recording.compiled.operators import CompiledSite, Order, forget, next_number
from dropdiag.recording.compiled.order import LayerRuns, TracedOrder, by_module, is_compiled
from dropdiag.recording.passes import PassRouter
from dropdiag.sketches.native import PLAIN


class CompiledSites:
    """The compiled sites of one recorded model, and the compiler's settings that recording needs."""

    def __init__(self, model: nn.Module, router: PassRouter, weights: Sequence[Site] = ()) -> None:
        self._router, self._model, self._weights = router, model, weights
        self._traced = TracedOrder(router)
        self._layers: list[LayerRuns] | None = None
        plain = (p for p in model.parameters() if type(p) in PLAIN)  # nothing is asked of a subclass
        device = next((p.device for p in plain if not p.is_meta), torch.device("cpu"))
        self._order = Order(device)
        self._opened: list[int] = []
        self._guards = guard_hooks()
        if self._guards:
            dynamo().reset()  # whatever was compiled before
        self._limits: dict[str, int] = {}

    def open(self, info: SiteInfo | None) -> CompiledSite:
        """Open the compiled site of a site, or of the model itself."""
        site = CompiledSite(self._router, info, self._order)
        self._opened.append(site.number)
        traced = self._begins if info is None else functools.partial(self._passes, info.site.layer)
        tracing.call_when_traced(site.number, site, traced)
        return site

    def _passes(self, layer: str) -> None:
        self._raise_limits()
        self._traced.passes(layer)

    def _raise_limits(self) -> None:
        # Parts of the same code (the blocks of a transformer) share a graph, but each hook has a number of its own,
        # which makes a graph for each part. Beyond the limit, 8, parts would run without the compiler, in another way.
        config = dynamo().config
        for name in ("recompile_limit", "accumulated_recompile_limit"):
            if name not in self._limits and hasattr(config, name):
                self._limits[name] = getattr(config, name)
                setattr(config, name, self._limits[name] + len(self._opened))

    def _begins(self) -> None:
        self._raise_limits()
        self._traced.begins()
        self._watch_layers()

    def look_for_compiled_parts(self) -> None:
        """Watch which weights run where parts of the model are compiled. May be called again."""
        if self._layers is None and is_compiled(self._model):
            self._watch_layers()

    def _watch_layers(self) -> None:
        # A hook on every layer costs eager models more than the order of compiled ones is worth: only where needed.
        if self._layers is not None:
            return
        self._layers = []
        for module, names in by_module(self._weights).items():
            number = next_number()
            self._opened.append(number)
            hook = LayerRuns(number)
            tracing.call_when_traced(number, hook, functools.partial(self._traced.runs, names))
            hook.attach(module.register_forward_pre_hook, with_kwargs=True)
            self._layers.append(hook)

    def close(self) -> None:
        """Close all of them: graphs that still refer to them record nothing. May be called again."""
        for number in self._opened:
            forget(number)
            tracing.forget(number)
        for hook in self._layers or ():
            hook.remove()
        self._layers = []
        self._opened.clear()
        for name, limit in self._limits.items():
            setattr(dynamo().config, name, limit)
        self._limits.clear()
        if self._guards:
            self._guards = False
            release_hook_guards()
