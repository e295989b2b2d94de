"""What is in one run, layer by layer: the numbers behind a summary of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.correlation import mean_abs
from dropdiag.analysis.select import matching
from dropdiag.analysis.training import step_bins
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.histogram_rows import Steps, lasts, phases_of
from dropdiag.store.phases import default_phase
from dropdiag.store.reader import Run
from dropdiag.store.schema import TRAIN

FLOW: Final = "net_grad_abs_mean"
WEIGHT, NET_VALUE, CORRELATION = "weight", "net_value", "node_correlation"
LEFT, RIGHT = "saturation_share_left", "saturation_share_right"
TAIL: Final = 0.001  # share of the values beyond either end of a small histogram
QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Flow:
    """Gradient flow of a layer through training.

    Attributes
    ----------
    steps, means : ndarray of float64, shape (m,)
        Mean step and mean of |dL/dz| of each bin of steps, in loss units per net-value unit.
    mean : float
        Over all recorded training steps.
    missing : int
        Steps without a finite value, left out.
    """

    steps: NDArray[np.float64]
    means: NDArray[np.float64]
    mean: float
    missing: int


@dataclass(frozen=True)
class Site:
    """One site of a run.

    Attributes
    ----------
    layer : str
    call : int
    type : str
        The module's class.
    quantity : {"weight", "net_value"}
        What ``histogram`` holds.
    histogram : Histogram or None
        At ``step`` in ``phase``; None where it is not recorded there.
    step : int or None
    phase : str or None
    flow : Flow or None
    saturation_share : float
        Share of the net values in the saturation area (eps = 0.1) at ``step``; NaN where it is not recorded.
    mean_abs_r : float
        Mean |r| over the pairs of nodes at the last evaluation up to the step; NaN where it is not recorded.
    """

    layer: str
    call: int
    type: str
    quantity: str
    histogram: Histogram | None
    step: int | None
    phase: str | None
    flow: Flow | None
    saturation_share: float
    mean_abs_r: float

    def bars(self, number: int) -> tuple[NDArray[np.float64], tuple[float, float]]:
        """Return a small histogram.

        Parameters
        ----------
        number : int
            Bars of equal width.

        Returns
        -------
        heights : ndarray of float64, shape (number,)
            Values in each, from the 0.1 % to the 99.9 % quantile; all zero where there is nothing to show.
        ends : (float, float)
            Those two quantiles; NaN where there are no finite values.
        """
        if self.histogram is None or not self.histogram.n_finite:
            return np.zeros(number), (float("nan"), float("nan"))
        low, high = (float(q) for q in self.histogram.quantile([TAIL, 1.0 - TAIL]))
        if not low < high:  # all values are one
            half = max(abs(low) / 2.0, 1e-12)
            return self.histogram.rebin(np.linspace(low - half, low + half, number + 1)), (low, high)
        return self.histogram.rebin(np.linspace(low, high, number + 1)), (low, high)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values; of the histogram the size, moments and quantiles."""
        shape: dict[str, Any] = {"step": self.step, "phase": self.phase}
        if self.histogram is not None:
            quantiles = dict(zip(map(str, QUANTILES), self.histogram.quantile(QUANTILES).tolist(), strict=True))
            shape |= {"n": self.histogram.n, "not_finite": self.histogram.n - self.histogram.n_finite,
                      "mean": self.histogram.mean(), "sd": self.histogram.std(), "quantiles": quantiles}  # fmt: skip
        flow = None if self.flow is None else {
            "mean": self.flow.mean, "missing": self.flow.missing,
            "steps": self.flow.steps.tolist(), "means": self.flow.means.tolist(),
        }  # fmt: skip
        return {"layer": self.layer, "call": self.call, "type": self.type, self.quantity: shape, "gradient_flow": flow,
                "saturation_share": self.saturation_share, "mean_abs_r": self.mean_abs_r}  # fmt: skip


def sites(
    run: Run, *, layer: str | None = None, step: int | None = None, phase: str | None = None, bins: int = 40
) -> list[Site]:
    """Return every site of a run of which something is recorded, in network order.

    Parameters
    ----------
    run : Run
    layer : str, optional
        Glob pattern of layers' names.
    step : int, optional
        Histograms and shares are those of the last recording up to this step; by default the last of all.
    phase : str, optional
        Of net values and correlations; ``"eval"`` by default where it was recorded, else the only other held-out
        phase, else ``"train"``. Weights have no other phase than ``"train"``.
    bins : int
        Points of a gradient-flow curve at most.

    Returns
    -------
    list of Site

    Raises
    ------
    ArgumentError
        If no layer matches the pattern, nothing is recorded up to the step, or there are several held-out phases,
        none of them ``"eval"``, and none is named; the message lists what there is.
    NotRecordedError
        If nothing is recorded in the phase.

    Notes
    -----
    The mean |r| is above 0 for independent nodes too, by about sqrt(2 / (pi n)) with n samples.
    """
    table = _sites_of(run, layer)
    at, found = _histograms(run, step, phase)
    scalars = run.select([FLOW, LEFT, RIGHT], steps=(None, step), missing_ok=True)  # together: the file is opened once
    flows, shares = _flows(scalars, bins), _shares(scalars, at[NET_VALUE])
    result = []
    for site in table:
        key = (site["layer"], site["call"])
        quantity = WEIGHT if site["kind"] == WEIGHT else NET_VALUE
        correlation = found[CORRELATION].get(key)
        one = Site(
            *key, site.get("type") or "", quantity, found[quantity].get(key), *at[quantity],
            flows.get(key), shares.get(key, float("nan")),
            float("nan") if correlation is None else mean_abs(*correlation.bounds()),
        )  # fmt: skip
        if one.histogram is not None or one.flow is not None or correlation is not None:
            result.append(one)
    return result


_Key = tuple[str, int]
_Moment = tuple[int | None, str | None]


def _sites_of(run: Run, pattern: str | None) -> list[dict[str, Any]]:
    """Sites in network order, each call of a module once more."""
    known = [dict(site) for site in run.meta["layers"]]
    # the list of layers was made before the first pass, and knows of no further calls: the coverage does
    calls = {(site["layer"], site["call"]) for site in known}
    for layer, call in _calls(run) - calls:
        like = next((site for site in known if site["layer"] == layer), None)
        if like is not None:
            known.append({**like, "call": call})
    known.sort(key=lambda site: run.places.key((site["layer"], site["call"])))
    wanted = matching(run, pattern)
    chosen = [site for site in known if wanted(site["layer"])]
    if not chosen:
        names = ", ".join(dict.fromkeys(site["layer"] for site in known))
        raise ArgumentError(f"no layer of {run.name} matches {pattern!r}; it has {names or 'none'}")
    return chosen


def _calls(run: Run) -> set[_Key]:
    return {(site["layer"], int(site["call"])) for site in run.meta.get("coverage", ()) if site["fired"]}


def _histograms(
    run: Run, step: int | None, phase: str | None
) -> tuple[dict[str, _Moment], dict[str, dict[_Key, Histogram]]]:
    """Last recordings up to a step: when, and the histograms, of each quantity; the run's file is opened once."""
    at: dict[str, _Moment] = {}

    def choose(steps: Steps) -> Steps:
        for quantity in (WEIGHT, NET_VALUE, CORRELATION):
            at[quantity] = _moment(run, steps, quantity, step, phase if quantity != WEIGHT else TRAIN)
        _check_step(steps, at, step)
        return {(quantity, str(where)): [when] for quantity, (when, where) in at.items() if when is not None}

    recorded = run.recorded(choose)
    recorded.warn()
    found: dict[str, dict[_Key, Histogram]] = {quantity: {} for quantity in at}
    for row in recorded.rows():
        found[row.quantity][row.layer, row.call] = row.histogram
    return at, found


def _moment(run: Run, steps: Steps, quantity: str, step: int | None, phase: str | None) -> _Moment:
    """Last recording of a quantity up to a step, and its phase; None twice where there is none."""
    phases = phases_of(steps, quantity)
    if phase is None:
        phase = default_phase(phases, quantity)
    elif phases and phase not in phases:
        raise NotRecordedError(f"{run.name} has no {quantity!r} in phase {phase!r}; it has {', '.join(sorted(phases))}")
    last = lasts(steps, step).get((quantity, phase))
    return (last[0], phase) if last else (None, None)


def _check_step(steps: Steps, at: dict[str, _Moment], step: int | None) -> None:
    first = [known[0] for (quantity, _), known in steps.items() if quantity in at]  # a run may hold others alone
    if step is not None and first and all(found is None for found, _ in at.values()):
        raise ArgumentError(f"no histogram is recorded up to step {step}; the first one is of step {min(first)}")


def _flows(scalars: pd.DataFrame, bins: int) -> dict[_Key, Flow]:
    rows = scalars[(scalars["quantity"] == FLOW) & (scalars["phase"] == TRAIN)]
    found: dict[_Key, Flow] = {}
    keys: Any
    for keys, part in rows.groupby(["layer", "call"], sort=False):
        found[str(keys[0]), int(keys[1])] = _flow(part, bins)
    return found


def _flow(part: pd.DataFrame, bins: int) -> Flow:
    finite = part[np.isfinite(part["value"])]
    means = finite.groupby(step_bins(finite["step"], bins))[["step", "value"]].mean()
    return Flow(means["step"].to_numpy(np.float64), means["value"].to_numpy(np.float64),
                float(finite["value"].mean()), len(part) - len(finite))  # fmt: skip


def _shares(scalars: pd.DataFrame, moment: _Moment) -> dict[_Key, float]:
    step, phase = moment
    here = scalars["quantity"].isin([LEFT, RIGHT]) & (scalars["step"] == step) & (scalars["phase"] == phase)
    sums = scalars[here].groupby(["layer", "call"], sort=False)["value"].agg(lambda part: part.sum(min_count=len(part)))
    keys: Sequence[Any] = list(sums.index)
    return {(str(layer), int(call)): float(sums[layer, call]) for layer, call in keys}
