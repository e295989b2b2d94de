"""What the reference documents: the names that its pages list, and the methods of the classes among them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parents[1] / "reference"
INTERNAL = frozenset({
    "beside", "by_itself", "called", "describe", "dormant", "extra_repr", "follow", "forget_histograms", "forward",
    "joined", "keeping", "matches", "of_checked", "places", "read_scalars", "record", "recorded", "reference_function",
    "reference_is_named", "remember", "run_columns", "s", "tables", "today", "touches", "under", "update", "values",
    "wandering", "windows",
})  # fmt: skip
"""Methods without an underscore that serve other parts of the package or torch, and former names."""


def listed() -> Iterator[tuple[str, Any]]:
    """Yield each name that a page of the reference lists, as ``module.name``, with what it stands for."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(
            r"currentmodule:: (\S+)\n\n\.\. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)", text
        ):
            for name in names.split():
                yield f"{module}.{name}", getattr(import_module(module), name)


def documented() -> Iterator[tuple[str, Any]]:
    """Yield what `listed` does, and the public methods and properties of the classes."""
    for name, thing in listed():
        yield name, thing
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and member not in INTERNAL and _is_method(value):
                    yield f"{name}.{member}", value


def _is_method(value: Any) -> bool:
    return (
        inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "func")
    )


def docstring(thing: Any) -> str:
    """Return the docstring of a name, a method or a property."""
    return inspect.getdoc(getattr(thing, "func", thing) if not inspect.isclass(thing) else thing) or ""
