"""Hooks that copies and pickles of a model do not carry along, and that are silent where torch misplaced them."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from typing import Any


class InertHook(ABC):
    """Base of our hooks: copies and pickles of a hooked model hold a builtin that does nothing in their place.

    `sys.audit` takes any arguments, returns None, and needs no dropdiag to be loaded.

    Attributes
    ----------
    takes : int
        Number of arguments that torch calls it with, as it was registered. Torch's own fusing of modules
        (``torch.ao.quantization.fuse_modules``) registers hooks anew, without their keywords, on another module: with
        another number of arguments a hook does nothing.
    closed : bool
        Whether it does nothing any more. A hook that torch moved is not under the handle that removes it.
    """

    takes: int
    closed: bool = False

    def __call__(self, *given: Any) -> None:
        """Take what torch gives to a hook."""
        if len(given) == self.takes and not self.closed:
            self.hear(*given)

    @abstractmethod
    def hear(self, *given: Any, **_: Any) -> None:
        """Do what the hook is for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (sys.audit, "dropdiag.model.hook_base")
