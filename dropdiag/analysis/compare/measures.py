"""One number a run, layer and measure: what is compared."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis import correlation, learning, saturation
from dropdiag.analysis.compare.diverging import diverged
from dropdiag.analysis.compare.opening import Problems, attempt
from dropdiag.analysis.compare.step_ranges import NOT_FINITE, flows
from dropdiag.analysis.compare.weight_shapes import ks_normal, shape_distances
from dropdiag.analysis.phases import common, rows_of_one_phase
from dropdiag.analysis.select import as_text, histograms, last, reduced
from dropdiag.errors import NotRecordedError
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

LOG_RATIO: Final = "log ratio"
DIFFERENCE: Final = "difference"
DISTANCE: Final = "distance"

COLUMNS: Final = ["condition", "seed", "run", "layer", "call", "quantity", "measure", "value", "null", "until", "note"]
TAIL: Final = 0.1
"""A scalar of training ends with the mean of this last share of its rows: one step alone is noise."""
COUNTERS: Final = frozenset({"epoch", "epochs", "step", "global_step", "iteration"})
"""Scalars of the network that only count: no effect of them says anything."""
LAST: Final = "the best is the last evaluation"
"""Note of a run that may have become better yet, had training gone on."""
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


def gather(
    runs: Runs, problems: Problems, untils: Collection[int | None] = (None,)
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Take all measures of all runs.

    Parameters
    ----------
    runs : Runs
    problems : list of str
        What could not be taken is added, and the runs that have diverged.
    untils : collection of int or None
        Last steps of the windows over which the gradient flow is taken.

    Returns
    -------
    values : DataFrame
        Columns condition, seed, run, layer (None for the network), call, quantity, measure, value (NaN for a run
        that is left out), null (what independent nodes would give; NaN where there is none), until (last step of the
        gradient flow; NaN is all), note (why a value is missing, or what it may hide).
    distributions : dict of str to DataFrame
        Of "weight" and "net_value", where recorded: condition, seed, run, layer, call, histogram (all values finite).
    """
    flow = _ask(runs, partial(flows, untils=untils), problems)
    every = {name: found for name in ("weight", "net_value")
             if (found := _ask(runs, _last_histograms(name), problems)) is not None}  # fmt: skip
    frames = [
        None if flow is None else _rows(flow, "gradient_flow"),
        _saturation(_ask(runs, saturation.per_run, problems)),
        *_correlations(runs, every.get("net_value"), problems),
        *_weights(every.get("weight")),
        *_network(runs, problems),
    ]
    known = [frame for frame in frames if frame is not None and len(frame)]
    values = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=COLUMNS)
    broken = {_PLURAL[name]: frame.loc[~frame["whole"], "run"].unique().tolist() for name, frame in every.items()}
    problems += [one for one in diverged(runs, values, broken) if one not in problems]
    return values, {name: frame[frame["whole"]].reset_index(drop=True) for name, frame in every.items()}


_PLURAL: Final = {"weight": "weights", "net_value": "net values"}


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
        frame = frame.assign(whole=[h.n_finite == h.n for h in frame["histogram"]])
        return frame[[h.n > 0 for h in frame["histogram"]]].reset_index(drop=True)

    return ask


def _holding(runs: Runs, quantity: str) -> Runs:
    """Return the runs that hold a histogram quantity at all; the others are not missed (a light preset)."""
    some = [run for run in runs if run.phases(quantity)]
    if not some:
        raise NotRecordedError(f"no run holds {quantity!r}; record it with a probe that writes it")
    return Runs(some)


def _correlations(runs: Runs, net_values: pd.DataFrame | None, problems: Problems) -> list[pd.DataFrame | None]:
    """Mean |r|, participation ratio and effective rank, each with what independent nodes would give.

    A run's last |r| counts if it is of its last evaluation: a network that has diverged since has none.
    """
    frame = _ask(runs, _last_histograms("node_correlation"), problems)
    if frame is None:
        return []
    frame = frame[[h.n_finite > 0 for h in frame["histogram"]]].reset_index(drop=True)
    samples = _ask(runs, _last_scalars("node_correlation_samples"), [])
    ended = _last_steps(frame, samples, net_values)
    late = frame["step"] < frame["run"].map(ended)
    values = [correlation.mean_abs(*h.bounds()) for h in frame["histogram"]]
    notes = [f"its last |r| is of step {step:,}, before its last evaluation" if old else ""
             for step, old in zip(frame["step"], late, strict=True)]  # fmt: skip
    frame = frame.assign(value=pd.Series(values, index=frame.index, dtype="float64").mask(late), note=notes)
    frame = _joined(frame, samples, "samples")
    frame = _joined(frame, _ask(runs, _last_scalars("node_correlation_nodes"), []), "nodes")
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


def _last_steps(frame: pd.DataFrame, *others: pd.DataFrame | None) -> dict[str, int]:
    """Last step of each run's evaluations, of the phase that the frame is of."""
    phases = set(frame["phase"])
    parts = [part.loc[part["phase"].isin(phases), ["run", "step"]] for part in (frame, *others) if part is not None]
    lasts = pd.concat(parts).groupby("run")["step"].max()
    return {str(run): int(step) for run, step in lasts.items()}


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
    whole = frame[frame["whole"]]
    shapes = whole.groupby("run", sort=False)["histogram"].transform(lambda part: shape_distances(list(part)))
    columns: dict[str, list[float]] = {
        "weight_excess_kurtosis": [h.excess_kurtosis() for h in whole["histogram"]],
        "weight_ks_normal": [ks_normal(h) for h in whole["histogram"]],
        "weight_shape_distance": shapes.astype("float64").tolist(),
    }
    frame = frame.assign(note=np.where(frame["whole"], "", f"the weights are {NOT_FINITE}"))
    return [
        _rows(frame.assign(value=pd.Series(values, index=whole.index, dtype="float64").reindex(frame.index)), name)
        for name, values in columns.items()
    ]


def _network(runs: Runs, problems: Problems) -> list[pd.DataFrame]:
    """Scalars of the network as a whole: at their end, their best, and when that was."""
    every = attempt(runs, learning.quantities, problems) or []
    names = [name for name in every if name.lower() not in COUNTERS]
    found = [attempt(runs, partial(_scalar, name=name), problems) or [] for name in names]
    return [frame for frames in found for frame in frames]


def _scalar(runs: Runs, name: str) -> list[pd.DataFrame]:
    held: dict[str, list[str]] = {}
    for batch in runs.batches(name, layer=learning.NETWORK, columns=["phase"]):
        phases = batch.drop_duplicates().groupby("run", sort=False, observed=True)["phase"]
        held |= {str(run): part.astype("str").tolist() for run, part in phases}
    phase = common(held, name)
    if phase == TRAIN:
        ends = pd.concat([as_text(_ended(batch)) for batch in runs.batches(name, layer=learning.NETWORK, phase=TRAIN)])
        return [_rows(ends.assign(note=_lost(ends["value"], name)), f"final:{name}", name)]
    mode = "min" if less_is_better(name) else "max"
    best = learning.best_per_run(runs, name, phase=phase, mode=mode).assign(layer=None, call=0)
    best = best.assign(
        lost=_lost(best["final"], name), end=np.where(best["evaluation"] < best["evaluations"], "", LAST)
    )
    kinds = {"final": ("final", "lost"), "best": ("best", "end"), "epochs_to_best": ("evaluation", "end")}
    return [_rows(best.assign(value=best[value], note=best[note]), f"{kind}:{name}", name)
            for kind, (value, note) in kinds.items()]  # fmt: skip


def _lost(final: pd.Series[float], name: str) -> list[str]:
    """Note for a loss that ends as NaN or infinite."""
    return ["" if np.isfinite(one) or not less_is_better(name) else f"the last {name} is {NOT_FINITE}" for one in final]


def _ended(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the last rows of each run, missing and infinite values left out; NaN where the very last is one."""
    frame = frame.sort_values("step", kind="stable")
    runs = frame.groupby("run", sort=False, observed=True)
    left = runs.cumcount(ascending=False)
    tail = frame[left < (TAIL * runs["step"].transform("size")).clip(lower=1)]
    mean = tail["value"].where(np.isfinite(tail["value"])).groupby(tail["run"], observed=True).mean()
    ends = tail.drop_duplicates("run", keep="last")
    return ends.assign(value=ends["run"].map(mean).astype("float64").where(np.isfinite(ends["value"])))


def _saturation(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    notes = np.where(np.isfinite(frame["share"]), "", f"the net values are {NOT_FINITE}")
    return _rows(frame.assign(value=frame["share"], note=notes), "saturation_share")


def _rows(frame: pd.DataFrame, measure: str, quantity: str | None = None) -> pd.DataFrame:
    named = frame.assign(measure=measure, quantity=quantity or measure_of(measure).quantity)
    for column, missing in (("null", np.nan), ("until", np.nan), ("note", "")):
        named = named if column in named else named.assign(**{column: missing})
    return named[COLUMNS].astype({"layer": "object"})
