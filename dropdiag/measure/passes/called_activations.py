"""Activation functions that a model calls without a module: their nodes are not measured, which is to be said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from torch import nn
from torch.overrides import TorchFunctionMode

from dropdiag.measure.passes.passes import Passes
from dropdiag.model.activations import TORCH_ACTIVATIONS
from dropdiag.model.sites import Site

_NAMES: Final = frozenset(name for name in TORCH_ACTIVATIONS.values() if name) | {"glu"}


class _Called(TorchFunctionMode):
    """Notes the names of activation functions that are called outside of activation modules."""

    def __init__(self, sites: Sequence[Site]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._sites, self._inside = sites, 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``; note its name where it is an activation function."""
        name = str(getattr(func, "__name__", "")).rstrip("_")
        if name in _NAMES and not self._inside:
            self.names.add(name)
        return func(*args, **(kwargs or {}))

    def watch(self, hooks: ExitStack) -> None:
        """Put hooks on the activation modules for one pass."""
        for site in self._sites:
            hooks.enter_context(site.module.register_forward_pre_hook(self._enter))
            hooks.enter_context(site.module.register_forward_hook(self._leave, always_call=True))

    def _enter(self, _module: nn.Module, _args: Any) -> None:
        self._inside += 1

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._inside -= 1


@contextmanager
def called_activations(passes: Passes) -> Iterator[set[str]]:
    """Collect the names of activation functions that the model calls itself, in the passes inside."""
    called = _Called(passes.activations)
    with passes.watched(called.watch), called:
        yield called.names
