"""Old names that keep working for one more version."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol


class _Attribute(Protocol):
    def __call__(self, name: str, *, stacklevel: int = 2) -> Any: ...


def renamed(module: str, names: Mapping[str, str]) -> _Attribute:
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
        Name -> the object under its new name, with a `DeprecationWarning`; `AttributeError` for any other name. A
        ``__getattr__`` that calls it in its turn passes ``stacklevel=3``, as Python shows the warning only where it
        points to the user's own line.
    """

    def attribute(name: str, *, stacklevel: int = 2) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, new = names[name].split(":")
        warn_of(f"{module}.{name}", f"{home}.{new}", stacklevel=stacklevel)
        return getattr(import_module(home), new)

    return attribute


def moved(old: str, new: str) -> _Attribute:
    """Return the ``__getattr__`` of a module that stands in the old place of another one.

    Parameters
    ----------
    old, new : str
        The module's own ``__name__``, and that of the module that its names are in now.

    Returns
    -------
    callable
        As of `renamed`.
    """

    def attribute(name: str, *, stacklevel: int = 2) -> Any:
        module = import_module(new)
        if name.startswith("__") or not hasattr(module, name):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warn_of(f"{old}.{name}", f"{new}.{name}", stacklevel=stacklevel)
        return getattr(module, name)

    return attribute


def warn_of(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that a name has changed and that the next version knows the new one alone."""
    message = f"{old} is called {new} now; the old name goes with the next version"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)
