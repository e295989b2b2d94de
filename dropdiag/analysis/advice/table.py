"""One row a condition: what it reached, how far it is behind, whether its training had converged, its gap."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.case import Case
from dropdiag.analysis.advice.convergence import Convergence
from dropdiag.analysis.advice.gap import gap
from dropdiag.analysis.advice.rates import Rates
from dropdiag.analysis.seeds import t_interval

COLUMNS: Final = [
    "condition", "dose", "runs", "chosen", "chosen_low", "chosen_high", "reported", "reported_low", "reported_high",
    "behind", "behind_low", "behind_high", "p", "verdict", "improvement", "gap", "steps",
]  # fmt: skip
INSIDE, OUTSIDE, NO_VERDICT = "not told from the best", "worse", "no verdict"
_NAN: Final = float("nan")


def table(case: Case, rates: Rates | None, late: Convergence | None, *, truncated: bool) -> pd.DataFrame:
    """Return a row a condition: those that are set side by side in their order, then those that are left out.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. Intervals are Student's over the runs of a condition, each by itself; ``behind`` has bounds
        that are simultaneous, and ``p`` is adjusted over the page. ``verdict`` is why, of a condition that is left out.
    """
    rows = [_row(case, name, rates, late, truncated) for name in case.conditions]
    rows += [_alone(case, name) | {"verdict": f"left out: {why}"} for name, why in case.left_out.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(case: Case, name: str, rates: Rates | None, late: Convergence | None, truncated: bool) -> dict[str, Any]:
    row = _alone(case, name)
    if rates is not None:
        row |= dict(zip(("behind", "behind_low", "behind_high"), rates.behind(name), strict=True))
    told = rates is not None and rates.found.blocks > 1 and not truncated
    if rates is not None and told:
        row |= {"p": rates.p(name), "verdict": INSIDE if rates.is_inside(name) else OUTSIDE}
    improvement = late.conditions[name].effect if late is not None else _NAN
    return row | {"improvement": improvement, "gap": gap(case, name).effect if len(case.gaps) else _NAN}


def _alone(case: Case, name: str) -> dict[str, Any]:
    """Return what is known of a condition by itself."""
    rows = case.ends_of.get(name, case.ends[:0])
    made: dict[str, Any] = {"condition": name, "dose": case.doses.get(name, _NAN), "runs": len(rows)}
    for column in ("chosen", "reported"):
        values = rows[column].to_numpy(np.float64)
        found = t_interval(values[np.isfinite(values)], 1.0 - case.alpha)
        made |= dict(zip((column, f"{column}_low", f"{column}_high"), found, strict=True))
    return made | {"p": _NAN, "verdict": NO_VERDICT, "steps": float(rows["steps"].mean()) if len(rows) else _NAN}
