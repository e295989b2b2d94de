"""One phase for all runs of a question.

Held-out values of one condition say nothing beside training values of another.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from dropdiag.errors import DropdiagWarning, NotRecordedError
from dropdiag.store.asked import did_you_mean
from dropdiag.store.phases import default_phase


def rows_of_one_phase(frame: pd.DataFrame, quantity: str, phase: str | None = None) -> pd.DataFrame:
    """Rows of scalars in one phase, the same for all runs.

    Parameters
    ----------
    frame : DataFrame
        Not empty, with columns run and phase. Runs without any row are not missed.
    quantity : str
    phase : str, optional
        None is the one that `common` picks.

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `common`.

    Warns
    -----
    DropdiagWarning
        If runs are left out.
    """
    held = held_phases([frame])
    phase = common(held, quantity, phase)
    keep(held, quantity, phase)
    rows: pd.DataFrame = frame[frame["phase"] == phase]
    return rows


def held_phases(frames: Iterable[pd.DataFrame]) -> dict[str, list[str]]:
    """Return the phases of each run's rows, for `common` and `keep`; all rows of a run are in one frame.

    Examples
    --------
    >>> rows = dd.analysis.select.scalars(runs, "accuracy")
    >>> dd.analysis.phases.held_phases([rows])["base-s0"]
    ['eval']
    """
    return {
        str(run): phases.unique().tolist()
        for frame in frames
        for run, phases in frame.groupby("run", sort=False, observed=True)["phase"]
    }


def common(held: Mapping[str, Collection[str]], quantity: str, phase: str | None = None) -> str:
    """Phase in which runs are compared.

    Parameters
    ----------
    held : mapping of str to collection of str
        Run -> phases in which it holds the quantity.
    quantity : str
    phase : str, optional
        Taken as it is.

    Returns
    -------
    str
        ``"eval"`` if any run has it, else the only held-out phase there is, else (where no run has one)
        ``"train"``.

    Raises
    ------
    ArgumentError
        If there are several held-out phases, none of them ``"eval"``.
    NotRecordedError
        If no run holds the quantity, or none does in the phase asked for.

    Examples
    --------
    >>> dd.analysis.phases.common({"base-s0": ["train", "eval"], "drop-s0": ["eval"]}, "net_value")
    'eval'
    """
    every = list(dict.fromkeys(name for phases in held.values() for name in phases))
    if not every:
        raise NotRecordedError(f"no run holds {quantity!r}; record it with a probe (or step/log) that writes it")
    if phase is not None:
        if phase not in every:
            meant = did_you_mean(phase, every)
            raise NotRecordedError(f"no run holds {quantity!r} in phase {phase!r}{meant} recorded are {listed(every)}")
        return phase
    return default_phase(every, quantity)


def keep(held: Mapping[str, Collection[str]], quantity: str, phase: str) -> list[str]:
    """Return the runs that hold the quantity in the phase, and warn of those that do not."""
    lacking = [run for run, phases in held.items() if phase not in phases]
    if lacking:
        warnings.warn(
            f"left out, for they hold no {quantity!r} in phase {phase!r}: {listed(lacking)}; "
            "choose a phase that all runs have with phase=",
            DropdiagWarning,
            stacklevel=2,
        )
    return [run for run in held if run not in lacking]


def listed(names: Iterable[str]) -> str:
    """Return names as a message has them."""
    return ", ".join(repr(name) for name in names) or "none"
