"""Old names that keep working for one more version."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module some of whose names have changed.

    Parameters
    ----------
    module : str
        The module's own ``__name__``.
    names : mapping
        Old name -> ``"module:new name"``.

    Returns
    -------
    callable
        Name -> the object under its new name, with a `DeprecationWarning`; `AttributeError` for any other name.
    """

    def attribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, new = names[name].split(":")
        warn_of(f"{module}.{name}", f"{home}.{new}", stacklevel=3)
        return getattr(import_module(home), new)

    return attribute


def warn_of(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that a name has changed and that the next version knows the new one alone."""
    message = f"{old} is called {new} now; the old name goes with the next version"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
