"""The tables of `dropdiag reproduce`: what was measured, beside what the paper published.

The numbers come from `dropdiag.analysis`; here they are only put in order, next to those of
`dropdiag.experiments.paper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from dropdiag.analysis import correlation, gradient_flow, learning, net_variance, saturation, weights
from dropdiag.analysis.select import GROUP
from dropdiag.experiments import paper
from dropdiag.experiments.mnist.network import NO_DROPOUT
from dropdiag.store.reader import Runs

ORDER: Final = ["layer", "condition"]


def hidden(layers: int, part: str) -> dict[str, str]:
    """Return module names and titles of the hidden layers: ``{"layer1.linear": "Layer 1", ...}``."""
    return {f"layer{i}.{part}": f"Layer {i}" for i in range(1, layers + 1)}


def gradient_flow_table(runs: Runs, layers: int) -> pd.DataFrame:
    """Gradient flow and its ratio to "No dropout", beside Table 2 of the paper.

    Parameters
    ----------
    runs : Runs
    layers : int
        Number of hidden layers.

    Returns
    -------
    DataFrame
        One row a layer and condition: layer, condition, gradient_flow (mean of abs(dL/dz) over samples,
        nodes, steps and seeds; loss units per net-value unit), gradient_flow_sd (over seeds), ratio
        (geometric mean over paired seeds), ratio_low, ratio_high (95 % interval), pairs, seeds, missing;
        common_ratio, common_ratio_low, common_ratio_high, the same over the first common_steps, which all runs of
        the two conditions have; paper_gradient_flow, paper_ratio.
    """
    baseline = NO_DROPOUT if NO_DROPOUT in runs.conditions else None
    names = hidden(layers, "activation")
    frame = gradient_flow.table(runs, layers=list(names), baseline=baseline)
    frame = frame.merge(_over_shared_steps(runs, list(names), baseline), on=GROUP, how="left")
    frame = frame.rename(columns={"mean": "gradient_flow", "mean_sd": "gradient_flow_sd"})
    frame = _with_paper(frame, names, gradient_flow=paper.GRADIENT_FLOW)
    if baseline is not None:
        frame = _with_paper(frame, names, ratio=paper.GRADIENT_FLOW_RATIO)
    return _ordered(frame, names)


def _over_shared_steps(runs: Runs, layers: list[str], baseline: str | None) -> pd.DataFrame:
    """Return each condition's ratio to the baseline over the steps that all runs of the two have."""
    parts = []
    for name in runs.conditions:
        pair = [name, baseline or runs.conditions[0]]
        last = gradient_flow.shared_steps(runs, pair)
        part = gradient_flow.table(runs, layers=layers, conditions=[name], baseline=pair[1], until=last)
        steps = int(part["steps"].max()) if last is None else last
        kept = part[[*GROUP, "ratio", "ratio_low", "ratio_high"]].add_prefix("common_")
        parts.append(kept.set_axis([*GROUP, *kept.columns[3:]], axis=1).assign(common_steps=steps))
    return pd.concat(parts, ignore_index=True)


def weights_table(runs: Runs, layers: int) -> pd.DataFrame:
    """Shape of the weights after training, with the peaks of Figure 1.

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.weights.table`, with a column paper_peak_density.
    """
    names = hidden(layers, "linear")
    frame = weights.table(runs, layers=list(names))
    return _ordered(_with_paper(frame, names, peak_density=paper.WEIGHT_PEAK), names)


def correlation_table(runs: Runs, layers: int) -> pd.DataFrame:
    """Node correlation after training, with the peaks of Figure 2.

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.correlation.table`, with columns peak_density (greatest density of r, seeds
        pooled) and paper_peak_density.
    """
    names = hidden(layers, "activation")
    frame = correlation.table(runs, layers=list(names))
    curves = correlation.curves(runs, layers=list(names))
    peaks = curves.groupby(["condition", "layer", "call"], sort=False)["density"].max().rename("peak_density")
    frame = frame.merge(peaks.reset_index(), on=["condition", "layer", "call"], how="left")
    return _ordered(_with_paper(frame, names, peak_density=paper.CORRELATION_PEAK), names)


def saturation_table(runs: Runs, layers: int) -> pd.DataFrame:
    """Saturation shares of the net values on test data, with the modes of Figure 5.

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.saturation.table`, with a column paper_modes (text).
    """
    names = hidden(layers, "activation")
    frame = saturation.table(runs, layers=list(names))
    return _ordered(_with_paper(frame, names, modes=paper.NET_VALUE_MODES), names)


def net_variance_table(runs: Runs, layers: int) -> pd.DataFrame:
    """Net variance under dropout and the gradient of saturated nodes, after training.

    Returns
    -------
    DataFrame
        As `dropdiag.analysis.net_variance.table`.
    """
    names = hidden(layers, "activation")
    return _ordered(net_variance.table(runs, layers=list(names)), names)


def accuracy_table(runs: Runs) -> pd.DataFrame:
    """Test accuracy and the epoch of the best one, beside Figure 7.

    Where accuracies on validation images are logged, the epoch is that of the best of *them*, and the best test
    accuracy is the one there; otherwise both are those of the best test accuracy.

    Returns
    -------
    DataFrame
        One row a condition: final_accuracy, best_accuracy (per cent), best_epoch, each with its ``_sd`` over
        seeds; seeds, missing; paper_accuracy, paper_accuracy_sd (per cent), paper_epochs, paper_epochs_sd.
    """
    chosen_by = "validation_accuracy" if "validation_accuracy" in learning.quantities(runs) else None
    best = learning.best(runs, "accuracy", by=chosen_by)
    frame = pd.DataFrame({"condition": best["condition"]})
    for name, column, unit in (
        ("final_accuracy", "final", 100.0),
        ("best_accuracy", "best", 100.0),
        ("best_epoch", "evaluation", 1.0),
    ):
        frame[name], frame[f"{name}_sd"] = unit * best[column], unit * best[f"{column}_sd"]
    frame[["seeds", "missing"]] = best[["seeds", "missing"]]
    for column in ("accuracy", "accuracy_sd", "epochs", "epochs_sd"):
        published = {name: getattr(row, column) for name, row in paper.MNIST_ACCURACY.items()}
        frame[f"paper_{column}"] = frame["condition"].map(published)
    return frame


def _with_paper(
    frame: pd.DataFrame, names: Mapping[str, str], **published: Mapping[str, Mapping[int, Any]]
) -> pd.DataFrame:
    """Add a column ``paper_<name>`` for each published quantity, empty where the paper has no number."""
    number = {layer: i for i, layer in enumerate(names, start=1)}
    keys = list(zip(frame["condition"], frame["layer"], strict=True))
    columns = {
        f"paper_{name}": [values.get(condition, {}).get(number[layer]) for condition, layer in keys]
        for name, values in published.items()
    }
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _ordered(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Rows by layer, then by condition in its order; layers by their titles."""
    place = {layer: i for i, layer in enumerate(names)}
    frame = frame.sort_values("layer", key=lambda column: column.map(place), kind="stable")
    frame = frame.assign(layer=frame["layer"].map(dict(names))).drop(columns="call")
    return frame[[*ORDER, *(column for column in frame if column not in ORDER)]].reset_index(drop=True)
