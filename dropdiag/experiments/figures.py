"""The figures of `dropdiag reproduce`, drawn by `dropdiag.plots` with the paper's names for the layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from matplotlib.figure import Figure

from dropdiag import plots
from dropdiag.experiments.tables import hidden
from dropdiag.plots.style import save
from dropdiag.store.reader import Runs

Drawing: TypeAlias = Callable[[Runs, int], Figure]

DRAWINGS: Final[dict[str, Drawing]] = {
    "gradient_flow": lambda runs, layers: plots.gradient_flow(runs, layers=hidden(layers, "activation")),
    "weights": lambda runs, layers: plots.weights(runs, layers=hidden(layers, "linear")),
    "correlation": lambda runs, layers: plots.correlation(runs, layers=hidden(layers, "activation")),
    "net_variance": lambda runs, layers: plots.net_variance(runs, layers=hidden(layers, "activation")),
    "saturation": lambda runs, layers: plots.saturation(runs, layers=hidden(layers, "activation")),
    "learning": lambda runs, _layers: plots.learning(runs),
    "gaaf": lambda _runs, _layers: plots.gaaf(),
}
"""Name of each figure -> how it is drawn from the runs and the number of hidden layers."""


def draw(name: str, runs: Runs, layers: int, folder: Path) -> list[Path]:
    """Draw one figure and write it as PNG, SVG and PDF.

    Returns
    -------
    list of Path
        The three files, ``folder/NAME.png`` first.
    """
    return save(DRAWINGS[name](runs, layers), folder / name)
