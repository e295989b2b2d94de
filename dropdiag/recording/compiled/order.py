"""The order of execution of compiled parts of a model, which is that in which they are traced."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch._guards import TracingContext

from dropdiag.model.hook_base import DropdiagHook
from dropdiag.model.sites import Site
from dropdiag.recording.compiled import tracing
from dropdiag.recording.passes import PassRouter


class TracedOrder:
    """Notes what a graph runs while it is traced: weights leave no operator of ours in it.

    Parameters
    ----------
    router : PassRouter
        Whose trace takes the notes.
    """

    def __init__(self, router: PassRouter) -> None:
        self._router = router
        self._calls: Counter[str] = Counter()
        self._graph: weakref.ref[TracingContext] | None = None
        self._whole = False

    def begins(self) -> None:
        """Note that the model's own forward pass is being traced from its start."""
        self._look_for_new_graph()
        self._whole = True
        self._router.trace.begin(wanted=self._router.intercept or self._router.evaluating)

    def passes(self, layer: str) -> None:
        """Note that a call of an activation or output is traced."""
        self._look_for_new_graph()
        # A graph runs when it has been traced, so what ran before it in this pass is counted by then.
        before = 0 if self._whole else self._router.calls(layer)
        self._router.trace.note(layer, before + self._calls[layer])
        self._calls[layer] += 1

    def runs(self, layers: Iterable[str]) -> None:
        """Note that a layer with these weights is traced."""
        for layer in layers:
            self._router.trace.note(layer, 0)

    def _look_for_new_graph(self) -> None:
        # After a graph break, and where a trace is begun anew for one. Private; it is made for each attempt.
        graph = TracingContext.try_get()
        if graph is not None and (self._graph is None or self._graph() is not graph):
            self._graph, self._whole = weakref.ref(graph), False
            self._calls.clear()


class LayerRuns(DropdiagHook, tracing.Traced):
    """Forward pre-hook of a layer with weights; does nothing unless it is traced."""

    n_args = 3

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def fire(self, *_: Any) -> None:
        """Do nothing."""

    def trace(self, *_: Any) -> None:
        """Note that the layer is traced."""
        tracing.note(self.layer)


def is_compiled(model: nn.Module) -> bool:
    """Whether a part of a model was compiled by itself."""
    return any(map(_is_compiled, model.modules()))


def _is_compiled(module: nn.Module) -> bool:
    # Private, all: `module.compile()`, `torch.compile(module)`, which wraps it in another module, and
    # `module.forward = torch.compile(module.forward)` each leave one of these.
    wrapped = hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
    return wrapped or getattr(module, "_compiled_call_impl", None) is not None or "_orig_mod" in module._modules


def by_module(weights: Sequence[Site]) -> dict[nn.Module, list[str]]:
    """Return the weights' names by the module that they belong to."""
    found: dict[nn.Module, list[str]] = {}
    for site in weights:
        found.setdefault(site.module, []).append(site.layer)
    return found
