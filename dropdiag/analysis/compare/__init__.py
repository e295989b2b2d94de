"""Parts of a comparison: measures of runs, effects over seeds, intervals, exact p; `compare` itself hands them out."""

from importlib import import_module
from typing import Any

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    """Hand on what `dropdiag.analysis.comparison` makes of the parts."""
    # at first use: the public face knows the claims, which know the parts, so an import here would close a circle
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("dropdiag.analysis.comparison"), name)
