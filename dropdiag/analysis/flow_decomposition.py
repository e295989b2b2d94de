"""Where does the gradient come from? The gradient flow of a layer as a product of terms, and what each changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.flow.align import Aligned
from dropdiag.analysis.flow.effects import Sum, apart, effects, grouped
from dropdiag.analysis.flow.readings import Means, averaged
from dropdiag.analysis.flow.sides import Asked, Side, sides_of_conditions
from dropdiag.analysis.flow.terms import TOTAL, terms_of
from dropdiag.analysis.select import check, today
from dropdiag.errors import ArgumentError
from dropdiag.store.order import Site
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import NamesOrAll

PER: Final[Mapping[str, Callable[[Aligned], list[Sum]]]] = {"kind": grouped, "layer": apart}
COLUMNS: Final = ["condition", "layer", "call", "term", "name", "effect", "low", "high", "n", "n_baseline", "paired",
                  "baseline", "steps", "every_step", "why", "note"]  # fmt: skip


def table(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    baseline: str | None = None,
    until: int | None = None,
    per: str = "kind",
    match: Mapping[str, str] | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Split each condition's log ratio of the gradient flow to the baseline into what it is made of, layer by layer.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order. Layers are activations, as the baseline calls them.
    baseline : str, optional
        By default as in `dropdiag.compare`.
    until : int, optional
        Last step that counts; by default the last that the completed runs of two conditions share, as in
        `dropdiag.compare`.
    per : {"kind", "layer"}
        Terms of one kind above a layer summed, or each by itself.
    match : mapping of str to str, optional
        Layer of the baseline -> layer of the other conditions, as in `dropdiag.compare`.
    alpha : float
        Intervals cover 1 - alpha.

    Returns
    -------
    DataFrame
        Columns condition, layer, call; term ("output error", "transport", "other paths", "mask", "slope", and "total",
        their sum); name (what lies between, the dropout, the activation); effect (log ratio of condition to baseline,
        mean over seeds), low, high (Student's t over seeds; NaN for fewer than two runs on a side); n, n_baseline
        (runs), paired (by seed), baseline; steps (that the means are over, of one run on average); every_step (of the
        total: the log ratio over all recorded steps, as `dropdiag.compare` has it; else NaN); why (a term is missing);
        note (runs that were left out, and why). Layers in network order, terms from the output down.

    Raises
    ------
    ArgumentError
        For an unknown name or option; a `BaselineError` where nothing says which condition is the baseline.
    NotRecordedError
        If no run holds the decomposition, or there is one condition alone.

    Notes
    -----
    Each reading is averaged over the steps at which the run has all of them, then ratios are taken. The gradient flow
    itself is recorded at every step and the decomposition on the schedule, so the total is that of `dropdiag.compare`
    over the same steps: ``dropdiag.compare(runs, steps=steps(runs))``, or without ``steps`` where every step was
    scheduled. See docs/flow.md for the formula and for how it misleads.

    Examples
    --------
    >>> table = dd.analysis.flow_decomposition.table(runs, baseline="No dropout")
    >>> table["term"].unique().tolist()
    ['output error', 'transport', 'mask', 'slope', 'total']
    """
    shown, layers = _shown(per), today(runs, layers)
    asked = Asked(conditions, baseline, until, match, alpha)
    frames = [_frame(side, shown, 1.0 - alpha, layers, [0.0]).assign(steps=side.steps)
              for side in sides_of_conditions(runs, asked)]  # fmt: skip
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def over_training(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    baseline: str | None = None,
    until: int | None = None,
    per: str = "kind",
    match: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    bins: int = 80,
) -> pd.DataFrame:
    """Split the log ratio of the gradient flow as `table` does, in bins of training steps.

    Parameters
    ----------
    runs, layers, conditions, baseline, until, per, match, alpha
        As in `table`.
    bins : int
        Equal bins of scheduled steps; fewer than this are left as they are.

    Returns
    -------
    DataFrame
        As `table`, with step (mean of the bin's scheduled steps) in place of steps, by step within each term.

    Examples
    --------
    >>> table = dd.analysis.flow_decomposition.over_training(runs, bins=2)
    >>> bool((table["step"] <= 10).all())
    True
    """
    shown, layers = _shown(per), today(runs, layers)
    asked = Asked(conditions, baseline, until, match, alpha, bins)
    frames = []
    for side in sides_of_conditions(runs, asked):
        frame = _frame(side, shown, 1.0 - alpha, layers, list(side.middles))
        keys = ["layer", "call", "term", "name"]
        order = frame.groupby(keys, sort=False).ngroup().to_numpy()
        frames.append(frame.iloc[np.lexsort((frame["step"], order))])
    columns = ["step" if name == "steps" else name for name in COLUMNS if name != "every_step"]
    return pd.concat(frames, ignore_index=True)[columns]


def per_run(runs: Run | Runs, *, conditions: NamesOrAll = None, until: int | None = None) -> pd.DataFrame:
    """Terms of each run, from the output down: each the ratio of two means over the same steps.

    Parameters
    ----------
    runs, conditions, until
        As in `table`; ``until`` is all steps by default.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, layer, call (an activation), term, name, factor (of the output error in loss
        units per unit of the output; else a pure number), flow (the product so far: in the last row of an activation
        its gradient flow), steps (that the means are over), scheduled (steps at which anything was read), why.

    Examples
    --------
    >>> terms = dd.analysis.flow_decomposition.per_run(runs)
    >>> terms["run"].nunique()
    6
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    rows = [row for one in averaged(every, names, until=until) for row in _rows(one)]
    return pd.DataFrame(rows)


def steps(runs: Run | Runs, *, conditions: NamesOrAll = None, until: int | None = None) -> dict[str, list[int]]:
    """Return the training steps over which `table` averages each run, by the run's path.

    Parameters
    ----------
    runs, conditions, until
        As in `per_run`.

    Returns
    -------
    dict of str to list of int
        Those at which every reading of the run's chain has a value.

    Examples
    --------
    >>> steps = dd.analysis.flow_decomposition.steps(runs)
    >>> set(map(len, steps.values()))
    {3}
    """
    every = as_runs(runs)
    paths = dict(zip(every.labels(), (str(run.path) for run in every), strict=True))
    names = check("condition", conditions, every.conditions)
    return {paths[one.run]: one.steps.tolist() for one in averaged(every, names, until=until)}


def _shown(per: str) -> Callable[[Aligned], list[Sum]]:
    if per not in PER:
        raise ArgumentError(f"per must be one of {', '.join(map(repr, PER))}, got {per!r}")
    return PER[per]


def _frame(
    side: Side, shown: Callable[[Aligned], list[Sum]], level: float, layers: NamesOrAll, bins: list[float]
) -> pd.DataFrame:
    """Return the records of one condition, site by site in network order, or in that of the layers asked for."""
    rows = [
        {"layer": layer, "call": call, "step": step, **row}
        for layer, call in _wanted(side, layers)
        for bin_, step in enumerate(bins)
        for row in _records(side, shown, (layer, call), level, bin_)
    ]
    told = {"condition": side.condition, "baseline": side.baseline, "note": side.note}
    columns = ["step", *(name for name in COLUMNS if name != "steps")]
    return pd.DataFrame(rows, columns=columns).assign(**told)


def _wanted(side: Side, layers: NamesOrAll) -> list[Site]:
    if layers is None:
        return list(side.made)
    names = check("layer", layers, dict.fromkeys(layer for layer, _ in side.made))
    return [site for name in names for site in side.made if site[0] == name]


def _records(
    side: Side, shown: Callable[[Aligned], list[Sum]], site: Site, level: float, bin_: int
) -> Iterator[dict[str, Any]]:
    made = side.made[site]
    if not made.problem:
        return effects(made, side.pairing, shown(made), level=level, bin_=bin_)
    lost = {"term": TOTAL, "name": "", "n": 0, "n_baseline": 0, "paired": side.pairing.paired, "why": made.problem}
    return iter([lost])


def _rows(one: Means) -> Iterator[dict[str, Any]]:
    """Return the terms of a run's paths; where several come by one tensor, what they share is told once for each."""
    for site, path in one.chain.items():
        so_far = 0.0
        for term in terms_of(one, path):
            log = float(term.logs[0])
            so_far += log
            yield {
                "condition": one.condition, "seed": one.seed, "run": one.run, "layer": site[0], "call": site[1],
                "term": term.kind, "name": term.name, "factor": np.exp(log), "flow": np.exp(so_far),
                "steps": one.steps.size, "scheduled": one.scheduled, "why": term.why,
            }  # fmt: skip
