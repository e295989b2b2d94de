"""Which functions of a model have others in their place, told by the hooks that put them there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import nn


class ReplacesFunctions(ABC):
    """Base of forward pre-hooks that put other functions in the place of those that a model calls."""

    @abstractmethod
    def replaced(self) -> Iterable[str]:
        """Return the sites of the functions, or what is known of them."""


def replaced_functions(model: nn.Module) -> list[str]:
    """Return the sites of a model's functions that others are in the place of."""
    # Private, as torch has no public table of hooks.
    hooks: list[Any] = [hook for module in model.modules() for hook in module._forward_pre_hooks.values()]
    found = (name for hook in hooks if isinstance(hook, ReplacesFunctions) for name in hook.replaced())
    return list(dict.fromkeys(found))
