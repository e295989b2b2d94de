"""What the gradient flow of each run is made of, as numbers of its layers: of which kind how much, down to there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.measures import FLOW_TERMS
from dropdiag.analysis.compare.step_ranges import LOST, NOT_FINITE
from dropdiag.analysis.compare.values import COLUMNS
from dropdiag.analysis.flow.chain import OUTPUT
from dropdiag.analysis.flow.readings import Means, averaged, scheduled
from dropdiag.analysis.flow.terms import ERROR, KINDS, TOTAL, flow_of, terms_of
from dropdiag.store.reader import Runs


def flow_terms(runs: Runs, untils: Iterable[int | None]) -> pd.DataFrame:
    """Take the terms of each run's gradient flow over each step range (`dropdiag.analysis.flow_decomposition`).

    Parameters
    ----------
    runs : Runs
    untils : iterable of int or None
        Last steps of the step ranges.

    Returns
    -------
    DataFrame
        Rows of what was measured, a row a run, activation, term and step range: the product of all factors of that kind
        from the output down to the activation; of the total, the gradient flow itself. Empty where no run holds the
        decomposition. A run is left out as of the gradient flow.
    """
    if not scheduled(runs, runs.conditions).size:
        return pd.DataFrame(columns=COLUMNS)
    lengths = {label: int(run.meta.get("steps") or 0) for label, run in zip(runs.labels(), runs, strict=True)}
    rows = [
        row
        for until in sorted(set(untils), key=lambda until: until or 0)
        for one in averaged(runs, runs.conditions, until=until)
        for row in _rows(one, until, lengths[one.run])
    ]
    # what no network has, such as other paths, is no measure; one that some have is a factor of 1 in the others
    had = {row["measure"] for row in rows if row["value"] != 1.0}
    return pd.DataFrame([row for row in rows if row["measure"] in had], columns=COLUMNS)


def _rows(one: Means, until: int | None, length: int) -> Iterator[dict[str, Any]]:
    lost = _left_out(one, until, length)
    who = {"condition": one.condition, "seed": one.seed, "run": one.run, "quantity": "net_grad_abs_mean",
           "null": np.nan, "items": np.nan, "until": np.nan if until is None else float(until)}  # fmt: skip
    for (layer, call), path in one.chain.items():
        logs, why = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, "")
        for term in terms_of(one, path):
            logs[term.kind] += float(term.logs[0])
            why[term.kind] = why[term.kind] or term.why
        if path[-1].kind != OUTPUT:  # of what is above there is nothing: a product without it is of something else
            logs, why = dict.fromkeys(KINDS, np.nan), dict.fromkeys(KINDS, why[ERROR])
        logs[TOTAL] = float(flow_of(one, (layer, call))[0])
        for kind, measure in FLOW_TERMS.items():
            yield {**who, "layer": layer, "call": call, "measure": measure, "note": lost or why.get(kind, ""),
                   "value": np.nan if lost else float(np.exp(logs[kind]))}  # fmt: skip


def _left_out(one: Means, until: int | None, length: int) -> str:
    """Say why a run is left out, by the rules of the gradient flow; nothing where it is not."""
    if until is not None and 0 < length < until:
        return f"at step {length:,} it has not reached step {until:,}"
    if one.lost > LOST * one.recorded:
        return f"{one.lost:,} of {one.recorded:,} gradients are {NOT_FINITE}"
    return ""
