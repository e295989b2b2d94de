"""dropdiag: measure what dropout and GAAF do inside a PyTorch network.

Record
    `Recorder` attaches to a model for a training loop and writes a run folder.
    `every`, `log_spaced` say at which steps histograms are taken.
    `GAAF` is the paper's activation function, an `nn.Module`.
    `register_activation` makes an activation of one's own known.
Read and compare
    `load` opens one run folder as a `Run`, or several as `Runs`: frames and `Histogram` objects.
    `Catalog` keeps the scalars of thousands of runs together and gives `Runs` of them.
    `analysis` answers the paper's questions, frame to frame; `plots` draws its figures.
    `report` writes it all into one HTML file.
Errors
    `DropdiagError` is the base of all of them; `DropdiagWarning` is what is warned.

Reading and drawing need no torch, and recording needs no matplotlib: each name is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropdiag import analysis, plots
    from dropdiag.errors import DropdiagError, DropdiagWarning
    from dropdiag.functional import register_activation
    from dropdiag.gaaf import GAAF
    from dropdiag.recorder import Recorder
    from dropdiag.report.page import report
    from dropdiag.schedules import every, log_spaced
    from dropdiag.store.catalog import Catalog
    from dropdiag.store.histogram import Histogram
    from dropdiag.store.reader import Run, Runs, load

__version__ = "0.1.0"

__all__ = [
    "GAAF",
    "Catalog",
    "DropdiagError",
    "DropdiagWarning",
    "Histogram",
    "Recorder",
    "Run",
    "Runs",
    "analysis",
    "every",
    "load",
    "log_spaced",
    "plots",
    "register_activation",
    "report",
]

_HOME = {
    "GAAF": "dropdiag.gaaf",
    "Catalog": "dropdiag.store.catalog",
    "DropdiagError": "dropdiag.errors",
    "DropdiagWarning": "dropdiag.errors",
    "Histogram": "dropdiag.store.histogram",
    "Recorder": "dropdiag.recorder",
    "Run": "dropdiag.store.reader",
    "Runs": "dropdiag.store.reader",
    "every": "dropdiag.schedules",
    "load": "dropdiag.store.reader",
    "log_spaced": "dropdiag.schedules",
    "register_activation": "dropdiag.functional",
}


def __getattr__(name: str) -> Any:
    if name in ("analysis", "plots", "report"):
        return import_module(f"dropdiag.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'dropdiag' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
