"""Rows of runs, chosen by condition and layer, with an error that lists what there is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.phases import common, keep, listed
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.total import total
from dropdiag.store.asked import did_you_mean
from dropdiag.store.histogram_rows import RecordedHistogram, chooser, phases_of, with_start
from dropdiag.store.naming import layers_formerly
from dropdiag.store.order import Places
from dropdiag.store.read_ahead import read_ahead
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import Names, NamesOrAll

SITE = ["layer", "call"]
GROUP = ["condition", "layer", "call"]
KEYS = ["condition", "seed", "run", "step", "phase", "layer", "call"]


def histograms(
    runs: Run | Runs,
    quantity: str,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    step: int | str | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Histograms of one quantity, one row a run and site.

    Parameters
    ----------
    runs : Run or Runs
    quantity : str
        Name in `dropdiag.store.schema.QUANTITIES`.
    layers, conditions : sequence of str, optional
        All, or these in this order.
    step : int or "all", optional
        None is the last recorded step of each run.
    phase : str, optional
        One for all runs: None is ``"eval"`` if any of them has it, else the only held-out phase, else
        ``"train"`` (see `dropdiag.analysis.phases.common`).

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer, call, histogram.

    Raises
    ------
    ArgumentError
        If a layer or a condition does not exist, or the phase is not clear; the message lists those that do.
    NotRecordedError
        If no run holds the quantity, or none does in that phase.

    Warns
    -----
    DropdiagWarning
        If runs are left out because they do not hold the quantity in that phase.

    Examples
    --------
    >>> rows = dd.analysis.select.histograms(runs, "weight", layers=["output"])
    >>> rows["histogram"][0].n
    24
    """
    every = as_runs(runs)
    names = check("condition", conditions, every.conditions)
    read = read_histograms(every, [quantity], conditions=names, step=step, phase=phase)
    return of_one_phase(every, read, quantity, layers=layers, conditions=conditions, step=step, phase=phase)


class ReadHistograms(NamedTuple):
    """Histograms of several quantities and runs, each run's file opened once.

    Attributes
    ----------
    phases : dict
        Quantity -> run -> phases in which the run holds it.
    frame : DataFrame
        Columns condition, seed, run, step, phase, layer, call, quantity, histogram: of each run and quantity in the
        phase that was asked for, or in that which is the run's default.
    """

    phases: dict[str, dict[str, list[str]]]
    frame: pd.DataFrame


def read_histograms(
    runs: Run | Runs,
    quantities: Sequence[str],
    *,
    conditions: Collection[str],
    step: int | str | None = None,
    phase: str | None = None,
    starts: Collection[str] = (),
) -> ReadHistograms:
    """Read histograms of several quantities at once; `of_one_phase` then gives those of one.

    A run's default phase is enough: where all have one phase in common it is the default of each that has it, since
    the rule is the same for a run and for all of them.

    Parameters
    ----------
    runs : Run or Runs
    quantities : sequence of str
    conditions : collection of str
        Runs of others are not read.
    step, phase
        As in `histograms`.
    starts : collection of str
        Quantities of which those of step 0 are read too.

    Returns
    -------
    ReadHistograms

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read.
    """
    every = as_runs(runs)
    labels = every.labels()
    wanted = [place for place, run in enumerate(every) if run.condition in conditions]
    held: dict[str, dict[str, list[str]]] = {quantity: {} for quantity in quantities}
    rows, whose = list[RecordedHistogram](), list[int]()
    choose = with_start(chooser(quantities, step, phase), starts)
    for place, found in read_ahead(lambda place: every[place].recorded(choose), wanted):
        found.warn()  # here and not in the reading thread, where it would be told of another line
        rows += found.in_order(quantities, every.places)
        whose += [place] * (len(rows) - len(whose))
        for quantity in quantities:
            held[quantity][labels[place]] = phases_of(found.steps, quantity)
    # one frame of all rows: a frame a run and joining them took as long as reading the files
    frame = pd.DataFrame(rows, columns=RecordedHistogram._fields)
    return ReadHistograms(held, every.beside(frame, np.array(whose, np.int64)))


def of_one_phase(
    runs: Run | Runs,
    read: ReadHistograms,
    quantity: str,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    step: int | str | None = None,
    phase: str | None = None,
) -> pd.DataFrame:
    """Return what `histograms` does of one quantity, from what `read_histograms` read with the same arguments."""
    every = as_runs(runs)
    phase = common(read.phases[quantity], quantity, phase)
    kept = keep(read.phases[quantity], quantity, phase)
    frame = read.frame[(read.frame["quantity"] == quantity) & (read.frame["phase"] == phase)]
    frame = frame.drop(columns="quantity").reset_index(drop=True)
    for label in set(kept) - set(frame["run"]):  # nothing at that step: asked alone, the run says what it has
        every[every.labels().index(label)].histograms(quantity, step, phase)
    named = today(every, layers)
    return chosen(frame, quantity, layers=named, conditions=conditions, known=every.conditions, places=every.places)


def scalars(
    runs: Run | Runs,
    quantity: str,
    *,
    phase: str | None = None,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
) -> pd.DataFrame:
    """Rows of one scalar quantity, missing values (null, NaN) included.

    Parameters
    ----------
    runs, quantity, layers, conditions
        As in `histograms`.
    phase : str, optional
        None is every phase.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer, call, quantity, value.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `histograms`.

    Examples
    --------
    >>> rows = dd.analysis.select.scalars(runs, "loss", phase="train")
    >>> len(rows) == len(runs) * 10
    True
    """

    def gather(layer: Names, condition: Names) -> pd.DataFrame:
        return as_runs(runs).select(quantity, condition=condition, phase=phase, layer=layer, missing_ok=True)

    return pushed_down(runs, quantity, gather, layers=layers, conditions=conditions)


def in_order(runs: Runs, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join frames to one with its rows run by run, in the order of the runs; without any, to one of no rows."""
    if not frames:
        return pd.DataFrame(columns=["condition", "run", *SITE])
    return _by_place(pd.concat(frames, ignore_index=True), run=runs.labels())


def by_condition(frame: pd.DataFrame, conditions: Iterable[str]) -> pd.DataFrame:
    """Rows condition by condition, in the order of the conditions; those of one stay in their order."""
    return _by_place(frame, condition=conditions)


def _by_place(frame: pd.DataFrame, **orders: Iterable[object]) -> pd.DataFrame:
    """Rows in the order of one column, then of the next, each given as all that it can hold."""
    places = [frame[name].map({one: i for i, one in enumerate(order)}) for name, order in orders.items()]
    rows: pd.DataFrame = frame.iloc[np.lexsort(places[::-1])].reset_index(drop=True)  # stable; the last key leads
    return rows


def by_site(frame: pd.DataFrame, places: Places, layers: NamesOrAll = None) -> pd.DataFrame:
    """Rows site by site, whatever the condition, in network order or in that of some layers.

    Parameters
    ----------
    frame : DataFrame
        Columns layer, call.
    places : Places
        Of the runs' sites. Rows of the network as a whole come last.
    layers : sequence of str, optional
    """
    known = list(frame[SITE].drop_duplicates().itertuples(index=False, name=None))
    order = {site: i for i, site in enumerate(places.sorted(site for site in known if isinstance(site[0], str)))}
    # looked up once a site, not once a row: of long runs there are a million
    place = np.array([order.get(site, len(order)) for site in known], np.int64)
    number = frame.groupby(SITE, sort=False, dropna=False).ngroup().to_numpy()
    rows: pd.DataFrame = frame.iloc[np.argsort(place[number], kind="stable")].reset_index(drop=True)
    return rows if layers is None else _by_place(rows, layer=layers)


def pushed_down(
    runs: Run | Runs,
    quantity: str,
    gather: Callable[[Names, Names], pd.DataFrame],
    *,
    layers: NamesOrAll,
    conditions: NamesOrAll,
) -> pd.DataFrame:
    """Rows of the given layers and conditions alone; all are read only to say what there is.

    Parameters
    ----------
    runs, quantity, layers, conditions
        As in `scalars`.
    gather : callable
        (layers, conditions) -> frame with columns condition and layer.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `histograms`.
    """
    every = as_runs(runs)
    names, layers = check("condition", conditions, every.conditions), today(every, layers)
    some = list(layers) if layers is not None and not isinstance(layers, str) else None
    frame = gather(some, names)
    if frame.empty or set(some or ()) - set(frame["layer"].unique()):  # the error lists what there is instead
        frame = gather(None, None)
    return chosen(frame, quantity, layers=layers, conditions=conditions, known=every.conditions, places=every.places)


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with text in place of its categories."""
    categories = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(categories, "str"))


def chosen(
    frame: pd.DataFrame,
    what: str,
    *,
    layers: NamesOrAll,
    conditions: NamesOrAll,
    known: Iterable[str],
    places: Places | None = None,
) -> pd.DataFrame:
    """Rows of the given layers and conditions, in the order given: of all layers in network order.

    Parameters
    ----------
    frame : DataFrame
    what : str
        What the rows are of.
    layers, conditions : sequence of str, optional
    known : iterable of str
        All conditions.
    places : Places, optional
        Of the runs' sites; None: in the order in which layers first come.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `histograms`.

    Warns
    -----
    DropdiagWarning
        If the runs do not agree on the order of their layers.
    """
    names = check("condition", conditions, known)
    if frame.empty:
        raise NotRecordedError(f"no run holds {what!r}; record it with a probe (or step/log) that writes it")
    order = check("layer", layers, [name for name in frame["layer"].unique() if isinstance(name, str)])
    frame = frame[frame["condition"].isin(names)]
    if order:
        frame = frame[frame["layer"].isin(order)]
    if frame.empty:
        raise NotRecordedError(f"none of the conditions {listed(names)} holds {what!r}; choose among others")
    if places is None:
        return _by_place(frame, condition=names, layer=order)
    if places.problem:
        warnings.warn(f"{places.problem}.", DropdiagWarning, stacklevel=3)
    return _by_place(by_site(frame, places, layers), condition=names)


def today(runs: Run | Runs, layers: NamesOrAll) -> NamesOrAll:
    """Return layers under their names of today, with a warning for each that is asked for by a former one."""
    if layers is None or isinstance(layers, str):
        return layers
    return [str(name) for name in as_runs(runs).today(list(layers)) or ()]


def matching(run: Run, pattern: str | None) -> Callable[[str], bool]:
    """Return whether a layer's name matches a glob pattern; if former names alone do, today's do, with a warning."""
    if pattern is None:
        return lambda _: True
    former: Sequence[str] = []
    if not any(fnmatchcase(str(row["layer"]), pattern) for row in run.meta["layers"]):
        asked = [name for name in layers_formerly([run.meta]) if fnmatchcase(name, pattern)]
        former = today(run, asked) or []
    return lambda name: fnmatchcase(name, pattern) or name in former


def check(kind: str, wanted: NamesOrAll, known: Iterable[str]) -> list[str]:
    """Return names that were asked for, or all of them.

    Raises
    ------
    ArgumentError
        If one does not exist, or a single string was given for a list.
    """
    names = list(known)
    if wanted is None:
        return names
    if isinstance(wanted, str):
        raise ArgumentError(f"{kind}s must be a list of names, got the string {wanted!r}; write [{wanted!r}]")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ArgumentError(f"no {kind} {listed(unknown)}{did_you_mean(unknown[0], names)} there are {listed(names)}")
    if not list(wanted):
        raise ArgumentError(f"{kind}s is empty; leave it out for all of {listed(names)}")
    return list(wanted)


def last(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run's and site's last step in each phase.

    Parameters
    ----------
    frame : DataFrame
        As `scalars` returns it, or `Runs.batches` yields it.

    Returns
    -------
    DataFrame
        Columns condition, seed, run, step, phase, layer, call, value.

    Examples
    --------
    >>> rows = dd.analysis.select.scalars(runs, "loss", phase="train")
    >>> dd.analysis.select.last(rows)["step"].unique().tolist()
    [10]
    """
    groups = frame.groupby(["condition", "run", "phase", *SITE], sort=False, observed=True, dropna=False)
    return frame.loc[frame["step"] == groups["step"].transform("max"), [*KEYS, "value"]]


def by_step(frame: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Rows in the order of their steps within each group; the groups in the order of first appearance."""
    place = frame.groupby(list(groups), sort=False, dropna=False).ngroup()
    order = pd.DataFrame({"group": place, "step": frame["step"]}).sort_values(["group", "step"], kind="stable")
    rows: pd.DataFrame = frame.loc[order.index].reset_index(drop=True)
    return rows


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """Histograms summed exactly over runs.

    Parameters
    ----------
    frame : DataFrame
        As returned by `histograms`.

    Returns
    -------
    DataFrame
        Columns condition, layer, call, runs (number of them), histogram; the order of first appearance.

    Examples
    --------
    >>> rows = dd.analysis.select.histograms(runs, "weight", layers=["output"])
    >>> dd.analysis.select.pooled(rows)["histogram"][0].n
    72
    """
    rows = [(*key, len(part), total(part["histogram"])) for key, part in frame.groupby(GROUP, sort=False)]
    return pd.DataFrame(rows, columns=[*GROUP, "runs", "histogram"])
