"""The table of the gradient flow: the numbers of the comparison, so that a page has one of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pandas as pd

from dropdiag.analysis import flow_decomposition, gradient_flow
from dropdiag.analysis.flow.terms import KINDS, TOTAL
from dropdiag.formatting import LOG_RATIO, whole
from dropdiag.report.cells import SITE, Column, Table, effect, integers, numbers, texts
from dropdiag.report.cells import table as table_of
from dropdiag.store.reader import Runs

NAME: Final = "gradient_flow"
ALL: Final = "Over all recorded training steps."


def table(runs: Runs, comparison: Any, baseline: str | None, keep: Callable[[str], bool]) -> Table:
    """Return means and ratios of the gradient flow, and say over which steps.

    Parameters
    ----------
    runs : Runs
    comparison : Comparison or None
        Its effects are taken, where it has this measure.
    baseline : str or None
    keep : callable
        Whether a layer is wanted.

    Raises
    ------
    NotRecordedError
        If no run holds it.
    """
    if comparison is not None:
        rows = comparison.table[comparison.table["measure"] == NAME]
        if len(rows):
            return _compared(rows[rows["layer"].map(keep).astype(bool)], str(comparison.baseline))
    # a run that stopped early would otherwise be averaged over its steep beginning alone
    until = gradient_flow.shared_steps(runs, runs.conditions)
    # no ratio is shown here, so any condition will do where the baseline is not known
    beside = runs.conditions[0] if baseline is None else baseline
    frame = gradient_flow.table(runs, until=until, baseline=beside)
    frame = frame[frame["layer"].map(keep).astype(bool)]
    columns = [*SITE, numbers("Mean", "mean", ".2e"), integers("Seeds", "seeds"), integers("Steps", "steps")]
    shared = f"Over the first {whole(until)} training steps, which all completed runs have."
    note = ALL if until is None else shared
    return table_of("Gradient flow, mean over training (sd over seeds)", frame.to_dict("records"), columns, note)


def _compared(rows: pd.DataFrame, baseline: str) -> Table:
    ratio: Column = f"Ratio to {baseline}", lambda row: effect(row, ratio=row["scale"] == LOG_RATIO)
    columns = [*SITE, numbers("Mean", "value", ".2e"), numbers(f"Mean of {baseline}", "baseline_value", ".2e"), ratio,
               integers("Seeds", "n"), integers(f"Seeds of {baseline}", "n_baseline")]  # fmt: skip
    return table_of("Gradient flow, mean over training", rows.to_dict("records"), columns, _window(rows))


def _window(rows: pd.DataFrame) -> str:
    """Say over which steps: what the comparison notes, once for all, or for each condition that differs."""
    told: dict[str, list[str]] = {}
    for condition, part in rows.groupby("condition", sort=False):
        notes = list(dict.fromkeys(filter(None, part["note"].fillna("").astype(str))))
        told["; ".join(notes)] = [*told.get("; ".join(notes), []), str(condition)]
    if len(told) == 1:
        return _sentence(next(iter(told)))
    return " ".join(f"{', '.join(names)}: {_sentence(note)}" for note, names in told.items())


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:].rstrip('.')}." if note else ALL


def decomposition(runs: Runs, baseline: str | None, keep: Callable[[str], bool]) -> tuple[dict[str, Any], Table | None]:
    """Return what each condition's ratio of the gradient flow to the baseline is made of, for a chart and as a table.

    Parameters
    ----------
    runs : Runs
    baseline : str or None
        None: nothing is compared.
    keep : callable
        Whether a layer is wanted.

    Raises
    ------
    NotRecordedError
        If no run holds the decomposition, or there is one condition alone.
    """
    if baseline is None:
        return {}, None
    frame = flow_decomposition.table(runs, baseline=baseline)
    frame = frame[frame["layer"].map(keep).astype(bool)]
    return {"terms": _chart(frame, runs.conditions)}, _terms(frame, baseline)


def _chart(frame: pd.DataFrame, conditions: Sequence[str]) -> dict[str, Any]:
    """Return terms as JSON: for each condition, called by its number, log ratios with their ends by layer and term."""
    kinds, sites = _kinds(frame), list(dict.fromkeys(zip(frame["layer"], frame["call"], strict=True)))
    effects = {}
    for condition, part in frame.groupby("condition", sort=False):
        keyed = part.drop_duplicates(["layer", "call", "term"]).set_index(["layer", "call", "term"])
        wanted = pd.MultiIndex.from_tuples([(*site, kind) for site in sites for kind in kinds])
        own = keyed.reindex(wanted)[["effect", "low", "high"]].astype("float64")
        effects[conditions.index(str(condition))] = [
            [None if pd.isna(one) else float(one) for one in row] for row in own.to_numpy()
        ]  # fmt: skip
    return {"kinds": kinds, "sites": [[layer, int(call)] for layer, call in sites], "effects": effects}


def _kinds(frame: pd.DataFrame) -> list[str]:
    return [kind for kind in (*KINDS, TOTAL) if (frame["term"] == kind).any()]


def _terms(frame: pd.DataFrame, baseline: str) -> Table:
    """Return terms as a table of factors."""
    kinds = _kinds(frame)
    records: list[dict[Any, Any]] = []
    for (condition, layer, call), part in frame.groupby(["condition", "layer", "call"], sort=False):
        by = {str(row["term"]): row for row in part.to_dict("records")}
        lost = "; ".join(dict.fromkeys(str(row["why"]) for row in by.values() if row["why"]))
        total = by.get(TOTAL, {})
        told = {"seeds": f"{total.get('n')} / {total.get('n_baseline')}", "steps": total.get("steps")}
        records.append({"condition": condition, "layer": layer, "call": call, "terms": by, "why": lost, **told})
    columns: list[Column] = [*SITE, *map(_term, kinds), texts("Seeds", "seeds"), integers("Steps", "steps")]
    columns += [texts("Missing, and why", "why")] if any(record["why"] for record in records) else []
    notes = "; ".join(filter(None, dict.fromkeys(frame["note"])))
    caption = (
        f"What the ratio to {baseline} is made of: factors, with t intervals over seeds; their product is the total"
    )
    return table_of(caption, records, columns, _sentence(notes) if notes else "")


def _term(kind: str) -> Column:
    return kind.capitalize(), lambda record: effect(record["terms"].get(kind, {}), ratio=True)
