"""Any positive scalar of layers as a function of the network's loss, compared where conditions had the same loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.phases import common, keep
from dropdiag.analysis.seeds import Floats, difference, pair_by_seed, sides_of
from dropdiag.analysis.select import SITE
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.formatting import plain
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

SMOOTHED: Final = 0.02
"""Share of a run's losses that each mean is over."""
COLUMNS: Final = ["condition", "layer", "call", "loss", "value", "low", "high", "seeds", "runs", "baseline", "ratio",
                  "ratio_low", "ratio_high", "pairs"]  # fmt: skip


@dataclass(frozen=True)
class Losses:
    """The smoothed loss of each run.

    Attributes
    ----------
    name : str
    by_run : dict of str to (ndarray, ndarray)
        Label -> steps and the logarithm of the loss there.
    """

    name: str
    by_run: dict[str, tuple[Floats, Floats]]

    def at(self, run: str, steps: Floats) -> Floats:
        """Return the logarithm of a run's loss at some steps; NaN before its first value and after its last."""
        if run not in self.by_run:
            return np.full(steps.shape, np.nan)
        known, logs = self.by_run[run]
        return np.asarray(np.interp(steps, known, logs, left=np.nan, right=np.nan), np.float64)


def losses_of(runs: Runs, conditions: Sequence[str], name: str, phase: str | None) -> Losses:
    """Read a loss and smooth it.

    Raises
    ------
    ArgumentError
        If the phase is not clear.
    NotRecordedError
        If no run holds it, or it is never positive.
    """
    rows = runs.select([name], condition=list(conditions), layer=[None], missing_ok=True)
    if rows.empty:
        raise NotRecordedError(
            f"no run holds {name!r}, a scalar of the network: give it to step({name}=...), or name another with loss="
        )
    held = {str(run): part.unique().tolist() for run, part in rows.groupby("run", sort=False)["phase"]}
    if phase is None and (rows["phase"] == TRAIN).any():
        phase = TRAIN
    one = common(held, name, phase)
    keep(held, name, one)
    usable = rows[(rows["phase"] == one) & np.isfinite(rows["value"])]
    found = {
        str(run): _smoothed(part.sort_values("step", kind="stable")) for run, part in usable.groupby("run", sort=False)
    }
    if not any(np.isfinite(logs).any() for _, logs in found.values()):
        raise NotRecordedError(f"{name!r} is never above 0: it has no logarithm, by which losses are compared")
    _tell_of_those_without(name, len(usable), sum(logs.size for _, logs in found.values()))
    return Losses(name, {run: pair for run, pair in found.items() if np.isfinite(pair[1]).any()})


def _tell_of_those_without(name: str, values: int, logarithms: int) -> None:
    if logarithms < values:
        message = (
            f"{values - logarithms:,} of {values:,} values of {name!r}, smoothed, are not above 0: they have no "
            "logarithm, by which losses are compared, and their steps are left out. Add a constant to the loss, or "
            "name another with loss="
        )
        warnings.warn(message, DropdiagWarning, stacklevel=5)


def _smoothed(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return the steps, and the logarithm of the centred mean of the losses there."""
    values = rows["value"].to_numpy(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(values.size)
    # near an end the window shrinks on both sides: a mean of what follows alone would lie below a loss that falls
    half = np.minimum(round(SMOOTHED * values.size) // 2, np.minimum(at, values.size - 1 - at))
    means = (sums[at + half + 1] - sums[at - half]) / (2 * half + 1)
    logs = np.log(means, out=np.full(means.shape, np.nan), where=means > 0.0)
    known = np.isfinite(logs)
    return rows["step"].to_numpy(np.float64)[known], logs[known]


def equal_loss(
    runs: Runs, flow: pd.DataFrame, losses: Losses, names: Sequence[str], base: str | None, *, bins: int, alpha: float
) -> pd.DataFrame:
    """Set a scalar of layers beside the loss; see `dropdiag.analysis.gradient_flow.at_equal_loss`."""
    if bins < 2:
        raise ArgumentError(f"bins must be at least 2, got {bins!r}")
    frame, middles = _binned(_with_loss(flow, losses), losses.name, bins)
    found, met = [], set[str]()
    for key, part in frame.groupby(SITE, sort=False):
        values = _on_grid(part, middles)
        for name in names:
            mine = {run: row for run, row in values.items() if _of(runs, run) == name}
            if mine:
                rows = pd.DataFrame(_curve(mine, middles))
                ratios = pd.DataFrame(list(_ratios(runs, values, (name, base), bins, 1.0 - alpha)))
                met |= {name} if np.isfinite(ratios["ratio"]).any() else set()
                site: Any = key
                rows = pd.concat([rows, ratios], axis=1).assign(
                    condition=name, layer=site[0], call=site[1], baseline=base
                )
                found.append(rows[rows["seeds"] > 0].iloc[::-1])
    _check_met(frame, losses.name, [name for name in names if name != base], base, met)
    result = pd.concat(found, ignore_index=True)[COLUMNS]
    place = result["condition"].map({name: i for i, name in enumerate(names)})
    return result.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)


def _of(runs: Runs, label: str) -> str:
    return str(runs[runs.labels().index(label)].condition)


def _with_loss(flow: pd.DataFrame, losses: Losses) -> pd.DataFrame:
    """Rows of which both the value and the loss have a logarithm."""
    at = np.full(len(flow), np.nan)
    for run, rows in flow.groupby("run", sort=False, observed=True).indices.items():
        at[rows] = losses.at(str(run), flow["step"].to_numpy(np.float64)[rows])
    values = flow["value"].to_numpy(np.float64)
    usable = np.isfinite(values) & (values > 0.0) & np.isfinite(at)
    if not usable.any():
        raise NotRecordedError(f"no step has both a gradient flow above 0 and {losses.name!r}")
    frame: pd.DataFrame = flow.assign(at=at)[usable]
    return frame.assign(log=np.log(values[usable]))


def _binned(frame: pd.DataFrame, loss: str, bins: int) -> tuple[pd.DataFrame, Floats]:
    """Put rows into bins of equal width on the loss's axis; return them with their bins, and the bins' middles."""
    low, high = float(frame["at"].min()), float(frame["at"].max())
    if not high > low:
        raise NotRecordedError(f"{loss!r} does not change in training: nothing can be set beside it")
    width = (high - low) / bins
    middles = np.asarray(low + width * (np.arange(bins) + 0.5), np.float64)
    return frame.assign(bin=((frame["at"] - low) / width).astype(np.int64).clip(upper=bins - 1)), middles


def _on_grid(part: pd.DataFrame, middles: Floats) -> dict[str, Floats]:
    """Logarithm of each run's value at the middle of every bin; NaN where it has not been: never extrapolated."""
    means = part.groupby(["run", "bin"], sort=True, observed=True)[["at", "log"]].mean().reset_index()
    return {
        str(run): np.interp(middles, rows["at"], rows["log"], left=np.nan, right=np.nan)
        for run, rows in means.groupby("run", sort=False, observed=True)
    }


def _curve(values: Mapping[str, Floats], middles: Floats) -> dict[str, Floats]:
    rows = np.array(list(values.values()))
    known = np.isfinite(rows)
    seeds = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, rows, 0.0).sum(axis=0) / seeds
        sd = np.sqrt(np.where(known, (rows - mean) ** 2, 0.0).sum(axis=0) / np.where(seeds > 1, seeds - 1, np.nan))
    return {"loss": np.exp(middles), "value": np.exp(mean), "low": np.exp(mean - sd), "high": np.exp(mean + sd),
            "seeds": seeds, "runs": np.full(middles.size, len(rows))}  # fmt: skip


def _ratios(
    runs: Runs, values: Mapping[str, Floats], names: tuple[str, str | None], bins: int, level: float
) -> Iterator[dict[str, float]]:
    name, base = names
    pairing = None if base is None else pair_by_seed(runs, name, base).having(values)
    sides = () if pairing is None else (pairing.condition, pairing.baseline)
    for bin_ in range(bins):
        here = {run: float(row[bin_]) for run, row in values.items()}
        # where some runs alone have been, the best ones of a side would stand for it
        if pairing is None or not all(sides) or not all(np.isfinite(here[run]) for run in pairing.runs):
            yield {"ratio": np.nan, "ratio_low": np.nan, "ratio_high": np.nan, "pairs": 0}
            continue
        used, mine, theirs = sides_of(here, pairing)
        found = difference(mine, theirs, paired=used.paired)
        with np.errstate(over="ignore"):  # the interval of two runs may reach to infinity
            ratio, low, high = np.exp([found.effect, *found.interval(level)])
        yield {"ratio": ratio, "ratio_low": low, "ratio_high": high, "pairs": len(mine) if used.paired else 0}


def _check_met(frame: pd.DataFrame, loss: str, others: Sequence[str], base: str | None, met: set[str]) -> None:
    """Say which conditions never had the baseline's loss; raise where none of them had."""
    apart = [name for name in others if name not in met and name in set(frame["condition"])]
    if base is None or not apart:
        return
    told = "; ".join(f"{name!r} from {_range(frame[frame['condition'] == name])}" for name in (base, *apart))
    message = (
        f"{', '.join(map(repr, apart))} never had the same {loss!r} as {base!r} in all of their runs; smoothed, those "
        f"of a condition all went through: {told}. Train them further, leave out runs that ended early, or name "
        "another loss with loss="
    )
    if len(apart) == len(others):
        raise ArgumentError(message)
    warnings.warn(message, DropdiagWarning, stacklevel=4)


def _range(rows: pd.DataFrame) -> str:
    """Return the losses that all runs of a condition had, as ``"2.3 to 0.12"``."""
    runs = rows.groupby("run", sort=False, observed=True)["at"]
    ends = float(runs.max().min()), float(runs.min().max())
    return " to ".join(plain(float(np.exp(end))) for end in ends)
