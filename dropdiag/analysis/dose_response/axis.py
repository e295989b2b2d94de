"""The dose of each run: a number of its config, or that in its condition's name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from dropdiag.analysis.baseline import is_rate, number_in
from dropdiag.analysis.seeds import Floats
from dropdiag.errors import AxisError
from dropdiag.formatting import some
from dropdiag.store.reader import Run, Runs

LEAST: Final = 2
"""Doses that an axis has at least."""
SPAN: Final = 100.0
"""Factor between doses beyond which it is their orders of magnitude that count, as of learning rates."""


class Blocks(NamedTuple):
    """Values as a table: a row a seed, a column a dose.

    Attributes
    ----------
    table : ndarray of float64, shape (seeds, doses)
        NaN where a seed has no run at a dose, or the run no value.
    seeds : tuple of int
    missing : mapping of int to tuple of float
        Seed -> the doses at which it has no finite value.

    Examples
    --------
    >>> axis = dd.analysis.dose_response.axis_of(rates, "rate")
    >>> blocks = axis.blocks(dict.fromkeys(axis.values, 1.0))
    >>> blocks.seeds, dict(blocks.missing)
    ((0, 1, 2), {})
    """

    table: Floats
    seeds: tuple[int, ...]
    missing: Mapping[int, tuple[float, ...]]


@dataclass(frozen=True)
class Axis:
    """What runs differ by, as a number.

    Attributes
    ----------
    name : str
        Of the dose, as it was asked for.
    values : mapping of str to float
        Label of a run (`Runs.labels`) -> its dose.
    seeds : mapping of str to int
        Label of a run -> its seed.
    left_out : mapping of str to str
        Label of a run -> why it has no place on the axis.
    doses : tuple of float
        Those there are, ascending.

    Examples
    --------
    >>> axis = dd.analysis.dose_response.axis_of(rates, "rate")
    >>> axis.name, axis.doses
    ('rate', (0.0, 0.2, 0.5))
    """

    name: str
    values: Mapping[str, float]
    seeds: Mapping[str, int]
    left_out: Mapping[str, str]
    doses: tuple[float, ...]

    def blocks(self, values: Mapping[str, float]) -> Blocks:
        """Arrange one value a run by seed and dose.

        Parameters
        ----------
        values : mapping of str to float
            Label of a run -> its value; a run may be missing.

        Examples
        --------
        >>> axis = dd.analysis.dose_response.axis_of(rates, "rate")
        >>> axis.blocks(dict.fromkeys(axis.values, 1.0)).table.shape
        (3, 3)
        """
        seeds = self.ordered_seeds
        table = np.full((len(seeds), len(self.doses)), np.nan)
        for label, dose in self.values.items():
            place = seeds.index(self.seeds[label]), self.doses.index(dose)
            table[place] = values.get(label, np.nan)
        gaps = {seed: tuple(dose for dose, known in zip(self.doses, row, strict=True) if not known)
                for seed, row in zip(seeds, np.isfinite(table), strict=True)}  # fmt: skip
        return Blocks(table, seeds, {seed: doses for seed, doses in gaps.items() if doses})

    @property
    def ordered_seeds(self) -> tuple[int, ...]:
        """Seeds of the runs on the axis, ascending: the rows of `blocks`.

        Examples
        --------
        >>> dd.analysis.dose_response.axis_of(rates, "rate").ordered_seeds
        (0, 1, 2)
        """
        return tuple(sorted(set(self.seeds.values())))

    @property
    def log(self) -> bool:
        """Whether the doses are taken by their logarithms: all are above 0, the greatest over 100 times the least.

        Examples
        --------
        >>> dd.analysis.dose_response.axis_of(rates, "rate").log
        False
        """
        return self.doses[0] > 0.0 and self.doses[-1] > SPAN * self.doses[0]

    @property
    def places(self) -> Floats:
        """Where the doses stand for a slope: at themselves, or at their logarithms to base 10."""
        doses = np.array(self.doses)
        return np.asarray(np.log10(doses) if self.log else doses)

    @property
    def unit(self) -> str:
        """What a slope is taken over: "1 rate", or "10-fold lr" of logarithms.

        Examples
        --------
        >>> dd.analysis.dose_response.axis_of(rates, "rate").unit
        '1 rate'
        """
        return f"10-fold {self.name}" if self.log else f"1 {self.name}"

    def having(self, dose: float) -> list[str]:
        """Return the labels of the runs of a dose.

        Examples
        --------
        >>> dd.analysis.dose_response.axis_of(rates, "rate").having(0.5)
        ['rate-0.5-s0', 'rate-0.5-s1', 'rate-0.5-s2']
        """
        return [label for label, own in self.values.items() if own == dose]

    def shown(self, dose: float) -> str:
        """Write a dose with its name: "rate=0.3".

        Examples
        --------
        >>> dd.analysis.dose_response.axis_of(rates, "rate").shown(0.5)
        'rate=0.5'
        """
        return f"{self.name}={dose:.12g}"


def axis_of(runs: Runs, x: str = "rate") -> Axis:
    """Find the dose of each run.

    Parameters
    ----------
    runs : Runs
    x : str
        Key of the runs' config whose value is the dose. Where no run has it, the numbers in the conditions' names are
        taken: a name that is a number ("0.1", "10 %") or one behind this key ("rate=0.1"); where ``x`` speaks of a
        dropout rate, so may the key in the name ("p=0.1").

    Returns
    -------
    Axis
        Runs without a number, or without a seed, are named in ``left_out``.

    Raises
    ------
    AxisError
        If fewer than two doses are found, or two runs have the same dose and seed: they differ by something else.

    Examples
    --------
    >>> dd.analysis.dose_response.axis_of(rates, "rate").doses
    (0.0, 0.2, 0.5)
    """
    labels = runs.labels()
    known = any(x in run.meta["config"] for run in runs)
    values: dict[str, float] = {}
    seeds: dict[str, int] = {}
    left: dict[str, str] = {}
    for label, run in zip(labels, runs, strict=True):
        dose = _in_config(run, x) if known else _in_name(run.condition, x)
        if isinstance(dose, str):
            left[label] = dose
        elif run.seed is None:
            left[label] = "no seed in its config, so that it belongs to no block"
        else:
            values[label], seeds[label] = dose, run.seed
    doses = tuple(sorted(set(values.values())))
    if len(doses) < LEAST:
        raise AxisError(_too_few(x, doses, left, known=known))
    _refuse_repeats(x, values, seeds, dict(zip(labels, runs, strict=True)))
    return Axis(x, values, seeds, left, doses)


def _in_config(run: Run, x: str) -> float | str:
    """Return a run's dose, or why it has none."""
    if x not in run.meta["config"]:
        return f"no {x!r} in its config"
    value: Any = run.meta["config"][x]
    named = number_in(value) if isinstance(value, str) else None
    number = None if named is None or named[0] else named[1]
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if number is None or not math.isfinite(number):
        return f"{x!r} is {value!r}, no finite number"
    return number


def _in_name(condition: str, x: str) -> float | str:
    found = number_in(condition)
    if found is None:
        return f"no {x!r} in its config, and its condition {condition!r} is no number"
    key, number = found
    if key and key != x.lower() and not (is_rate(key) and is_rate(x)):
        return f"no {x!r} in its config, and its condition {condition!r} is a number of {key!r}"
    return number


def _too_few(x: str, doses: tuple[float, ...], left: Mapping[str, str], *, known: bool) -> str:
    have = f"there is {doses[0]:g} alone" if doses else "no run has one"
    why = some([f"{some(names, 1)}: {reason}" for reason, names in _by_reason(left).items()])
    ask = "" if known else f", or give the config key that holds it: x={x!r} is in no run's config"
    told = f" Left out are {why}." if why else ""
    return f"a response to {x!r} needs {LEAST} doses or more, and {have}; load runs of several doses{ask}.{told}"


def _by_reason(left: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for label, reason in left.items():
        found.setdefault(reason, []).append(label)
    return found


def _refuse_repeats(x: str, values: Mapping[str, float], seeds: Mapping[str, int], runs: Mapping[str, Run]) -> None:
    """Refuse several runs of one dose and seed: what they differ by would be taken for chance."""
    places = {label: (dose, seeds[label]) for label, dose in values.items()}
    times = Counter(places.values())
    (dose, seed), most = times.most_common(1)[0]
    if most == 1:
        return
    same = [label for label, place in places.items() if place == (dose, seed)]
    conditions = list(dict.fromkeys(runs[label].condition for label in same))
    raise AxisError(
        f"{some(same)} all have {x}={dose:g} and seed {seed} (conditions {', '.join(map(repr, conditions))}): a seed "
        f"has one run at each dose; keep the runs of one setting of whatever else differs, as in "
        f"dropdiag.Runs([run for run in runs if run.meta['config']['lr'] == 0.01])"
    )
