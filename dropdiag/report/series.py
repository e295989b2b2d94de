"""Scalars over training for the page: one value a site, run and bin of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.phases import common
from dropdiag.analysis.select import as_text
from dropdiag.analysis.training import finite, logs, over_training, part_of, parts
from dropdiag.report.binary import Blob
from dropdiag.store.reader import Runs
from dropdiag.store.schema import EVAL, TRAIN

BINS: Final = 100
LEFT, RIGHT = "saturation_share_left", "saturation_share_right"
COLUMNS: Final = ["layer", "call", "phase", "step", "value"]
Site = tuple[str, int]


@dataclass(frozen=True)
class Series:
    """A scalar of each site and run over training.

    Attributes
    ----------
    sites : list of (str, int)
        Layer and call.
    steps : ndarray of float64, shape (bins,)
        Mean step of each bin.
    values : ndarray of float64, shape (sites, runs, bins)
        NaN where there is none.
    phase : str
    log : bool
        Whether runs are averaged on the log scale.
    dropped : int
        Values left out: missing, infinite, or without a logarithm where one is needed.
    """

    sites: list[Site]
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    phase: str
    log: bool = False
    dropped: int = 0

    def packed(self, blob: Blob) -> dict[str, Any]:
        """Return the series as JSON, its values in the block."""
        return {
            "sites": [list(site) for site in self.sites],
            "steps": self.steps.tolist(),
            "phase": self.phase,
            "log": self.log,
            "dropped": self.dropped,
            "values": blob.add(self.values, "f4"),
        }


def gradient_flow(runs: Runs, keep: Callable[[str], bool]) -> Series | None:
    """Mean |dL/dz| at each site; bins of steps hold the geometric mean, as `analysis.gradient_flow.curves` has it."""
    rows = over_training(lambda: parts(runs, "net_grad_abs_mean", logs, phase=TRAIN), ["run", "layer", "call"], BINS)
    made = _dense(rows, runs, TRAIN, keep, log=True)
    return None if made is None else Series(made.sites, made.steps, np.exp(made.values), TRAIN, True, made.dropped)


def saturation(runs: Runs, keep: Callable[[str], bool]) -> Series | None:
    """Exact saturation share of each site (left and right together), in the phase in which runs are compared."""
    frames = [as_text(frame) for frame in runs.batches([LEFT, RIGHT], columns=[*COLUMNS, "quantity"])]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if frame.empty:
        return None
    held = {str(run): part.unique().tolist() for run, part in frame.groupby("run", sort=False)["phase"]}
    phase = common(held, "saturation_share")
    keys = ["condition", "seed", "run", "layer", "call", "phase", "step"]
    both = frame[frame["phase"] == phase].groupby(keys, sort=False, dropna=False)["value"].sum(min_count=2)
    rows = both.reset_index()
    return _dense(over_training(lambda: [part_of(rows)], ["run", "layer", "call"], BINS), runs, phase, keep)


def learning(runs: Runs, quantity: str) -> list[Series]:
    """Return a scalar of the whole network, a series a phase in which it was recorded; training first."""
    rows = over_training(lambda: parts(runs, quantity, finite, layer=[None]), ["run", "phase"], BINS)
    if rows.empty:
        return []
    phases = sorted(rows["phase"].unique(), key=lambda name: (name != TRAIN, name != EVAL, name))
    each = [rows[rows["phase"] == phase].assign(layer="", call=0) for phase in phases]
    made = [_dense(part, runs, str(phase), lambda _: True) for part, phase in zip(each, phases, strict=True)]
    return [one for one in made if one is not None]


def of_measures(
    sites: Sequence[Site], steps: Sequence[int], values: NDArray[np.float64], phase: str, *, log: bool = False
) -> Series:
    """Series of numbers that were computed from histograms, step by step; shape (sites, runs, steps)."""
    return Series(list(sites), np.asarray(steps, dtype=np.float64), values, phase, log)


def _dense(
    rows: pd.DataFrame, runs: Runs, phase: str, keep: Callable[[str], bool], *, log: bool = False
) -> Series | None:
    """Rows as an array over sites, runs and bins; None where there is no value."""
    rows = rows[rows["layer"].astype(str).map(keep).astype(bool)] if len(rows) else rows
    if rows.empty or not rows["mean"].notna().any():
        return None
    sites = list(dict.fromkeys(zip(rows["layer"].astype(str), rows["call"].astype(int), strict=True)))
    place = {site: i for i, site in enumerate(sites)}
    number = {label: i for i, label in enumerate(runs.labels())}
    bins = np.sort(rows["bin"].unique())
    values = np.full((len(sites), len(runs), bins.size), np.nan)
    i = [place[site] for site in zip(rows["layer"].astype(str), rows["call"].astype(int), strict=True)]
    values[i, rows["run"].map(number).to_numpy(), np.searchsorted(bins, rows["bin"])] = rows["mean"]
    steps = rows.groupby("bin", sort=True)["step"].mean().to_numpy()
    return Series(sites, steps, values, phase, log, int(rows["dropped"].sum()))


def network_order(runs: Runs, sites: Iterable[Site]) -> list[Site]:
    """Sites in the order in which the first run that has them lists them."""
    order: dict[Site, int] = {}
    for run in runs:
        for entry in run.meta["layers"]:
            order.setdefault((str(entry["layer"]), int(entry["call"])), len(order))
    return sorted(sites, key=lambda site: order.get(site, len(order)))
