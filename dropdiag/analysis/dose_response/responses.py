"""What runs of several doses measured, one number a run and site: the measures of a comparison, on an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.compare.lenient import opened
from dropdiag.analysis.compare.measurements import CompareSettings, Measurements
from dropdiag.analysis.compare.measures import Measure
from dropdiag.analysis.compare.step_ranges import StepRange, within
from dropdiag.analysis.compare.table import told
from dropdiag.analysis.dose_response.axis import Axis, axis_of
from dropdiag.analysis.dose_response.held_out import HeldOut, final, scalar_phases
from dropdiag.analysis.measuring import measure_runs
from dropdiag.analysis.seeds import Floats
from dropdiag.errors import NotRecordedError
from dropdiag.formatting import some
from dropdiag.store.asked import did_you_mean
from dropdiag.store.reader import Runs
from dropdiag.store.schema import DIFFERENCE, LOG_RATIO

SCALES: Final = (DIFFERENCE, LOG_RATIO)
FINAL: Final = "final:"
OTHERS: Final = ("best:", "epochs_to_best:")
"""Measures of a scalar that its name alone does not mean."""


class Response(NamedTuple):
    """One measure at one site, by seed and dose.

    Attributes
    ----------
    measure : Measure
    layer : str or None
        None for the network as a whole.
    call : int
    values : ndarray of float64, shape (seeds, doses)
        As measured; NaN where there is none. Doses at which no seed has a value are left out.
    seeds : tuple of int
    doses : tuple of float
    places : ndarray of float64, shape (doses,)
        Where the doses stand for a slope: see `Axis.places`.
    note : str
        What is missing, and why.
    """

    measure: Measure
    layer: str | None
    call: int
    values: Floats
    seeds: tuple[int, ...]
    doses: tuple[float, ...]
    places: Floats
    note: str

    @property
    def scaled(self) -> Floats:
        """The values on the measure's scale: logarithms of a measure that is compared by ratios."""
        if not self.measure.logs:
            return self.values
        return np.log(self.values, where=self.values > 0.0, out=np.full(self.values.shape, np.nan))


@dataclass(frozen=True, eq=False)
class Responses:
    """What was measured of runs on an axis.

    Attributes
    ----------
    axis : Axis
    measurements : Measurements
        Of the runs on the axis, each dose a condition.
    problems : tuple of str
        What could not be read or compared, a sentence each.

    Examples
    --------
    >>> dd.analysis.dose_response.responses(rates, "rate").problems
    ()
    """

    axis: Axis
    measurements: Measurements
    problems: tuple[str, ...] = ()

    def each(self, quantities: Sequence[str] | None = None) -> Iterator[Response]:
        """Yield each measure at each site, in network order by measure.

        Parameters
        ----------
        quantities : sequence of str, optional
            Names of measures, of the quantities they are taken from ("accuracy" is the final one), or None for all.

        Raises
        ------
        NotRecordedError
            For a name that nothing was measured of.

        Examples
        --------
        >>> found = dd.analysis.dose_response.responses(rates, "rate")
        >>> sorted({one.layer for one in found.each(["net_grad_abs_mean"])})
        ['act1', 'act2']
        """
        measures, scalars = self._chosen(quantities)
        rows = self._rows
        for measure in map(self.measurements.measure, measures):
            if measure.scale in SCALES:
                found = _by_site(rows[rows["measure"] == measure.name])
                for layer, call in sorted(found, key=lambda site: self.measurements.key(*site)):
                    yield self._response(measure, layer, call, found[layer, call])
        yield from map(self.of_scalar, scalars)

    def of_scalar(self, one: HeldOut) -> Response:
        """Return the final values of a scalar of the network in one held-out phase.

        Examples
        --------
        >>> choice = dd.analysis.dose_response.choice(rates, "rate", "accuracy")
        >>> found = dd.analysis.dose_response.responses(rates, "rate")
        >>> found.of_scalar(choice.reported_on).values.shape
        (3, 3)
        """
        values = final(self.measurements.runs, one)
        rows = pd.DataFrame({"run": [*values], "value": [*values.values()], "note": ""})
        found = self._response(self.measurements.measure(f"final:{one.scalar}"), None, 0, rows)
        return found._replace(note="; ".join(filter(None, [f"in phase {one.phase!r}", found.note])))

    @property
    def _rows(self) -> pd.DataFrame:
        """Rows of the runs on the axis: of the gradient flow those over the steps that all completed runs share."""
        ranges = self.measurements.step_ranges.values()
        shortest = min((one.until for one in ranges if one.until is not None), default=None)
        rows = within(self.measurements.measured, StepRange(shortest, shortest))
        kept = rows["layer"].isna() | rows["layer"].isin(self.measurements.layers)
        return rows[kept & rows["run"].isin(self.axis.seeds)]

    def _chosen(self, quantities: Sequence[str] | None) -> tuple[list[str], list[HeldOut]]:
        """Return the measures asked for, and the scalars of several held-out phases, of which there is no measure."""
        frame = self.measurements.measured
        measured = dict(zip(frame["measure"], frame["quantity"], strict=True))
        scalars = [HeldOut(name, phase) for name, phases in scalar_phases(self.measurements.runs).items()
                   for phase in phases if f"{FINAL}{name}" not in measured and len(phases) > 1]  # fmt: skip
        if quantities is None:
            return [*measured], scalars
        found, held = list[str](), list[HeldOut]()
        for name in [quantities] if isinstance(quantities, str) else quantities:
            of_quantity = [one for one, of in measured.items() if of == name and not one.startswith(OTHERS)]
            mine = [name] if name in measured else of_quantity
            theirs = [one for one in scalars if name in (one.scalar, f"{FINAL}{one.scalar}")]
            if not mine and not theirs:
                names = [*measured, *(one.scalar for one in scalars)]
                meant = did_you_mean(name, names)
                raise NotRecordedError(f"nothing was measured of {name!r}{meant} there are {some(names, 12)}")
            found, held = found + mine, held + theirs
        return list(dict.fromkeys(found)), list(dict.fromkeys(held))

    def _response(self, measure: Measure, layer: str | None, call: int, rows: pd.DataFrame) -> Response:
        runs = rows["run"].map(str)
        blocks = self.axis.blocks(dict(zip(runs, rows["value"].astype(float), strict=True)))
        usable = np.isfinite(blocks.table) & ((blocks.table > 0.0) | (not measure.logs))
        held = np.asarray(usable.any(axis=0))
        # a dose without any value, as the logarithm of a net variance of 0 has none, would leave out all seeds
        table, doses = np.where(usable, blocks.table, np.nan)[:, held], np.array(self.axis.doses)[held]
        need = f"no {'positive ' if measure.logs else ''}finite value"
        why = told(dict(zip(runs, rows["note"].map(str), strict=True))) if not usable.all() else ""
        said = [_without(self.axis, held, need), _gaps(table, doses, blocks.seeds, need), why]
        return Response(
            measure, layer, call, table, blocks.seeds, tuple(doses.tolist()), self.axis.places[held],
            "; ".join(filter(None, said)),
        )  # fmt: skip


def _by_site(rows: pd.DataFrame) -> dict[tuple[str | None, int], pd.DataFrame]:
    """Split rows by layer (None: the network's) and call."""
    parts: Any = rows.groupby(["layer", "call"], sort=False, dropna=False)
    return {((layer if isinstance(layer, str) else None), int(call)): part for (layer, call), part in parts}


def _without(axis: Axis, held: NDArray[np.bool_], need: str) -> str:
    left = [axis.shown(dose) for dose, has in zip(axis.doses, held, strict=True) if not has]
    return f"without {', '.join(left)}: {need} there" if left else ""


def _gaps(table: Floats, doses: Floats, seeds: Sequence[int], need: str) -> str:
    """Name the seeds that lack a value at a dose."""
    found = [f"{seed} (at {some([f'{dose:g}' for dose in doses[~row]])})"
             for seed, row in zip(seeds, np.isfinite(table), strict=True) if not row.all()]  # fmt: skip
    return f"{'seed' if len(found) == 1 else 'seeds'} {some(found)} left out: {need}" if found else ""


def responses(runs: Runs, x: str = "rate", *, layers: Sequence[str] | None = None, alpha: float = 0.05) -> Responses:
    """Measure runs of several doses.

    Parameters
    ----------
    runs : Runs, or what `load` takes
    x : str
        As in `axis_of`.
    layers : sequence of str, optional
        As the runs of the lowest dose call them; all by default.
    alpha : float
        Intervals cover 1 - alpha.

    Returns
    -------
    Responses

    Raises
    ------
    ArgumentError
        As `axis_of`, and for an unknown layer.

    Examples
    --------
    >>> found = dd.analysis.dose_response.responses(rates, "rate")
    >>> found.axis.doses
    (0.0, 0.2, 0.5)
    """
    every, problems = opened(runs)
    axis = axis_of(every, x)
    problems += [f"{label} has no place on the axis of {x!r}: {why}." for label, why in axis.left_out.items()]
    # each dose is a condition, whatever the runs' own are called
    named = {label: axis.shown(dose) for dose in axis.doses for label in axis.having(dose)}
    placed = [run.under(named[label]) for label, run in zip(every.labels(), every, strict=True) if label in named]
    found = measure_runs(Runs(placed), axis.shown(axis.doses[0]), problems, CompareSettings(alpha), layers=layers)
    # runs that are copies are left out by now, and a label depends on the runs beside it
    left = replace(axis_of(found.measurements.runs, x), left_out=axis.left_out)
    return Responses(left, found.measurements, tuple(problems))
