"""How does learning go: loss, accuracy or any scalar that was given to ``step`` or ``log``, over training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dropdiag.analysis.gradient_flow import step_bins
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import by_step, scalars
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import Run, Runs

RUN = ["condition", "seed", "run"]


def curves(
    runs: Run | Runs,
    quantity: str = "loss",
    *,
    phase: str | None = None,
    conditions: Sequence[str] | None = None,
    bins: int = 120,
) -> pd.DataFrame:
    """Curves of a scalar of the whole network: steps binned and averaged, mean and spread over runs.

    Parameters
    ----------
    runs : Run or Runs
    quantity : str
        Name under which it was given.
    phase : str, optional
        ``"train"``, ``"eval"`` ...; None is every phase in which it was recorded, one curve each.
    conditions : sequence of str, optional
        All, or these in this order.
    bins : int
        Equal bins of steps; fewer recorded steps than this are left as they are.

    Returns
    -------
    DataFrame
        Columns condition, phase, step (mean of the bin), value (mean over the bin's steps, then over runs),
        low, high (one standard deviation over runs below and above; NaN for one run), seeds, dropped (missing
        and infinite values, left out), by step. Bins without any finite value have no row.

    Raises
    ------
    ArgumentError
        For an unknown condition.
    NotRecordedError
        If no run holds the quantity in that phase.
    """
    frame = _of_network(runs, quantity, phase, conditions)
    finite = np.isfinite(frame["value"])
    frame = frame.assign(value=frame["value"].where(finite), dropped=~finite)
    frame["bin"] = frame.groupby("phase")["step"].transform(lambda steps: step_bins(steps, bins))
    each = frame.groupby([*RUN, "phase", "bin"], sort=False, dropna=False).agg(
        step=("step", "mean"), value=("value", "mean"), dropped=("dropped", "sum")
    )
    groups = each.reset_index().groupby(["condition", "phase", "bin"], sort=False)
    result = groups.agg(step=("step", "mean"), value=("value", "mean"), sd=("value", "std"))
    result["low"], result["high"] = result["value"] - result["sd"], result["value"] + result["sd"]
    result["seeds"], result["dropped"] = groups["value"].count(), groups["dropped"].sum()
    result = by_step(result[result["seeds"] > 0].reset_index(), ["condition", "phase"])
    return result[["condition", "phase", "step", "value", "low", "high", "seeds", "dropped"]]


def best(
    runs: Run | Runs,
    quantity: str = "accuracy",
    *,
    phase: str = "eval",
    conditions: Sequence[str] | None = None,
    mode: str = "max",
) -> pd.DataFrame:
    """Best value of each run and when it was reached, averaged over runs (Figure 7).

    Parameters
    ----------
    runs, quantity, conditions
        As in `curves`.
    phase : str
    mode : {"max", "min"}
        Whether more is better, or less.

    Returns
    -------
    DataFrame
        One row a condition, columns condition; best, step, evaluation (rank of the evaluation among the
        run's: the epoch, where the network is evaluated once an epoch and not before training), final (last
        value), each a mean over runs, with its ``_sd``; seeds; missing.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `curves`.

    Notes
    -----
    The best of many evaluations on a test set is optimistic about what another test set would give; ``final``
    is not.
    """
    if mode not in {"max", "min"}:
        raise ArgumentError(f"mode must be 'max' or 'min', got {mode!r}")
    frame = _of_network(runs, quantity, phase, conditions)
    rows = [
        {**dict(zip(RUN, key, strict=True)), **_best(part, mode)}
        for key, part in frame.groupby(RUN, sort=False, dropna=False)
    ]
    return over_seeds(pd.DataFrame(rows), ["condition"], ["best", "step", "evaluation", "final"])


def _best(part: pd.DataFrame, mode: str) -> dict[str, float]:
    part = part.sort_values("step", kind="stable")
    values = part["value"].to_numpy(dtype=np.float64)
    if not np.isfinite(values).any():
        return dict.fromkeys(("best", "step", "evaluation", "final"), float("nan"))
    score = np.where(np.isfinite(values), values if mode == "max" else -values, -np.inf)
    i = int(np.argmax(score))
    evaluation = int((part["step"].to_numpy()[: i + 1] > 0).sum())
    return {
        "best": float(values[i]),
        "step": float(part["step"].iloc[i]),
        "evaluation": evaluation,
        "final": float(values[-1]),
    }


def _of_network(runs: Run | Runs, quantity: str, phase: str | None, conditions: Sequence[str] | None) -> pd.DataFrame:
    """Rows that belong to the network as a whole, not to a layer."""
    frame = scalars(runs, quantity, phase=phase, conditions=conditions)
    frame = frame[frame["layer"].isna()]
    if frame.empty:
        raise NotRecordedError(f"{quantity!r} belongs to layers; a learning curve needs a scalar of the network")
    return frame
