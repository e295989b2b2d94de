"""Monitors to be compared: each attaches to a network, is told of each step, and is closed.

`MONITORS` names them; a peer that is not installed raises ImportError when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

MONITORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bare": ("bare", "Bare", {}),
    "bare again": ("bare", "Bare", {}),
    "empty hooks": ("bare", "EmptyHooks", {}),
    "dropdiag paper / 1": ("recorder", "Dropdiag", {"probes": "paper", "every": 1}),
    "dropdiag paper / 10": ("recorder", "Dropdiag", {"probes": "paper", "every": 10}),
    "without chain / 1": ("recorder", "Dropdiag", {"probes": "paper", "every": 1, "without": "flow_decomposition"}),
    "without chain / 10": ("recorder", "Dropdiag", {"probes": "paper", "every": 10, "without": "flow_decomposition"}),
    "dropdiag light / 10": ("recorder", "Dropdiag", {"probes": "light", "every": 10}),
    "dropdiag full / 1": ("recorder", "Dropdiag", {"probes": "full", "every": 1}),
    "fastai / 1": ("fastai_stats", "Fastai", {"every": 1}),
    "fastai / 10": ("fastai_stats", "Fastai", {"every": 10}),
    "delve / 1": ("delve_tracker", "Delve", {"every": 1}),
    "delve / 10": ("delve_tracker", "Delve", {"every": 10}),
    "wandb / 1": ("wandb_watch", "Wandb", {"every": 1}),
    "wandb / 10": ("wandb_watch", "Wandb", {"every": 10}),
    "tensorboard / 1": ("tensorboard_histograms", "TensorBoard", {"every": 1}),
    "tensorboard / 10": ("tensorboard_histograms", "TensorBoard", {"every": 10}),
}
"""Name -> module here, class, settings; ``/ 10``: recorded at every 10th step.

``without chain``: the preset "paper" without the decomposition of gradient flow, of which it is the cost.
"""


def make(name: str) -> Any:
    """Return a new monitor; raise ImportError where its package is not installed."""
    module, kind, settings = MONITORS[name]
    factory: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), kind)
    return factory(**settings)
