"""How many net values lie in the saturation area? Figure 5.

The saturation area of an activation function phi is { z : |phi'(z)| <= eps * sup |phi'| }; for GAAF phi is
the base function, because GAAF's own derivative is large everywhere by design. (Delve's "saturation" is
another thing: the spectrum of a layer's covariance.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis import kde
from dropdiag.analysis.kde import Limits, Wanted
from dropdiag.analysis.phases import rows_of_one_phase
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, KEYS, as_text, histograms, in_order, last, pushed_down, read_histograms
from dropdiag.errors import ArgumentError
from dropdiag.histograms.grid import BINS, NEGATIVE_ZERO, ZERO, bin_bounds
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import Names

_AT = ["run", "step", "layer", "call"]
LEFT, RIGHT = "saturation_share_left", "saturation_share_right"
SHARES = ["left", "right", "share"]


def table(
    runs: Run | Runs, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
) -> pd.DataFrame:
    """Exact saturation shares at eps = 0.1, as they were counted while recording.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    phase : str, optional
        One for all runs, as in `dropdiag.analysis.select.histograms`.

    Returns
    -------
    DataFrame
        One row a condition and layer, columns condition, layer, call; left, right, share (their sum), each a
        mean over runs at their last recorded step, with its ``_sd``; seeds; missing.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Examples
    --------
    >>> table = dd.analysis.saturation.table(runs)
    >>> table[["condition", "layer", "seeds"]]
        condition layer  seeds
    0  No dropout  act1      3
    1  No dropout  act2      3
    2     Dropout  act1      3
    3     Dropout  act2      3
    """
    return over_seeds(per_run(runs, layers=layers, conditions=conditions, phase=phase), GROUP, SHARES)


def per_run(
    runs: Run | Runs,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    net_values: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Saturation shares of each run at its last recorded step, as they were counted while recording.

    Parameters
    ----------
    runs, layers, conditions, phase
        As in `table`.
    net_values : DataFrame, optional
        Histograms of the net values in the same phase, as `dropdiag.analysis.select.histograms` gave them; read from
        the runs if they are not given.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer, call, left, right, share. Missing where the histogram of the
        same step holds net values that are not finite: a network that has diverged has no share.

    Examples
    --------
    >>> shares = dd.analysis.saturation.per_run(runs)
    >>> shares["run"].nunique()
    6
    """
    both = rows_of_one_phase(_recorded(runs, layers, conditions), LEFT, phase).assign(
        share=lambda frame: frame["left"] + frame["right"]
    )
    if net_values is None:
        if all(map(_has_finite_shares, as_runs(runs))):
            return both.reset_index(drop=True)
        # read as `histograms` does not: shares may be recorded without them
        held, phase = both["condition"].unique().tolist(), str(both["phase"].iloc[0])
        net_values = read_histograms(runs, ["net_value"], conditions=held, phase=phase).frame
    # `loc`: without any histogram the list is empty, which a frame itself takes for no columns
    not_finite = net_values.loc[[h.n_finite < h.n for h in net_values["histogram"]]]
    diverged = pd.MultiIndex.from_frame(both[_AT]).isin(pd.MultiIndex.from_frame(not_finite[_AT]))
    both.loc[diverged, SHARES] = np.nan
    return both.reset_index(drop=True)


def _has_finite_shares(run: Run) -> bool:
    """Whether a run has no share where a value is not finite; of one that an older session began, histograms tell."""
    return bool(run.meta.get("finite_shares")) and len(run.meta["sessions"]) == 1


def _recorded(runs: Run | Runs, layers: Wanted, conditions: Wanted) -> pd.DataFrame:
    """Return the shares counted at each run's last step in each phase, left and right read together."""
    every = as_runs(runs)

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        found = every.batches([LEFT, RIGHT], condition=condition, layer=layer, missing_ok=True)
        return in_order(every, [_last_shares(batch) for batch in found])

    return pushed_down(runs, LEFT, gather, layers=layers, conditions=conditions)


def _last_shares(batch: pd.DataFrame) -> pd.DataFrame:
    left, right = (last(batch[batch["quantity"] == name]) for name in (LEFT, RIGHT))
    both = as_text(left.rename(columns={"value": "left"}))
    return both.merge(as_text(right.rename(columns={"value": "right"})), on=KEYS)


def share(
    runs: Run | Runs,
    eps: float = 0.1,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    step: int | str | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Saturation shares for any eps, from the histogram of net values and the stored |phi'|.

    Parameters
    ----------
    runs : Run or Runs
    eps : float
        In (0, 1).
    layers, conditions : sequence of str, optional
        All, or these in this order.
    step : int or "all", optional
        None is the last recorded step.
    phase : str, optional
        One for all runs, as in `dropdiag.analysis.select.histograms`.

    Returns
    -------
    DataFrame
        One row a run and site: condition, seed, run, step, phase, layer, call; left, right, share (of the
        finite net values; left and right of where |phi'| is greatest); error (largest possible error of
        each share: the mass of the bins at the border of the area; exact zeros, which have a derivative of
        their own, do not count); n (finite values), dropped (NaN and infinite); activation. Where the
        derivative of a site's activation is not known (it is learned, as PReLU's, or the function is none
        that dropdiag knows), the shares and their error are NaN.

    Raises
    ------
    ArgumentError
        For an eps outside (0, 1), an unknown layer or condition.
    NotRecordedError
        If net values were not recorded.

    Examples
    --------
    >>> wide = dd.analysis.saturation.share(runs, eps=0.5)["share"]
    >>> narrow = dd.analysis.saturation.share(runs, eps=0.1)["share"]
    >>> bool((wide >= narrow).all())
    True
    """
    if not 0.0 < eps < 1.0:
        raise ArgumentError(f"eps must lie between 0 and 1, got {eps}")
    frame = histograms(runs, "net_value", layers=layers, conditions=conditions, step=step, phase=phase)
    found = by_label(runs)
    rows = [_share(found[row["run"]], row, eps) for row in frame.to_dict("records")]
    return pd.concat([frame[KEYS], pd.DataFrame(rows)], axis=1)


def curves(
    runs: Run | Runs,
    *,
    layers: Wanted = None,
    conditions: Wanted = None,
    phase: str | None = None,
    bandwidth: str | float = "isj",
    limits: Limits = None,
) -> pd.DataFrame:
    """Density curves of the net values; see `dropdiag.analysis.kde.curves`.

    Examples
    --------
    >>> curves = dd.analysis.saturation.curves(runs, layers=["act1"])
    >>> curves["layer"].unique().tolist()
    ['act1']
    """
    return kde.curves(runs, "net_value", layers=layers, conditions=conditions, phase=phase, bandwidth=bandwidth,
                      limits=limits)  # fmt: skip


def areas(
    runs: Run | Runs, *, layers: Wanted = None, conditions: Wanted = None, phase: str | None = None
) -> pd.DataFrame:
    """Intervals of the saturation area of each site, at the eps of the recording.

    Parameters
    ----------
    runs, layers, conditions, phase
        As in `dropdiag.analysis.select.histograms`.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, activation, side ("left" or "right"), low, high (infinite at open
        ends), eps; one row an interval, as the first run of the condition has it. A site whose activation
        has no known derivative has no rows.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `dropdiag.analysis.select.histograms`.

    Examples
    --------
    >>> areas = dd.analysis.saturation.areas(runs)
    >>> areas[["layer", "side", "low", "high"]].head(2).round(3)
      layer   side    low   high
    0  act1   left   -inf -1.818
    1  act1  right  1.818    inf
    """
    frame = histograms(runs, "net_value", layers=layers, conditions=conditions, phase=phase)
    return areas_of(runs, frame)


def areas_of(runs: Run | Runs, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `areas` of the sites in a frame that `dropdiag.analysis.select.histograms` gave."""
    found = by_label(runs)
    rows: list[tuple[Any, ...]] = []
    for row in frame.drop_duplicates(GROUP).to_dict("records"):
        run = found[row["run"]]
        name = activation_of(run, row["layer"], row["call"])
        if name is None:
            continue
        known = run.meta["activations"][name]
        rows += [
            # JSON has no infinity: an open end is null
            (*(row[key] for key in GROUP), name, side,
             -np.inf if low is None else low, np.inf if high is None else high, known["eps"])
            for side in ("left", "right") for low, high in known[side]
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*GROUP, "activation", "side", "low", "high", "eps"])


def by_label(runs: Run | Runs) -> dict[str, Run]:
    """Run of each value of the frames' column ``run``."""
    every = as_runs(runs)
    return dict(zip(every.labels(), every, strict=True))


def activation_of(run: Run, layer: str, call: int) -> str | None:
    """Name of a site's activation; None where its derivative is not known."""
    entries = [entry for entry in run.meta["layers"] if entry["layer"] == layer]
    for entry in sorted(entries, key=lambda entry: entry["call"] != call):  # first the call itself
        if entry.get("activation") in run.meta["activations"]:
            return str(entry["activation"])
    return None


def _share(run: Run, row: dict[Any, Any], eps: float) -> dict[str, Any]:
    """Shares of one site of one run; NaN without finite values, or where the derivative is not known."""
    histogram: Histogram = row["histogram"]
    name, n = activation_of(run, row["layer"], row["call"]), histogram.n_finite
    shares = dict.fromkeys((*SHARES, "error"), float("nan"))
    if name is not None and n:
        sup = float(run.meta["activations"][name]["sup"])
        shares = _shares(histogram, *run.derivative(name), eps * sup)
    return {**shares, "n": n, "dropped": histogram.n - n, "activation": name}


def _shares(
    histogram: Histogram, bins: NDArray[np.uint16], derivative: NDArray[np.float64], limit: float
) -> dict[str, float]:
    """Shares left and right of the greatest |phi'|, and the mass of the bins at the border."""
    line = _line(bins, derivative, limit)
    counts = np.zeros(BINS)
    counts[histogram.bins] = histogram.counts
    mass = counts[bins[line.order]] / histogram.n_finite
    if mass[np.isnan(line.slope)].any():  # too far out for a function that oscillates: its area is not known there
        return dict.fromkeys((*SHARES, "error"), float("nan"))
    saturated = mass * line.parts
    change = np.concatenate([[False], line.flat[1:] != line.flat[:-1], [False]])
    border = (change[1:] | change[:-1]) & ~line.zero
    left, right = float(saturated[: line.steepest].sum()), float(saturated[line.steepest :].sum())
    return {"left": left, "right": right, "share": left + right, "error": float(mass[border].sum())}


def area_parts(
    bins: NDArray[np.uint16], derivative: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Part of each bin in which |phi'| is at most a limit, left and right of where it is greatest.

    Parameters
    ----------
    bins, derivative : ndarray
        As of `dropdiag.store.run.Run.derivative`.
    limit : float
        eps times the greatest |phi'|.

    Returns
    -------
    left, right : ndarray of float64
        In the order of the bins; both NaN where |phi'| is not known.
    """
    line = _line(bins, derivative, limit)
    left, right = np.tile(np.where(np.isnan(derivative), np.nan, 0.0), (2, 1))
    for side, place in ((left, slice(line.steepest)), (right, slice(line.steepest, None))):
        side[line.order[place]] += line.parts[place]
    return left, right


class _Line(NamedTuple):
    """Bins along the real line, and which part of each lies in the area."""

    order: NDArray[np.int64]
    slope: NDArray[np.float64]
    flat: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    parts: NDArray[np.float64]
    steepest: int


def _line(bins: NDArray[np.uint16], derivative: NDArray[np.float64], limit: float) -> _Line:
    low, high = bin_bounds(bins)
    order = np.argsort(low + high, kind="stable")
    slope = derivative[order]
    flat = slope <= limit
    # the two bins of zero hold exact zeros, and |phi'| there is that at 0: they are in the area or they are not
    zero = np.isin(bins[order], (ZERO, NEGATIVE_ZERO))
    parts = np.where(zero, flat, _flat_parts(low[order], high[order], slope, limit))
    # the steepest point parts left from right, not 0: a shifted function is steepest elsewhere
    return _Line(order, slope, flat, zero, parts, int(np.nanargmax(slope)))


def _flat_parts(
    low: NDArray[np.float64], high: NDArray[np.float64], slope: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """Part of each bin in which |phi'|, drawn straight between the bins' centres, is at most the limit."""
    centre = 0.5 * (low + high)
    ends = [np.interp(edge, centre, slope) for edge in (low, high)]
    halves = [_below(end, slope, limit) for end in ends]
    return np.asarray(0.5 * (halves[0] + halves[1]))


def _below(one: NDArray[np.float64], other: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Part of a straight line between two heights that is not above the limit."""
    least, highest = np.minimum(one, other), np.maximum(one, other)
    part = (highest <= limit).astype(np.float64)
    # only where the line crosses the limit: then it rises by more than it has to, however little that is
    crosses = (least <= limit) & (limit < highest)
    with np.errstate(invalid="ignore"):  # where both are infinite, nothing crosses
        return np.asarray(np.divide(limit - least, highest - least, out=part, where=crosses))
