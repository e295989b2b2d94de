"""How does learning go: loss, accuracy or any scalar that was given to ``step`` or ``log``, over training."""

from __future__ import annotations

from functools import partial
from typing import Final, NoReturn

import numpy as np
import pandas as pd

from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import as_text, by_condition, by_step, check, scalars
from dropdiag.analysis.training import RUN, finite, over_training, parts, with_band
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.schema import quantity_of
from dropdiag.store.selection import NamesOrAll

BEST: Final = ["best", "step", "evaluation", "final"]
NETWORK: Final = [None]  # the layer of what belongs to the network as a whole


def curves(
    runs: Run | Runs,
    quantity: str = "loss",
    *,
    phase: str | None = None,
    conditions: NamesOrAll = None,
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
        low, high (one standard deviation over runs below and above; NaN for one run), seeds (runs with a value there,
        or between their values before and after it), runs (those of the condition that hold the quantity in this
        phase), dropped (missing and infinite values, left out), by step. Bins without any finite value have no row.

    Raises
    ------
    ArgumentError
        For an unknown condition.
    NotRecordedError
        If no run holds the quantity in that phase.

    Notes
    -----
    Runs that were recorded at different steps are interpolated to common ones, never beyond their first and last.
    Where ``seeds`` is less than ``runs``, the mean is of some of them, and may differ from that of all by who they are.

    Examples
    --------
    >>> curves = dd.analysis.learning.curves(runs, "accuracy", phase="eval")
    >>> curves[["condition", "step", "seeds"]]
        condition  step  seeds
    0  No dropout   0.0      3
    1  No dropout  10.0      3
    2     Dropout   0.0      3
    3     Dropout  10.0      3
    """
    result = binned(runs, quantity, phase=phase, conditions=conditions, bins=bins)
    result = result[result["seeds"] > 0].reset_index(drop=True)
    return result[["condition", "phase", "step", "value", "low", "high", "seeds", "runs", "dropped"]]


def binned(
    runs: Run | Runs, quantity: str, *, phase: str | None = None, conditions: NamesOrAll = None, bins: int = 120
) -> pd.DataFrame:
    """Return `curves` with a row also for bins without any finite value, and the column recorded (values, dropped too).

    Parameters, errors
        As in `curves`.
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)

    read = partial(parts, every, quantity, finite, condition=names, phase=phase, layer=NETWORK)
    result = over_training(read, ["condition", "phase"], bins)
    if result.empty:
        _refuse(runs, quantity, phase, conditions)
    return by_step(by_condition(with_band(result), names), ["condition", "phase"])


def best(
    runs: Run | Runs,
    quantity: str = "accuracy",
    *,
    phase: str = "eval",
    conditions: NamesOrAll = None,
    mode: str = "max",
    by: str | None = None,
) -> pd.DataFrame:
    """Best value of each run and when it was reached, averaged over runs (Figure 7).

    Parameters
    ----------
    runs, quantity, conditions
        As in `curves`.
    phase : str
    mode : {"max", "min"}
        Whether more is better, or less.
    by : str, optional
        Another scalar of the same phase, such as the accuracy on validation images, whose best decides: ``best`` is
        then the quantity's value at that step. The first of several equal ones counts.

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
    is not, nor is what was chosen by other data.

    Examples
    --------
    >>> dd.analysis.learning.best(runs, "accuracy")[["condition", "seeds"]]
        condition  seeds
    0  No dropout      3
    1     Dropout      3
    """
    rows = best_per_run(runs, quantity, phase=phase, conditions=conditions, mode=mode, by=by)
    return over_seeds(rows, ["condition"], BEST)


def best_per_run(
    runs: Run | Runs,
    quantity: str = "accuracy",
    *,
    phase: str = "eval",
    conditions: NamesOrAll = None,
    mode: str = "max",
    by: str | None = None,
) -> pd.DataFrame:
    """Best value of each run and when it was reached.

    Parameters
    ----------
    runs, quantity, phase, conditions, mode, by
        As in `best`.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, best, evaluation, final, evaluations (how many there are); by condition.

    Examples
    --------
    >>> len(dd.analysis.learning.best_per_run(runs, "accuracy"))
    6
    """
    if mode not in {"max", "min"}:
        raise ArgumentError(f"mode must be 'max' or 'min', got {mode!r}")
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    wanted = quantity if by is None else [quantity, by]
    batches = every.batches(wanted, condition=names, phase=phase, layer=NETWORK)
    found = [best for batch in batches if len(best := as_text(_best(batch, mode, quantity, by)))]
    if not found:
        _refuse(runs, quantity, phase, conditions)
    rows = pd.concat(found, ignore_index=True)
    return by_condition(rows, names)


def quantities(runs: Run | Runs) -> list[str]:
    """Names of the scalars that were given for the network as a whole, sorted, without those of dropdiag's own.

    Examples
    --------
    >>> dd.analysis.learning.quantities(runs)
    ['accuracy', 'loss']
    """
    found: set[str] = set()
    for batch in as_runs(runs).batches(layer=NETWORK):
        found |= set(batch["quantity"].unique())
    return sorted(name for name in found if quantity_of(name) is None)


def _best(frame: pd.DataFrame, mode: str, quantity: str, by: str | None) -> pd.DataFrame:
    """Best and last value of each run; NaN in all where none is finite."""
    judged = frame if by is None else _beside(frame, quantity, by)
    frame = judged.sort_values("step", kind="stable").reset_index(drop=True)
    deciding = frame["value" if by is None else "by"]
    usable = np.isfinite(frame["value"]) & np.isfinite(deciding)
    # -inf and not NaN: where no value is finite idxmax still has to find one
    score = (deciding if mode == "max" else -deciding).where(usable, -np.inf)
    groups = frame.assign(score=score, evaluation=frame["step"] > 0).groupby("run", sort=False, observed=True)
    evaluation = groups["evaluation"].cumsum()
    best, last = groups["score"].idxmax(), groups.tail(1).set_index("run")["value"]
    rows = frame.loc[best.to_numpy(), [*RUN, "step"]].assign(
        best=frame["value"], step=frame["step"].astype("float64"), evaluation=evaluation.astype("float64")
    )
    rows["final"] = last.loc[rows["run"]].to_numpy()
    rows["evaluations"] = evaluation.groupby(frame["run"], observed=True).max().loc[rows["run"]].to_numpy()
    rows[BEST] = rows[BEST].where(usable.loc[rows.index], np.nan)
    return rows


def _beside(frame: pd.DataFrame, quantity: str, by: str) -> pd.DataFrame:
    """Rows of a quantity with another one's value at the same step of the same run in the column ``by``."""
    keys = ["run", "step"]
    other = frame.loc[frame["quantity"] == by, [*keys, "value"]].rename(columns={"value": "by"})
    return frame[frame["quantity"] == quantity].merge(other, on=keys, how="left")


def _refuse(runs: Run | Runs, quantity: str, phase: str | None, conditions: NamesOrAll) -> NoReturn:
    """Say why there is no row of the network as a whole."""
    scalars(runs, quantity, phase=phase, conditions=conditions)
    raise NotRecordedError(f"{quantity!r} belongs to layers; a learning curve needs a scalar of the network")
