"""One number a run, layer and measure: what is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis import correlation, gradient_flow, learning, saturation
from dropdiag.analysis.compare.opening import Problems, attempt
from dropdiag.analysis.compare.shapes import ks_normal, shape_distances
from dropdiag.analysis.phases import common, rows_of_one_phase
from dropdiag.analysis.select import as_text, histograms, last, reduced
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

LOG_RATIO: Final = "log ratio"
DIFFERENCE: Final = "difference"
DISTANCE: Final = "distance"

COLUMNS: Final = ["condition", "seed", "run", "layer", "call", "quantity", "measure", "value", "null"]
TAIL: Final = 0.1
"""A scalar of training ends with the mean of this last share of its rows: one step alone is noise."""
LESS_IS_BETTER: Final = ("loss", "error", "perplexity", "ppl", "nll", "mse", "mae", "rmse")


@dataclass(frozen=True)
class Measure:
    """What a measure is taken from, and on what scale its effect is.

    Attributes
    ----------
    name, quantity : str
    scale : {"log ratio", "difference", "distance"}
    unit : str
        Of the effect: ``"1"`` for a log ratio.
    """

    name: str
    quantity: str
    scale: str
    unit: str


PER_RUN: Final = {
    m.name: m
    for m in (
        Measure("gradient_flow", "net_grad_abs_mean", LOG_RATIO, "1"),
        Measure("saturation_share", "net_value", DIFFERENCE, "1"),
        Measure("abs_correlation", "node_correlation", DIFFERENCE, "1"),
        Measure("participation_ratio", "participation_ratio", DIFFERENCE, "nodes"),
        Measure("effective_rank", "effective_rank", DIFFERENCE, "nodes"),
        Measure("weight_excess_kurtosis", "weight", DIFFERENCE, "1"),
        Measure("weight_ks_normal", "weight", DIFFERENCE, "1"),
        Measure("weight_shape_distance", "weight", DIFFERENCE, "standard deviations"),
    )
}
"""Measures of layers that are one number a run. Scalars of the network come with them, by their name."""


def measure_of(name: str) -> Measure:
    """Return a measure by name, also of a scalar of the network ("final:loss", "epochs_to_best:accuracy")."""
    if name in PER_RUN:
        return PER_RUN[name]
    kind, _, scalar = name.partition(":")
    return Measure(name, scalar, DIFFERENCE, "evaluations" if kind == "epochs_to_best" else "as logged")


def less_is_better(scalar: str) -> bool:
    """Whether a scalar's name says that less of it is better (a loss, an error, a perplexity)."""
    return any(word in scalar.lower() for word in LESS_IS_BETTER)


def gather(runs: Runs, problems: Problems) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """Take all measures of all runs.

    Parameters
    ----------
    runs : Runs
    problems : list of str
        What could not be taken is added.

    Returns
    -------
    values : DataFrame
        Columns condition, seed, run, layer (None for the network), call, quantity, measure, value, null (what
        independent nodes would give; NaN where there is none).
    distributions : dict of str to DataFrame
        Of "weight" and "net_value", where recorded: condition, seed, run, layer, call, histogram.
    lengths : DataFrame
        Columns condition, run, steps: recorded steps of the gradient flow.
    """
    flow = _ask(runs, _common_flow, problems)
    distributions = {name: found for name in ("weight", "net_value")
                     if (found := _ask(runs, _last_histograms(name), problems)) is not None}  # fmt: skip
    frames = [
        None if flow is None else _rows(flow.rename(columns={"mean": "value"}), "gradient_flow"),
        _measured(_ask(runs, saturation.per_run, problems), "saturation_share", "share"),
        *_correlations(runs, problems),
        *_weights(distributions.get("weight")),
        *_network(runs, problems),
    ]
    known = [frame for frame in frames if frame is not None and len(frame)]
    values = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=COLUMNS)
    steps = pd.DataFrame(columns=["condition", "run", "steps"]) if flow is None else flow
    lengths = steps.groupby(["condition", "run"], sort=False)["steps"].max().reset_index()
    return values, distributions, lengths


def _common_flow(runs: Runs) -> pd.DataFrame:
    """Gradient flow over the steps that all completed runs have: it falls as training goes on, in any condition.

    The column ``steps`` is the number that each run recorded.
    """
    whole = gradient_flow.per_run(runs)
    lasts = [int(run.meta.get("steps") or 0) for run in runs if run.meta["state"] == "completed"]
    lasts = [last for last in lasts if last]
    if len(set(lasts)) < 2:
        return whole
    return gradient_flow.per_run(runs, until=min(lasts)).assign(steps=whole["steps"])


def _ask(runs: Runs, ask: Callable[[Runs], pd.DataFrame], problems: Problems) -> pd.DataFrame | None:
    """As `attempt`; runs are called as among all ``runs``."""
    return attempt(runs, lambda some: _called(ask(some), some, runs), problems)


def _called(frame: pd.DataFrame, some: Runs, runs: Runs) -> pd.DataFrame:
    """Call runs as among all of them: a label depends on the runs beside it."""
    names = dict(zip((run.path for run in runs), runs.labels(), strict=True))
    known = {label: names[run.path] for label, run in zip(some.labels(), some, strict=True)}
    return frame.assign(run=frame["run"].map(known))


def _last_histograms(quantity: str) -> Callable[[Runs], pd.DataFrame]:
    def ask(runs: Runs) -> pd.DataFrame:
        some = _holding(runs, quantity)
        frame = _called(histograms(some, quantity), some, runs)
        return frame[[h.n_finite > 0 for h in frame["histogram"]]].reset_index(drop=True)

    return ask


def _holding(runs: Runs, quantity: str) -> Runs:
    """Return the runs that hold a histogram quantity at all; the others are not missed (a light preset)."""
    some = [run for run in runs if run.phases(quantity)]
    if not some:
        raise NotRecordedError(f"no run holds {quantity!r}; record it with a probe that writes it")
    return Runs(some)


def _correlations(runs: Runs, problems: Problems) -> list[pd.DataFrame | None]:
    """Mean |r|, participation ratio and effective rank, each with what independent nodes would give."""
    frame = _ask(runs, _last_histograms("node_correlation"), problems)
    if frame is None:
        return []
    frame = frame.assign(value=[correlation.mean_abs(*h.bounds()) for h in frame["histogram"]])
    for name in ("samples", "nodes"):
        frame = _joined(frame, _ask(runs, _last_scalars(f"node_correlation_{name}"), []), name)
    frames = [_rows(frame.assign(null=[correlation.null_mean_abs(n) for n in frame["samples"]]), "abs_correlation")]
    for measure, null in (
        ("participation_ratio", correlation.null_participation_ratio),
        ("effective_rank", correlation.null_effective_rank),
    ):
        sizes = zip(frame["nodes"], frame["samples"], strict=True)
        found = _joined(frame.drop(columns="value"), _ask(runs, _last_scalars(measure), []), "value")
        found = found.assign(null=[null(m, n) for m, n in sizes])
        frames.append(_rows(found[found["value"].notna()], measure))
    return [*frames]


def _last_scalars(quantity: str) -> Callable[[Runs], pd.DataFrame]:
    def ask(runs: Runs) -> pd.DataFrame:
        return rows_of_one_phase(reduced(runs, quantity, last), quantity)

    return ask


def _joined(frame: pd.DataFrame, other: pd.DataFrame | None, name: str) -> pd.DataFrame:
    """Add the values of another frame (same run and site) as a column; NaN where there is none."""
    keys = ["run", "layer", "call"]
    if other is None:
        return frame.assign(**{name: np.nan})
    beside = other.drop_duplicates(keys, keep="last")[[*keys, "value"]].rename(columns={"value": name})
    return frame.merge(beside, on=keys, how="left")


def _weights(frame: pd.DataFrame | None) -> list[pd.DataFrame]:
    if frame is None:
        return []
    shapes = frame.groupby("run", sort=False)["histogram"].transform(lambda part: shape_distances(list(part)))
    columns: dict[str, list[float]] = {
        "weight_excess_kurtosis": [h.excess_kurtosis() for h in frame["histogram"]],
        "weight_ks_normal": [ks_normal(h) for h in frame["histogram"]],
        "weight_shape_distance": shapes.astype("float64").tolist(),
    }
    return [_rows(frame.assign(value=values), name) for name, values in columns.items()]


def _network(runs: Runs, problems: Problems) -> list[pd.DataFrame]:
    """Scalars of the network as a whole: at their end, their best, and when that was."""
    names = attempt(runs, learning.quantities, problems) or []
    found = [attempt(runs, partial(_scalar, name=name), problems) or [] for name in names]
    return [frame for frames in found for frame in frames]


def _scalar(runs: Runs, name: str) -> list[pd.DataFrame]:
    held: dict[str, list[str]] = {}
    for batch in runs.batches(name, layer=learning.NETWORK, columns=["phase"]):
        phases = batch.drop_duplicates().groupby("run", sort=False, observed=True)["phase"]
        held |= {str(run): part.astype("str").tolist() for run, part in phases}
    phase = common(held, name)
    if phase == TRAIN:
        ends = [as_text(_ended(batch)) for batch in runs.batches(name, layer=learning.NETWORK, phase=TRAIN)]
        return [_rows(pd.concat(ends), f"final:{name}", name)]
    mode = "min" if less_is_better(name) else "max"
    best = learning.best_per_run(runs, name, phase=phase, mode=mode).assign(layer=None, call=0)
    kinds = {"final": "final", "best": "best", "epochs_to_best": "evaluation"}
    return [_rows(best.assign(value=best[column]), f"{kind}:{name}", name) for kind, column in kinds.items()]


def _ended(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the last rows of each run, missing and infinite values left out."""
    frame = frame.sort_values("step", kind="stable")
    runs = frame.groupby("run", sort=False, observed=True)
    left = runs.cumcount(ascending=False)
    tail = frame[left < (TAIL * runs["step"].transform("size")).clip(lower=1)]
    mean = tail["value"].where(np.isfinite(tail["value"])).groupby(tail["run"], observed=True).mean()
    ends = tail.drop_duplicates("run", keep="last")
    return ends.assign(value=ends["run"].map(mean).astype("float64"))


def _measured(frame: pd.DataFrame | None, measure: str, column: str) -> pd.DataFrame | None:
    return None if frame is None else _rows(frame.assign(value=frame[column]), measure)


def _rows(frame: pd.DataFrame, measure: str, quantity: str | None = None) -> pd.DataFrame:
    named = frame.assign(measure=measure, quantity=quantity or measure_of(measure).quantity)
    named = named if "null" in named else named.assign(null=np.nan)
    return named[COLUMNS].astype({"layer": "object"})
