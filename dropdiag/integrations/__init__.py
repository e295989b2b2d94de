"""To and from other tools; each module says what it needs, and is imported when it is asked for.

Trainers: `lightning`, `transformers`, `accelerate`, `ignite`, `skorch` and `fastai` attach a Recorder to a training.
Sinks: `tensorboard`, `wandb` and `mlflow` are sent a run's numbers while it is recorded.
`csv` and `tensorboard` write a run that is over.

Examples
--------
>>> sent = dd.Recorder(model, "runs/sent", to=dd.integrations.tensorboard.Sink("tb"))
>>> sent.close()
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any


def _modules() -> list[str]:
    return [one.name for one in pkgutil.iter_modules(__path__)]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_modules()})
