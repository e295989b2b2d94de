"""Runs -> what the rules read. Each file of a run is read once, as a comparison reads it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd

from dropdiag.analysis.advice import series, sweeps
from dropdiag.analysis.advice.case import ENDS, Case
from dropdiag.analysis.advice.conditions import USUAL, chosen, comparable
from dropdiag.analysis.advice.outcome import CHOSEN_ON, TRAINING_DATA, Outcome, Series, outcome
from dropdiag.analysis.compare.lenient import Problems, attempt
from dropdiag.analysis.compare.measures import generic, measure_of, quantities_of_runs
from dropdiag.analysis.compare.reading import read_scalars, relabelled
from dropdiag.analysis.compare.step_ranges import flows
from dropdiag.analysis.compare.values import BESIDE, COLUMNS, layer_values, rows
from dropdiag.analysis.gradient_flow import shared_steps
from dropdiag.errors import RunError
from dropdiag.store.reader import Runs, add_problem, open_runs


def read(given: Any, x: str = "rate", *, scalar: str | None = None, alpha: float = 0.05) -> tuple[Case, Problems]:
    """Read what the rules ask of runs.

    Parameters
    ----------
    given : Runs, Sweep, or what `load` takes
        A sweep's folder stands for its runs.
    x : str
        Key of the config that is the axis.
    scalar : str, optional
        What runs are judged by.
    alpha : float

    Returns
    -------
    case : Case
    problems : list of str
        A sentence for what could not be read or set side by side.

    Raises
    ------
    ArgumentError
        For options that cannot be.
    RunError
        If no completed run can be read.
    """
    told = sweeps.given(given)
    runs, problems = _completed(told.runs, told.failed)
    problems += told.remarks
    # what a sweep was of is its axis, where there is one and another one was not asked for
    x = told.axes[0] if len(told.axes) == 1 and x == USUAL else x
    found = chosen(runs, x, told.axes)
    quantities = quantities_of_runs(runs)
    taken = {measure.quantity for measure in generic(quantities).values()} | BESIDE
    scalars = read_scalars(runs, quantities.keys() - taken, problems)
    network = series.network(scalars, quantities)
    known = series.recorded(network)
    judged = outcome(known, scalar)
    steps = {label: int(run.meta.get("steps") or 0) for label, run in zip(runs.labels(), runs, strict=True)}
    ends = pd.DataFrame(columns=ENDS) if judged is None else series.ends(network, judged, steps)
    lost = {} if judged is None else _diverged(runs, network, ends)
    if judged is not None:
        _name_lacking(runs, ends, judged, problems)
        comparable(found, ends, lost)
    problems += [*found.remarks, *(f"{name!r} is left out: {why}." for name, why in found.left_out.items())]
    case = Case(
        tuple(found.conditions), ends, judged, axis=x if found.doses else "", doses=found.doses, alpha=alpha,
        gaafs=tuple(found.gaafs), diverged=lost, left_out=found.left_out,
        layers=_layers(runs, scalars, judged, known, problems),
        dropouts=_sites(runs, "dropout"), normed=_sites(runs, "weight", "BatchNorm"),
    )  # fmt: skip
    if judged is None:
        return case, problems
    of, on, gaps = series.gaps(network, known, judged)
    curve = series.curve(runs, network, judged.chosen)
    return replace(case, curve=curve, gaps=gaps, gap_of=of, gap_on=on), problems


def _completed(given: Any, known: Collection[str]) -> tuple[Runs, Problems]:
    """Open runs; those that did not come to their end are left out and named, unless it is known why."""
    runs, problems = open_runs(given, on_error="collect")
    kept = []
    for run in runs or ():
        if run.state == "completed":
            kept.append(run)
        elif run.name not in known:
            how = "is still being recorded, or was killed" if run.state == "running" else f"ended as {run.state!r}"
            add_problem(problems, f"{run.path} {how}, at step {run.meta.get('steps', 0):,}: it is left out.")
    if not kept:
        raise RunError(f"no completed run can be read. {' '.join(problems)}".strip())
    return Runs(kept, ordered=runs is not None and runs.ordered), problems


def _name_lacking(runs: Runs, ends: pd.DataFrame, judged: Outcome, problems: Problems) -> None:
    known = set(ends["run"])
    for label, run in zip(runs.labels(), runs, strict=True):
        if label not in known:
            add_problem(problems, f"{run.path} holds no {str(judged.chosen)!r} and is left out.")


def _diverged(runs: Runs, network: pd.DataFrame, ends: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    labels = series.diverged(network) | set(ends.loc[ends["chosen"].isna(), "run"])
    found: dict[str, tuple[str, ...]] = {}
    for label, run in zip(runs.labels(), runs, strict=True):
        if label in labels:
            found[run.condition] = (*found.get(run.condition, ()), label)
    return found


def _layers(
    runs: Runs, scalars: pd.DataFrame, judged: Outcome | None, known: list[Series], problems: Problems
) -> pd.DataFrame:
    """Take the measures of layers: of held-out data those of the set that runs are judged by."""
    others = {one.phase for one in known if one.data in (*CHOSEN_ON, TRAINING_DATA)}
    others -= {judged.chosen.phase} if judged is not None else set()
    of = scalars[scalars["layer"].notna() & ~scalars["phase"].isin(others)]
    until = shared_steps(runs, runs.conditions)
    told: Problems = []
    flow = attempt(runs, lambda some: relabelled(flows(some, {until}), some, runs), told)
    found = [None if flow is None else rows(flow, measure_of("gradient_flow"))]
    found += layer_values(of, {}, quantities_of_runs(runs), runs.conditions, told)
    # what was not recorded has a place of its own on the page; what could not be read of a run is a problem
    problems += [one for one in told if any(str(run.path) in one for run in runs) and one not in problems]
    frames = [frame for frame in found if frame is not None and len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def _sites(runs: Runs, kind: str, begins: str = "") -> tuple[str, ...]:
    sites = (site for run in runs for site in run.meta["layers"] if site["kind"] == kind)
    names = (str(site["layer"]) for site in sites if begins in str(site.get("type")))
    return tuple(name for name in dict.fromkeys(names) if not name.endswith(".bias"))
