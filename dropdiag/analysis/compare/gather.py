"""Take all measures of all runs: one number a run, layer and measure, and the histograms of which distances are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.compare.active import directions, network_measured, with_reasons, without_subject
from dropdiag.analysis.compare.lenient import Problems, attempt
from dropdiag.analysis.compare.measures import generic, measure_of
from dropdiag.analysis.compare.reading import asked, of_quantity, read_histograms, read_scalars, relabelled
from dropdiag.analysis.compare.step_ranges import diverged, flows
from dropdiag.analysis.compare.values import BESIDE, COLUMNS, FAR, START, Called, layer_values, network_values, rows
from dropdiag.analysis.gradient_flow import Steps
from dropdiag.analysis.phases import common
from dropdiag.analysis.select import ReadHistograms
from dropdiag.store.reader import Runs
from dropdiag.store.schema import DISTANCE, Quantity

PLURAL: Final = {"weight": "weights", "net_value": "net values"}
EXPECTED: Final = ("weight", "net_value", "node_correlation")
"""Histograms that a claim or a figure of the paper rests on: a problem says where no run has them."""
HISTOGRAMS: Final = ["condition", "seed", "run", "layer", "call", "quantity", "histogram"]


class Gathered(NamedTuple):
    """All numbers of all runs.

    Attributes
    ----------
    values : DataFrame
        Columns condition, seed, run, layer (None for the network), call, quantity, measure, value (NaN for a run
        that is left out), null (what independent nodes would give; NaN where there is none), items (independent samples
        behind a correlation), until (last step of the gradient flow; NaN is all), note (why a value is missing, or what
        it may hide).
    histograms : DataFrame
        Columns condition, seed, run, layer, call, quantity, histogram (all values finite), of which distances are.
    series : DataFrame
        What was measured several times in training and is compared over a part of it: as ``values``, with a step.
    """

    values: pd.DataFrame
    histograms: pd.DataFrame
    series: pd.DataFrame

    def adding(self, values: pd.DataFrame | None) -> Gathered:
        """Return the same with further values."""
        if values is None or values.empty:
            return self
        known = [frame for frame in (self.values, values) if len(frame)]
        return self._replace(values=pd.concat(known, ignore_index=True))


def gather(
    runs: Runs,
    quantities: Mapping[str, Quantity],
    problems: Problems,
    untils: Collection[int | None] = (None,),
    called: Called | None = None,
    *,
    steps: Steps = None,
) -> Gathered:
    """Take all measures of all runs.

    Parameters
    ----------
    runs : Runs
    quantities : mapping of str to Quantity
        What is known of the runs' quantities: those with a scale are compared on it.
    problems : list of str
        What could not be taken is added, and the runs that have diverged.
    untils : collection of int or None
        Last steps of the ranges over which the gradient flow is taken.
    called : mapping of str to mapping of str to str, optional
        Condition -> its layer -> what the baseline calls the layer beside it. By default all are called the same.
    steps : collection of int, or mapping of str to collection of int, optional
        Training steps over which the gradient flow is taken, for all runs or by the run's path.

    Returns
    -------
    Gathered
    """
    conditions, measures = runs.conditions, generic(quantities)
    distances = [measure.quantity for measure in measures.values() if measure.scale == DISTANCE]
    # in this order problems are told, and rows of the table follow each other
    flow = attempt(runs, lambda some: relabelled(flows(some, untils, steps), some, runs), problems)
    histograms = _histograms(runs, [*dict.fromkeys([*EXPECTED, *distances, *FAR])], problems)
    taken = {measure.quantity for measure in measures.values()} | BESIDE
    scalars = read_scalars(runs, quantities.keys() - taken, problems)
    found = [None if flow is None else rows(flow, measure_of("gradient_flow"))]
    found += layer_values(scalars, histograms, quantities, conditions, problems, called=called)
    found += network_measured(scalars, quantities, runs, problems)
    found += network_values(scalars, quantities, conditions, problems)
    known = [frame for frame in found if frame is not None and len(frame)]
    values = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=COLUMNS)
    values = with_reasons(without_subject(values, runs), runs)
    broken = {name: _broken(histograms[quantity]) for quantity, name in PLURAL.items() if quantity in histograms}
    problems += [one for one in diverged(runs, values, broken) if one not in problems]
    whole = [histograms[name].query("whole")[HISTOGRAMS] for name in distances if name in histograms]
    pooled = pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=HISTOGRAMS)
    return Gathered(values, pooled, with_reasons(directions(scalars, runs), runs))


def _histograms(runs: Runs, names: Sequence[str], problems: Problems) -> dict[str, pd.DataFrame]:
    """Read histograms of one phase; add whether all values are finite, and leave out those that hold no value."""
    read, found = read_histograms(runs, names, problems, starts=["weight"]), {}
    recorded = {*EXPECTED, *read.frame["quantity"]}
    for name in filter(recorded.__contains__, names):
        frame = asked(problems, partial(_of_one_phase, read, name, runs.conditions))
        if frame is not None:
            # both numbers at once: each costs a pass over the bins of tens of thousands of histograms
            sizes = np.array([(h.n, h.n_finite) for h in frame["histogram"]])
            frame = frame.assign(whole=sizes[:, 0] == sizes[:, 1])
            found[name] = frame[sizes[:, 0] > 0].reset_index(drop=True)
    if "weight" in found:
        found |= _ends(found["weight"])
    return found


def _ends(weights: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tell the weights before training from those at a run's end."""
    last = weights.groupby(["run", "layer", "call"], sort=False)["step"].transform("max")
    start = weights[(weights["step"] == 0) & (last > 0)].reset_index(drop=True)
    ends = {"weight": weights[weights["step"] == last].reset_index(drop=True)}
    return ends | ({START: start} if len(start) else {})


def _of_one_phase(read: ReadHistograms, name: str, conditions: list[str]) -> pd.DataFrame:
    # of a run whose phase is not clear nothing was read: this says so, also where other runs are clear
    common({run: phases for run, phases in read.phases.get(name, {}).items() if phases}, name)
    return of_quantity(read.frame, name, conditions)


def _broken(histograms: pd.DataFrame) -> list[str]:
    """Return the runs whose values are not all finite."""
    found: list[str] = histograms.loc[~histograms["whole"], "run"].unique().tolist()
    return found
