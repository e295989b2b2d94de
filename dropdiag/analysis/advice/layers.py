"""Numbers of layers, condition by condition: what the rules on layers say their sentences from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.case import Case, blocks
from dropdiag.analysis.advice.finding import Finding, shown
from dropdiag.analysis.seeds import Floats, t_interval
from dropdiag.formatting import site

FLOW: Final = "gradient_flow"
MEASURES: Final = {
    FLOW: "gradient flow, as a factor beside the lowest rate",
    "dropout_noise_to_signal": "noise of the masks beside the signal, in variance",
    "regulariser": "what masks there add to the loss",
    "net_variance_mean": "variance of net values over masks",
    "ablation_dependence": "dependence of nodes on their partners",
    "saturation_share": "share of saturated net values",
    "dead_share": "share of dead nodes",
    "always_saturated_share": "share of nodes that are always saturated",
}
COLUMNS: Final = ["measure", "layer", "call", "condition", "value", "low", "high", "seeds"]


def numbers(case: Case) -> pd.DataFrame:
    """Return the means of the measures of layers over seeds, each with its own interval at 1 - alpha.

    Returns
    -------
    DataFrame
        Columns measure, layer, call, condition, value, low, high (NaN for one run), seeds: layers as the case has them,
        conditions in their order. The gradient flow is a factor, of geometric means, beside the first condition.
    """
    rows = list(_rows(case))
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(case: Case) -> Iterator[tuple[Any, ...]]:
    every = case.layers[case.layers["layer"].notna()]
    names = [*case.conditions, *(name for name in case.gaafs if name not in case.conditions)]
    recorded = set(every["measure"])
    for measure in filter(recorded.__contains__, MEASURES):
        of = every[every["measure"] == measure]
        for (layer, call), part in of.groupby(["layer", "call"], sort=False):
            for name in names:
                values = _factors(case, part, name) if measure == FLOW else _values(part, name)
                if values.size:
                    mean, low, high = t_interval(values, 1.0 - case.alpha)
                    made = np.exp([mean, low, high]) if measure == FLOW else np.array([mean, low, high])
                    yield measure, layer, call, name, *map(float, made), values.size


def _values(part: pd.DataFrame, condition: str) -> Floats:
    values = part.loc[part["condition"] == condition, "value"].to_numpy(np.float64)
    finite: Floats = values[np.isfinite(values)]
    return finite


def _factors(case: Case, part: pd.DataFrame, condition: str) -> Floats:
    """Logarithm of each seed's ratio to the first condition; none of that itself, which is 1 by definition."""
    if condition == case.lowest:
        return np.empty(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a flow of 0 has no logarithm, and its pair is left out
        whole = blocks(part.assign(value=np.log(part["value"])), "value", [condition, case.lowest]).whole
    apart: Floats = whole[:, 0] - whole[:, 1]
    return apart


def extremes(
    case: Case, table: pd.DataFrame, measure: str, condition: str, *, rule: str, source: str, tells: str
) -> list[Finding]:  # fmt: skip
    """Say of one measure and condition where it is greatest, and where least; and what it is there at the lowest rate.

    Parameters
    ----------
    case : Case
    table : DataFrame
        Of `numbers`.
    measure, condition : str
    rule, source : str
    tells : str
        What the number says: the end of the sentence.
    """
    if not (table["measure"] == measure).any():
        return []
    known = table[table["measure"] == measure].dropna(subset=["value"])
    rows = known[known["condition"] == condition]
    if rows.empty:
        return []
    most, least = (rows.iloc[place] for place in _ends(rows["value"].to_numpy(np.float64)))
    lowest = known[(known["condition"] == case.lowest) & (known["condition"] != condition)
                   & (known["layer"] == most["layer"]) & (known["call"] == most["call"])]["value"]  # fmt: skip
    beside = f" (at {case.at(case.lowest)} it is {shown(float(lowest.iloc[0]))} there)" if len(lowest) else ""
    what = f"At {case.at(condition)}, {MEASURES[measure]} is {_greatest(most, least, beside)}: {tells}."
    value, low, high = (float(most[name]) for name in ("value", "low", "high"))
    return [Finding(rule, what, value, low, high, source=source, condition=condition)]


def _ends(values: Floats) -> tuple[int, int]:
    """Return the places of the greatest and of the least; of equal ones the first and the last."""
    return int(values.argmax()), values.size - 1 - int(values[::-1].argmin())


def _greatest(most: pd.Series[Any], least: pd.Series[Any], beside: str) -> str:
    if most.name == least.name:
        return f"{shown(most['value'])} at {site(most['layer'], most['call'])}{beside}"
    if most["value"] == least["value"]:
        return f"{shown(most['value'])} at every layer that has it{beside}"
    return (f"{shown(most['value'])} at {site(most['layer'], most['call'])}, the most{beside}, and "
            f"{shown(least['value'])} at {site(least['layer'], least['call'])}, the least")  # fmt: skip


def spoken_of(case: Case, inside: tuple[str, ...]) -> str | None:
    """Return the condition whose layers are spoken of: the highest rate inside, else the one above the lowest."""
    above = [name for name in case.conditions[1:] if name not in case.gaafs]
    kept = [name for name in above if name in inside]
    return kept[-1] if kept else above[0] if above else None
