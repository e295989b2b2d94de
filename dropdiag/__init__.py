"""dropdiag: measure what dropout and GAAF do inside a PyTorch network.

Record
    `Recorder` attaches to a model for a training loop and writes a run folder; `detach` closes one that was lost.
    `every`, `log_spaced` say at which steps histograms are taken.
    `GAAF` is the paper's activation function, an `nn.Module`; `gaaf` puts it into a built model and fits its shape.
    `measure` holds the measurements that make passes of their own: the variance that dropout gives to net values, what
    masks and what weights do to gradient flow, the ensemble of thinned networks, flatness, robustness, ablation and the
    gradient's direction.
    `interventions` lists, sets, schedules and inserts the dropouts of a built model, and undoes it.
    `integrations` attaches a Recorder to Lightning, transformers, Accelerate and other trainers.
    `register_activation` makes an activation of one's own known.
Read and compare
    `load` opens one run folder as a `Run`, or several as `Runs`: frames and `Histogram` objects.
    `Catalog` opens all runs below a folder and gives `Runs` of them, by the keys of their config.
    `compare` sets conditions side by side over seeds, as a `Comparison`: effects, intervals, verdicts on claims.
    `analysis` answers the paper's questions, frame to frame; `plots` draws its figures.
    `report` writes it all into one HTML file.
Decide
    `sweep` trains a function of yours over rates, sites or schedules, with paired seeds.
    `advise` says which rates cannot be told from the best, how sure that is, and what to try next.
Errors
    `DropdiagError` is the base of all of them; `DropdiagWarning` is what is warned.

Reading and drawing need no torch, and recording needs no matplotlib: each name is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dropdiag.deprecation import renamed as _renamed

if TYPE_CHECKING:
    from dropdiag import analysis, gaaf, integrations, interventions, measure, plots
    from dropdiag.analysis.advice.advice import Advice, advise
    from dropdiag.analysis.comparison import Comparison, compare
    from dropdiag.errors import DropdiagError, DropdiagWarning
    from dropdiag.experiments.sweep.sweep import sweep
    from dropdiag.functional.functions import register_activation
    from dropdiag.gaaf.activation import GAAF
    from dropdiag.histograms.histogram import Histogram
    from dropdiag.recorder import Recorder
    from dropdiag.recording.schedules import every, log_spaced
    from dropdiag.recording.watching.open_runs import detach
    from dropdiag.report.page import report
    from dropdiag.store.catalog import Catalog
    from dropdiag.store.reader import Run, Runs, load

__version__ = "0.1.0"

__all__ = [
    "GAAF",
    "Advice",
    "Catalog",
    "Comparison",
    "DropdiagError",
    "DropdiagWarning",
    "Histogram",
    "Recorder",
    "Run",
    "Runs",
    "advise",
    "analysis",
    "compare",
    "detach",
    "every",
    "gaaf",
    "integrations",
    "interventions",
    "load",
    "log_spaced",
    "measure",
    "plots",
    "register_activation",
    "report",
    "sweep",
]

_HOME = {
    "GAAF": "dropdiag.gaaf.activation",
    "Advice": "dropdiag.analysis.advice.advice",
    "Catalog": "dropdiag.store.catalog",
    "Comparison": "dropdiag.analysis.comparison",
    "DropdiagError": "dropdiag.errors",
    "DropdiagWarning": "dropdiag.errors",
    "Histogram": "dropdiag.histograms.histogram",
    "Recorder": "dropdiag.recorder",
    "Run": "dropdiag.store.reader",
    "Runs": "dropdiag.store.reader",
    "advise": "dropdiag.analysis.advice.advice",
    "compare": "dropdiag.analysis.comparison",
    "detach": "dropdiag.recording.watching.open_runs",
    "every": "dropdiag.recording.schedules",
    "load": "dropdiag.store.reader",
    "log_spaced": "dropdiag.recording.schedules",
    "register_activation": "dropdiag.functional.functions",
    "sweep": "dropdiag.experiments.sweep.sweep",
}


_old_name = _renamed(__name__, {"net_variance": "dropdiag.measure:net_variance"})


def __getattr__(name: str) -> Any:
    if name in ("analysis", "gaaf", "integrations", "interventions", "measure", "plots", "report"):
        return import_module(f"dropdiag.{name}")
    if name not in _HOME:
        return _old_name(name, stacklevel=3)  # which raises an AttributeError for a name that never was
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
