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
_A_SINK = frozenset({"open", "scalars", "histograms", "close"})
LEFT_OUT = {
    "dropdiag.integrations.lightning.Recorder": frozenset({"path"}),
    "dropdiag.integrations.transformers.Recorder": frozenset({"path"}),
    "dropdiag.integrations.ignite.Recorder": frozenset({"path", "state_dict", "load_state_dict"}),
    "dropdiag.integrations.skorch.Recorder": frozenset({"path_"}),
    "dropdiag.integrations.fastai.Recorder": frozenset({"path"}),
    "dropdiag.integrations.tensorboard.Sink": _A_SINK,
    "dropdiag.integrations.wandb.Sink": _A_SINK,
    "dropdiag.integrations.mlflow.Sink": _A_SINK,
}
"""Of a class, what a trainer keeps or a Recorder calls by the protocol of `Sink`; and what its page tells."""
EVENT = re.compile(r"(on|before|after)_\w+")
"""What a trainer calls of a callback, by its own protocol."""
OF_TRAINERS = frozenset(name.rpartition(".")[0] for name in LEFT_OUT if name.endswith("Recorder")) | {
    "dropdiag.integrations.accelerate"
}
"""Modules that are imported where their trainer is installed."""


def listed(*, trainers: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield each name that a page of the reference lists, as ``module.name``, with what it stands for.

    Without ``trainers`` those are left out that cannot be imported where their trainer is not installed.
    """
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(
            r"currentmodule:: (\S+)\n\n\.\. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)", text
        ):
            for name in names.split() if trainers or module not in OF_TRAINERS else ():
                yield f"{module}.{name}", getattr(import_module(module), name)


def documented(*, trainers: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield what `listed` does, and the public methods and properties of the classes.

    The example of a protocol is a class that has all of its methods, so these are not yielded.
    """
    for name, thing in listed(trainers=trainers):
        yield name, thing
        if inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
            left_out = INTERNAL | LEFT_OUT.get(name, frozenset())
            called = name in LEFT_OUT and name.endswith(".Recorder")
            for member, value in vars(thing).items():
                if member.startswith("_") or member in left_out or (called and EVENT.fullmatch(member)):
                    continue
                if _is_method(value):
                    yield f"{name}.{member}", value


def _is_method(value: Any) -> bool:
    return (
        inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)) or hasattr(value, "func")
    )


def docstring(thing: Any) -> str:
    """Return the docstring of a name, a method or a property."""
    return inspect.getdoc(getattr(thing, "func", thing) if not inspect.isclass(thing) else thing) or ""
