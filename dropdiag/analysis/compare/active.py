"""One number a run of what active measurements found (`Recorder.measure`): of the network, and over training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.baseline import drops
from dropdiag.analysis.compare.lenient import Problems
from dropdiag.analysis.compare.measures import measure_of
from dropdiag.analysis.compare.reading import asked
from dropdiag.analysis.compare.values import COLUMNS, rows
from dropdiag.analysis.phases import rows_of_one_phase
from dropdiag.store.reader import Runs
from dropdiag.store.schema import MEASURED, UNCOMPARED, Quantity, at, base_and_x, quantity_of

PHASES: Final = {name: measure for measure, names in MEASURED.items() for name in names}
"""Quantity or family of an active measurement -> the phase in which it is recorded."""
NOISY, NOISY_RISE = "noisy_loss", "noisy_loss_rise"
KLS: Final = ("ensemble_kl_geometric", "ensemble_kl_arithmetic")
BIAS, CORRECTED = "_bias", "_corrected"
NO_BIAS: Final = "the run does not say how much of it comes of the number of masks"
CURVATURE: Final = ("hessian_eigenvalue", "hessian_trace", "relative_flatness", "sam_sharpness")
BY_GAAF: Final = "GAAF changes gradients and not values, so that curvature does not compare"
NO_MASK: Final = "it recorded no dropout with a rate above 0, so that there is nothing to average over"
DIRECTION: Final = ("gradient_direction_variance", "gradient_direction_error")
SERIES: Final = [*COLUMNS, "step"]


def usual_phase(quantity: str) -> str | None:
    """Return the phase in which a quantity of an active measurement is recorded; None for others."""
    return PHASES.get(base_and_x(quantity)[0])


def network_measured(
    scalars: pd.DataFrame, quantities: Mapping[str, Quantity], runs: Runs, problems: Problems
) -> Iterator[pd.DataFrame | None]:
    """Take the last value in each run of what was measured on the network as a whole.

    Parameters
    ----------
    scalars : DataFrame
        As `dropdiag.analysis.compare.reading.read_scalars` returns it.
    quantities : mapping of str to Quantity
        Those of the runs.
    runs : Runs
    problems : list of str
        What could not be taken is added.

    Yields
    ------
    DataFrame or None
        Rows of one measure, in the order of `MEASURED`, then of the families' parameters.
    """
    frame = _of_network(scalars, runs.conditions)
    for name in _names(frame["quantity"].unique().tolist()):
        known = quantity_of(name, quantities)
        if known is not None and known.scale != UNCOMPARED:
            yield asked(problems, partial(_last, frame, name, quantities))
    for x in sorted(_parameters(frame, NOISY) - {0.0}):
        yield asked(problems, partial(_rise, frame, x))
    for name in KLS:
        if (frame["quantity"] == name).any():
            yield asked(problems, partial(_corrected, frame, name))


def directions(scalars: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Return the measured directions of the gradient at every step, with masks as the run is trained with them.

    Parameters
    ----------
    scalars, runs
        As in `network_measured`.

    Returns
    -------
    DataFrame
        Columns of what was measured, and step: `DIRECTION` with masks on; of a run that recorded no dropout with a rate
        above 0, with masks off, since it has none.
    """
    frame = _of_network(scalars, runs.conditions)
    without = {label for label, run in zip(runs.labels(), runs, strict=True) if _never_drops(run.meta)}
    found = []
    for name in DIRECTION:
        for masks in ("on", "off"):
            quantity = f"{name}_masks_{masks}"
            own = frame[(frame["quantity"] == quantity) & (frame["phase"] == PHASES[quantity])]
            own = own[own["run"].isin(without) == (masks == "off")]
            if len(own):
                taken = rows(own, measure_of(quantity)).assign(measure=name)
                found.append(taken.assign(step=own["step"].to_numpy()))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=SERIES)


def without_subject(values: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Take away what was measured of runs that have no such thing, with the reason as the note.

    Parameters
    ----------
    values : DataFrame
        Rows of what was measured.
    runs : Runs
    """
    bases = values["quantity"].map(lambda name: base_and_x(str(name))[0])
    labels = list(zip(runs.labels(), runs, strict=True))
    for names, reason, lacks in ((CURVATURE, BY_GAAF, has_gaaf), (KLS, NO_MASK, _never_drops)):
        if bases.isin(names).any():
            lost = bases.isin(names) & values["run"].isin([label for label, run in labels if lacks(run.meta)])
            values = values.assign(value=values["value"].mask(lost), note=values["note"].mask(lost, reason))
    return values


def with_reasons(values: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Note of each value that is missing the reason that its run has, if it has one and nothing is noted yet.

    Parameters
    ----------
    values : DataFrame
        Rows of what was measured.
    runs : Runs
    """
    told: dict[tuple[str, ...], dict[str, None]] = {}  # a number may be missing for one reason, and later for another
    for label, run in zip(runs.labels(), runs, strict=True):
        for one in run.meta.get("missing") or ():
            for quantity, layer in one["of"]:
                told.setdefault((label, quantity, layer or ""), {})[str(one["why"])] = None
    lost = values["value"].isna() & (values["note"] == "")
    if not told or not lost.any():
        return values
    sites = zip(*(values.loc[lost, name] for name in ("run", "quantity", "layer")), strict=True)
    notes = values["note"].astype("object").copy()
    notes[lost] = ["; ".join(told.get((run, quantity, layer if isinstance(layer, str) else ""), ()))
                   for run, quantity, layer in sites]  # fmt: skip
    return values.assign(note=notes)


def has_gaaf(meta: Mapping[str, Any]) -> bool:
    """Whether an activation of a run is GAAF; ``meta`` is of its ``run.json``."""
    return any("GAAF" in str(row.get("type")) for row in meta.get("layers") or ())


def _of_network(scalars: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Rows of active measurements on the network as a whole, condition by condition."""
    frame = scalars[scalars["layer"].isna()]
    wanted = [name for name in frame["quantity"].unique() if usual_phase(str(name)) is not None]
    frame = frame[frame["quantity"].isin(wanted)].assign(layer=None, call=0)
    place = frame["condition"].map({name: i for i, name in enumerate(conditions)})
    ordered: pd.DataFrame = frame.loc[place.sort_values(kind="stable").index]
    return ordered


def _names(recorded: Sequence[Any]) -> list[str]:
    order = list(PHASES)

    def key(name: str) -> tuple[int, float]:
        base, x = base_and_x(name)
        return order.index(base), -1.0 if x is None else x

    return sorted(map(str, recorded), key=key)


def _parameters(frame: pd.DataFrame, base: str) -> set[float]:
    """Return at which values of its parameter a family was measured."""
    found = (base_and_x(str(name)) for name in frame["quantity"].unique())
    return {x for name, x in found if name == base and x is not None}


def _last(frame: pd.DataFrame, name: str, quantities: Mapping[str, Quantity]) -> pd.DataFrame:
    return rows(_in_its_phase(frame, name).groupby("run", sort=False).tail(1), measure_of(name, quantities))


def _rise(frame: pd.DataFrame, x: float) -> pd.DataFrame:
    """How much greater the loss of each run is under noise than on clean inputs, at its last measurement."""
    noisy, clean = (_in_its_phase(frame, at(NOISY, one)) for one in (x, 0.0))
    both = noisy.merge(clean[["run", "step", "value"]], on=["run", "step"], suffixes=("", "_clean"))
    last = both.groupby("run", sort=False).tail(1)
    return rows(last.assign(value=last["value"] - last["value_clean"]), measure_of(at(NOISY_RISE, x)))


def _corrected(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a divergence of each run less what the number of masks adds to it."""
    whole, bias = (_in_its_phase(frame, one) for one in (name, f"{name}{BIAS}"))
    last = whole.groupby("run", sort=False).tail(1)
    both = last.merge(bias[["run", "step", "value"]], on=["run", "step"], how="left", suffixes=("", "_bias"))
    notes = np.where(both["value"].notna() & both["value_bias"].isna(), NO_BIAS, "")
    return rows(both.assign(value=both["value"] - both["value_bias"], note=notes), measure_of(f"{name}{CORRECTED}"))


def _in_its_phase(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one quantity in the phase of its measurement, or in the one that all have in its place."""
    own = frame[frame["quantity"] == name]
    phase = usual_phase(name)
    return own if own.empty else rows_of_one_phase(own, name, phase if (own["phase"] == phase).any() else None)


def _never_drops(meta: Mapping[str, Any]) -> bool:
    return drops(meta) is False
