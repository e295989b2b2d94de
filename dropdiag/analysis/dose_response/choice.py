"""Which doses cannot be told from the best: chosen on validation data, reported on test data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.lenient import opened
from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.analysis.dose_response.axis import Axis, axis_of
from dropdiag.analysis.dose_response.best import BestSet, cannot_be_told_from_best
from dropdiag.analysis.dose_response.held_out import HeldOut, final, held_out
from dropdiag.analysis.seeds import Floats, t_interval
from dropdiag.formatting import some

SAME: Final = "chosen and reported on the same held-out data: what is reported of the best is optimistic"
ENOUGH: Final = 0.5
"""Share of the seeds that a dose needs a value of, to be compared at all."""
COLUMNS: Final = [
    "dose", "chosen", "chosen_sd", "inside", "best", "behind", "behind_low", "behind_high", "p", "reported",
    "reported_low", "reported_high", "runs", "diverged", "note",
]  # fmt: skip
_NAN: Final = float("nan")


@dataclass(frozen=True, eq=False)
class Choice:
    """Which doses cannot be told from the best.

    Attributes
    ----------
    table : DataFrame
        One row a dose, ascending; see `choice`.
    axis : Axis
    chosen_on, reported_on : HeldOut
    less_is_better : bool
    best : BestSet or None
        Of the doses in ``compared``; None where these are fewer than two.
    compared : tuple of float
        Doses that the best is sought among.
    seeds : int
        That the comparison rests on.
    left_out : tuple of int
        Seeds that lack a value at a dose that is compared.
    alpha : float
    note : str
        What limits the choice, in words.

    Examples
    --------
    >>> choice = dd.analysis.dose_response.choice(rates, "rate", "accuracy")
    >>> choice.seeds, choice.alpha
    (3, 0.05)
    """

    table: pd.DataFrame
    axis: Axis
    chosen_on: HeldOut
    reported_on: HeldOut
    less_is_better: bool
    best: BestSet | None
    compared: tuple[float, ...]
    seeds: int
    left_out: tuple[int, ...]
    alpha: float
    note: str

    @property
    def optimistic(self) -> bool:
        """Whether it was chosen and reported on the same data.

        Examples
        --------
        >>> dd.analysis.dose_response.choice(rates, "rate", "accuracy").optimistic
        True
        """
        return self.chosen_on == self.reported_on

    @property
    def inside(self) -> tuple[float, ...]:
        """Doses that cannot be told from the best.

        Examples
        --------
        >>> set(dd.analysis.dose_response.choice(rates, "rate", "accuracy").inside) <= {0.0, 0.2, 0.5}
        True
        """
        return tuple(self.table.loc[self.table["inside"], "dose"].tolist())


def choice(
    runs: Any, x: str = "rate", scalar: str = "accuracy", *, alpha: float = 0.05, less: bool | None = None,
    chosen_on: str | None = None, reported_on: str | None = None,
) -> Choice:  # fmt: skip
    """Find the doses that cannot be told from the best, by the final values of a scalar of held-out data.

    Parameters
    ----------
    runs : Runs, or what `load` takes
    x : str
        As in `axis_of`.
    scalar : str
        Of the network, as it was given to ``step`` or ``log``.
    alpha : float
        Greatest probability that the true best dose is outside; intervals cover 1 - alpha.
    less : bool, optional
        Whether less is better; by default as the scalar's name says ("loss", "error" ...).
    chosen_on, reported_on : str, optional
        Phases. By default "validation" (or "val", "valid", "dev") and "test", where both were recorded; else the
        scalar of validation data that was recorded in the same phase ("validation_accuracy") and the scalar itself;
        else the one held-out phase there is, for both.

    Returns
    -------
    Choice
        Its ``table`` has columns dose; chosen, chosen_sd (mean and standard deviation over the runs, of the data that
        is chosen on), inside (the set), best (whether its mean is), behind, behind_low, behind_high, p (see `BestSet`);
        reported, reported_low, reported_high (mean and t interval over the runs, of the data that is reported on);
        runs (with a value), diverged (runs whose last value is not finite), note.

    Raises
    ------
    ArgumentError
        As `axis_of`; if it is not clear which held-out phase is meant; for an alpha that is no probability.
    NotRecordedError
        If the scalar was not recorded of held-out data.

    Notes
    -----
    A dose of which any run diverged is not among those compared, nor is one that less than half of the seeds have a
    value of: it is never inside, and ``note`` says why. Other gaps leave their seed out.

    Examples
    --------
    >>> choice = dd.analysis.dose_response.choice(rates, "rate", "accuracy")
    >>> choice.compared
    (0.0, 0.2, 0.5)
    """
    every, problems = opened(runs)
    axis = axis_of(every, x)
    choose, report = held_out(every, scalar, chosen_on, reported_on)
    values = final(every, choose)
    blocks, reported = axis.blocks(values), axis.blocks(final(every, report)).table
    diverged = [sum(not np.isfinite(values.get(label, 0.0)) for label in axis.having(dose)) for dose in axis.doses]
    why = list(_reasons(blocks.table, diverged))
    kept = [place for place, reason in enumerate(why) if not reason]
    fewer = less_is_better(scalar) if less is None else less
    best = cannot_be_told_from_best(blocks.table[:, kept], less_is_better=fewer, alpha=alpha) if len(kept) > 1 else None
    left = () if best is None else tuple(blocks.seeds[row] for row in best.left_out)
    table = pd.DataFrame(_numbers(axis.doses, blocks.table, reported, alpha)).assign(diverged=diverged, note=why)
    said = [
        SAME if choose == report else "",
        best.note if best else "fewer than two doses can be compared",
        f"left out for a gap at a dose: seed {some([str(seed) for seed in left])}" if left else "",
        *(
            f"{axis.shown(dose)} is not compared: {reason}"
            for dose, reason in zip(axis.doses, why, strict=True)
            if reason
        ),
        *(f"{label} is left out: {reason}" for label, reason in axis.left_out.items()),
        *problems,
    ]
    return Choice(
        _judged(table, best, kept)[COLUMNS], axis, choose, report, fewer, best,
        tuple(np.array(axis.doses)[kept].tolist()), best.blocks if best else 0, left, alpha,
        "; ".join(filter(None, said)),
    )  # fmt: skip


def _reasons(blocks: Floats, diverged: Sequence[int]) -> Iterator[str]:
    """Say of each dose why it is not compared; nothing where it is."""
    has = np.isfinite(blocks).sum(axis=0)
    for known, broken in zip(has.tolist(), diverged, strict=True):
        if broken:
            yield f"{broken} of {known + broken} runs diverged: the last value is not finite"
        else:
            yield "" if known >= ENOUGH * len(blocks) else f"{known} of {len(blocks)} seeds have a value"


def _numbers(doses: Sequence[float], chosen: Floats, reported: Floats, alpha: float) -> Iterator[dict[str, Any]]:
    for dose, mine, theirs in zip(doses, chosen.T, reported.T, strict=True):
        known = mine[np.isfinite(mine)]
        mean, low, high = t_interval(theirs[np.isfinite(theirs)], 1.0 - alpha)
        yield {
            "dose": dose, "chosen": float(known.mean()) if len(known) else _NAN,
            "chosen_sd": float(known.std(ddof=1)) if len(known) > 1 else _NAN,
            "reported": mean, "reported_low": low, "reported_high": high, "runs": len(known),
        }  # fmt: skip


def _judged(table: pd.DataFrame, best: BestSet | None, kept: Sequence[int]) -> pd.DataFrame:
    """Add what the set says of the doses that are compared."""
    table = table.assign(inside=False, best=False, behind=_NAN, behind_low=_NAN, behind_high=_NAN, p=_NAN)
    if best is None:
        table.loc[kept, "inside"] = True  # the only one is the best there is
        return table
    for place, row in enumerate(kept):
        told = best.inside[place], place == best.best
        table.loc[row, ["inside", "best"]] = told
        numbers = best.behind[place], best.low[place], best.high[place], best.p[place]
        table.loc[row, ["behind", "behind_low", "behind_high", "p"]] = numbers
    return table
