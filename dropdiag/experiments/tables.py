"""The tables of `dropdiag reproduce`: what was measured, beside what the paper published.

The numbers come from `dropdiag.analysis`; here they are only put in order, next to those of
`dropdiag.experiments.paper`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

from dropdiag.analysis import correlation, gradient_flow, learning, net_variance, saturation, weights
from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.seeds import t_interval
from dropdiag.analysis.select import GROUP, scalars
from dropdiag.experiments.layers import Layers
from dropdiag.store.reader import Runs

ORDER: Final = ["layer", "condition"]
ENDS: Final = ("", "_low", "_high")


def gradient_flow_table(runs: Runs, layers: Layers, wanted: str, *, over_shared_steps: bool = False) -> pd.DataFrame:
    """Gradient flow and its ratio to a baseline.

    Parameters
    ----------
    runs : Runs
    layers : Layers
    wanted : str
        The baseline. If no run has this condition, it is what `dropdiag.compare` takes.
    over_shared_steps : bool
        Add common_ratio, common_ratio_low, common_ratio_high: the ratio over the first common_steps, which all
        runs of the two conditions have.

    Returns
    -------
    DataFrame
        One row a layer and condition: layer, condition, gradient_flow (mean of abs(dL/dz) over samples,
        nodes, steps and seeds; loss units per net-value unit), gradient_flow_sd (over seeds), ratio
        (geometric mean over paired seeds), ratio_low, ratio_high (95 % interval), pairs, seeds, missing.
    """
    baseline = wanted if wanted in runs.conditions else baseline_of(runs)
    frame = gradient_flow.table(runs, layers=list(layers.activations), baseline=baseline)
    if over_shared_steps:
        frame = frame.merge(_over_shared_steps(runs, list(layers.activations), baseline), on=GROUP, how="left")
    frame = frame.rename(columns={"mean": "gradient_flow", "mean_sd": "gradient_flow_sd"})
    return ordered(frame, layers.activations)


def _over_shared_steps(runs: Runs, layers: list[str], baseline: str) -> pd.DataFrame:
    """Return each condition's ratio to the baseline over the steps that all runs of the two have."""
    parts = []
    for name in runs.conditions:
        pair = [name, baseline]
        last = gradient_flow.shared_steps(runs, pair)
        part = gradient_flow.table(runs, layers=layers, conditions=[name], baseline=pair[1], until=last)
        steps = int(part["steps"].max()) if last is None else last
        kept = part[[*GROUP, "ratio", "ratio_low", "ratio_high"]].add_prefix("common_")
        parts.append(kept.set_axis([*GROUP, *kept.columns[3:]], axis=1).assign(common_steps=steps))
    return pd.concat(parts, ignore_index=True)


def weights_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Shape of the weights after training: as `dropdiag.analysis.weights.table`, by layer."""
    return ordered(weights.table(runs, layers=list(layers.weights)), layers.weights)


def correlation_table(runs: Runs, layers: Layers, *, peaks: bool = False) -> pd.DataFrame:
    """Node correlation after training: as `dropdiag.analysis.correlation.table`, by layer.

    With `peaks` there is a column peak_density, the greatest density of r, seeds pooled.
    """
    names = list(layers.activations)
    frame = correlation.table(runs, layers=names)
    if peaks:
        by_group = correlation.curves(runs, layers=names).groupby(GROUP, sort=False)
        frame = frame.merge(by_group["density"].max().rename("peak_density").reset_index(), on=GROUP, how="left")
    return ordered(frame, layers.activations)


def saturation_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Shares of the test set's net values in the saturation area: as `dropdiag.analysis.saturation.table`."""
    return ordered(saturation.table(runs, layers=list(layers.activations)), layers.activations)


def net_variance_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Net variance under dropout and the gradient of saturated nodes: as `dropdiag.analysis.net_variance.table`."""
    return ordered(net_variance.table(runs, layers=list(layers.activations)), layers.activations)


def accuracy_table(runs: Runs) -> pd.DataFrame:
    """Test accuracy and the epoch of the best one.

    Where accuracies on validation images are logged, the epoch is that of the best of *them*, and the best test
    accuracy is the one there; otherwise both are those of the best test accuracy.

    Returns
    -------
    DataFrame
        One row a condition: final_accuracy, best_accuracy (per cent), best_epoch, each with its ``_sd`` over
        seeds; seeds, missing.
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
    return frame


def final_accuracy(runs: Runs) -> pd.DataFrame:
    """Test accuracy after the last epoch of each run.

    Returns
    -------
    DataFrame
        Columns condition, seed, accuracy (per cent).
    """
    # Stable: of two evaluations at one step, the one logged later counts.
    frame = scalars(runs, "accuracy", phase="eval").sort_values("step", kind="stable")
    last = frame.groupby(["condition", "run"], sort=False, observed=True).tail(1)
    # Conditions in their own order, not by name.
    ordered = last.assign(
        condition=pd.Categorical(last["condition"], runs.conditions), accuracy=100.0 * last["value"]
    ).sort_values(["condition", "seed"], ignore_index=True)
    return ordered[["condition", "seed", "accuracy"]].astype({"condition": str})


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


def with_differences(frame: pd.DataFrame, runs: Runs, **baselines: Mapping[str, str]) -> pd.DataFrame:
    """Add to `accuracy_table` how final accuracies differ from those of other conditions, paired by seed.

    Parameters
    ----------
    frame : DataFrame
    runs : Runs
    **baselines : mapping of str to str
        Name of a difference -> condition -> its baseline.

    Returns
    -------
    DataFrame
        With columns NAME, NAME_low, NAME_high, NAME_pairs; see `paired_difference`.
    """
    final, frame = final_accuracy(runs), frame.copy()
    nothing = (float("nan"), float("nan"), float("nan"), 0)
    for name, against in baselines.items():
        frame[[*(f"{name}{end}" for end in ENDS), f"{name}_pairs"]] = [
            paired_difference(final, condition, against[condition]) if condition in against else nothing
            for condition in frame["condition"]
        ]
    return frame


def with_published(frame: pd.DataFrame, titles: Iterable[str] = (), **columns: Mapping[str, Any]) -> pd.DataFrame:
    """Add the paper's numbers to a table.

    Parameters
    ----------
    frame : DataFrame
    titles : iterable of str
        Titles of the layers in their order, where the table is by layer.
    **columns : mapping
        Name -> condition -> number, or in a table by layer condition -> layer, numbered from 1 -> number.

    Returns
    -------
    DataFrame
        With columns paper_NAME, empty where the paper has no number.
    """
    place = {title: i for i, title in enumerate(titles, start=1)}
    layers = [place[title] for title in frame["layer"]] if place else [0] * len(frame)
    keys = list(zip(frame["condition"], layers, strict=True))
    added = {
        f"paper_{name}": [_published(given.get(condition), layer) for condition, layer in keys]
        for name, given in columns.items()
    }
    return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)


def _published(given: Any, layer: int) -> Any:
    return given.get(layer) if isinstance(given, Mapping) else given


def ordered(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of a table by layer, conditions in the order that they have; layers get their titles."""
    place = {layer: i for i, layer in enumerate(names)}
    # Stable: within a layer the conditions keep their order.
    frame = frame.sort_values("layer", key=lambda column: column.map(place), kind="stable")
    frame = frame.assign(layer=frame["layer"].map(dict(names))).drop(columns="call")
    return frame[[*ORDER, *(column for column in frame if column not in ORDER)]].reset_index(drop=True)
