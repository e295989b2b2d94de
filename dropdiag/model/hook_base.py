"""Hooks that become no-ops in copies and pickles of a model, and wherever torch moves them."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from typing import Any


class DropdiagHook(ABC):
    """Base of all hooks that dropdiag puts on a model.

    Copies and pickles of a hooked model hold a builtin that does nothing in its place, so they load where dropdiag
    is not installed, and a copy (a moving average of the weights, say) adds nothing to the original's run.

    Attributes
    ----------
    n_args : int
        Number of arguments that torch calls the hook with, the way it was registered.
    closed : bool
        Whether it does nothing any more. A hook that torch moved is not under the handle that removes it.
    """

    n_args: int
    closed: bool = False

    def __call__(self, *args: Any) -> None:
        """Take what torch gives to a hook."""
        # torch.ao.quantization.fuse_modules registers hooks again, without their keywords, on another module: with
        # another number of arguments this is no longer the place that the hook was made for.
        if len(args) == self.n_args and not self.closed:
            self.fire(*args)

    @abstractmethod
    def fire(self, *args: Any, **_: Any) -> None:
        """Do what the hook is for."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A hook must be a callable that takes any arguments and returns None (anything else would replace the
        # module's input or output). sys.audit is such a builtin; pickle and deepcopy find it without dropdiag.
        return functools.partial, (sys.audit, "dropdiag.model.hook_base")
