"""The tables of Figure 8: what was measured, beside what the paper published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from dropdiag.analysis import correlation, gradient_flow, learning, saturation, weights
from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.select import scalars
from dropdiag.experiments import paper
from dropdiag.experiments.images.network import (
    BASE,
    LAYERS,
    WITHOUT_GAAF,
    activation_layers,
    weight_layers,
)
from dropdiag.store.reader import Runs

ORDER: Final = ["layer", "condition"]
ENDS: Final = ("", "_low", "_high")


def final_accuracy(runs: Runs) -> pd.DataFrame:
    """Test accuracy after the last epoch of each run.

    Returns
    -------
    DataFrame
        Columns condition, seed, accuracy (per cent).
    """
    frame = scalars(runs, "accuracy", phase="eval").sort_values("step", kind="stable")
    last = frame.groupby(["condition", "run"], sort=False, observed=True).tail(1)
    order = {name: place for place, name in enumerate(runs.conditions)}
    table = pd.DataFrame({
        "condition": last["condition"].astype(str), "seed": last["seed"], "accuracy": 100.0 * last["value"]
    })  # fmt: skip
    place = table["condition"].map(order)
    return table.assign(place=place).sort_values(["place", "seed"]).drop(columns="place").reset_index(drop=True)


def paired_difference(final: pd.DataFrame, condition: str, baseline: str) -> tuple[float, float, float, int]:
    """Difference of two conditions' accuracies, paired by seed.

    Parameters
    ----------
    final : DataFrame
        See `final_accuracy`.
    condition, baseline : str

    Returns
    -------
    mean, low, high : float
        Mean of the seeds' differences and its 95 % t interval, in percentage points; NaN where there are no
        pairs, and the interval for one pair.
    pairs : int
    """
    left, right = (final.loc[final["condition"] == c].set_index("seed")["accuracy"] for c in (condition, baseline))
    difference = (left - right).dropna()
    return (*t_interval(difference.to_numpy()), len(difference))


def accuracy_table(runs: Runs, dataset: str) -> pd.DataFrame:
    """Test accuracy, its difference to "Base", and what GAAF adds, beside Figure 8.

    Parameters
    ----------
    runs : Runs
    dataset : {"cifar10", "cifar100", "svhn"}

    Returns
    -------
    DataFrame
        One row a condition: final_accuracy, best_accuracy (per cent), best_epoch, each with its ``_sd`` over
        seeds; seeds, missing; difference (to "Base") and gain (to the same network without GAAF), in
        percentage points, each a mean over paired seeds with ``_low`` and ``_high`` (95 % t interval) and
        ``_pairs``; paper_accuracy, paper_difference, paper_gain.
    """
    best = learning.best(runs, "accuracy")
    frame = pd.DataFrame({"condition": best["condition"]})
    for name, column, unit in (
        ("final_accuracy", "final", 100.0),
        ("best_accuracy", "best", 100.0),
        ("best_epoch", "evaluation", 1.0),
    ):
        frame[name], frame[f"{name}_sd"] = unit * best[column], unit * best[f"{column}_sd"]
    frame[["seeds", "missing"]] = best[["seeds", "missing"]]
    final, published = final_accuracy(runs), paper.IMAGE_ACCURACY[dataset]
    to_base = {name: BASE for name in frame["condition"] if name != BASE}
    for name, against in (("difference", to_base), ("gain", WITHOUT_GAAF)):
        rows = [_differences(final, condition, against) for condition in frame["condition"]]
        frame[[*(f"{name}{end}" for end in ENDS), f"{name}_pairs"]] = rows
    frame["paper_accuracy"] = frame["condition"].map(published)
    differences = {name: round(value - published[BASE], 2) for name, value in published.items() if name != BASE}
    frame["paper_difference"] = frame["condition"].map(differences)
    frame["paper_gain"] = frame["condition"].map(paper.IMAGE_GAIN[dataset])
    return frame


def _differences(final: pd.DataFrame, condition: str, against: Mapping[str, str]) -> tuple[float, float, float, int]:
    if condition not in against:
        return float("nan"), float("nan"), float("nan"), 0
    return paired_difference(final, condition, against[condition])


def gradient_flow_table(runs: Runs, layers: int = LAYERS) -> pd.DataFrame:
    """Gradient flow and its ratio to "Base" (or to the first condition there is).

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.gradient_flow.table`, by layer, with its means as gradient_flow.
    """
    names = _first(activation_layers(), layers)
    baseline = BASE if BASE in runs.conditions else None
    frame = gradient_flow.table(runs, layers=list(names), baseline=baseline)
    return _ordered(frame.rename(columns={"mean": "gradient_flow", "mean_sd": "gradient_flow_sd"}), names)


def weights_table(runs: Runs, layers: int = LAYERS) -> pd.DataFrame:
    """Shape of the weights after training: as `dropdiag.analysis.weights.table`, by layer."""
    names = _first(weight_layers(), layers)
    return _ordered(weights.table(runs, layers=list(names)), names)


def correlation_table(runs: Runs, layers: int = LAYERS) -> pd.DataFrame:
    """Node correlation after training: as `dropdiag.analysis.correlation.table`, by layer."""
    names = _first(activation_layers(), layers)
    return _ordered(correlation.table(runs, layers=list(names)), names)


def saturation_table(runs: Runs, layers: int = LAYERS) -> pd.DataFrame:
    """Shares of the net values in the saturation area: as `dropdiag.analysis.saturation.table`, by layer."""
    names = _first(activation_layers(), layers)
    return _ordered(saturation.table(runs, layers=list(names)), names)


def _first(names: Mapping[str, str], layers: int) -> dict[str, str]:
    return dict(list(names.items())[:layers])


def _ordered(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Rows by layer, then by condition in its order; layers by their titles."""
    place = {layer: i for i, layer in enumerate(names)}
    frame = frame.sort_values("layer", key=lambda column: column.map(place), kind="stable")
    frame = frame.assign(layer=frame["layer"].map(dict(names))).drop(columns="call")
    return frame[[*ORDER, *(column for column in frame if column not in ORDER)]].reset_index(drop=True)
