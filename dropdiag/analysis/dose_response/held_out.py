"""Which held-out data a choice is made on, and on which other data it is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from dropdiag.analysis.compare.measures import VALIDATION, is_validation
from dropdiag.analysis.learning import best_per_run
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.phases import default_phase
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN

TEST: Final = "test"


class HeldOut(NamedTuple):
    """A scalar of held-out data: its name, and the phase in which it was recorded."""

    scalar: str
    phase: str

    def __str__(self) -> str:
        return f"{self.scalar} ({self.phase})"


def held_out(
    runs: Runs, scalar: str, chosen_on: str | None = None, reported_on: str | None = None
) -> tuple[HeldOut, HeldOut]:
    """Return what is chosen on, and what is reported on; see `dropdiag.analysis.dose_response.choice.choice`.

    Raises
    ------
    ArgumentError
        If it is not clear which phase is meant, or one that is named does not hold the scalar.
    NotRecordedError
        If the scalar was not recorded of held-out data.
    """
    phases = scalar_phases(runs)
    known = phases.get(scalar, [])
    if not known:
        names = ", ".join(map(repr, phases)) or "none"
        raise NotRecordedError(f"no run holds {scalar!r} of held-out data; scalars of the network that are: {names}")
    choose = HeldOut(scalar, chosen_on) if chosen_on else _validation(phases, scalar)
    report = HeldOut(scalar, reported_on or (TEST if TEST in known else choose.phase))
    for one in (choose, report):
        if one.phase not in phases[one.scalar]:
            held = ", ".join(map(repr, phases[one.scalar]))
            raise ArgumentError(f"no run holds {one.scalar!r} in phase {one.phase!r}; recorded are {held}")
    return choose, report


def final(runs: Runs, one: HeldOut) -> dict[str, float]:
    """Return the last value of each run that holds it, by label; NaN where that is not finite."""
    found = best_per_run(runs, one.scalar, phase=one.phase)
    values = found["final"].astype("float64").where(np.isfinite)
    return dict(zip(found["run"].map(str), values.tolist(), strict=True))


def scalar_phases(runs: Runs) -> dict[str, list[str]]:
    """Return the held-out phases of each scalar of the network."""
    found: dict[str, list[str]] = {}
    for batch in runs.batches(layer=[None]):
        pairs = batch[["quantity", "phase"]].drop_duplicates().astype(str)
        for name, phase in pairs.itertuples(index=False):
            if phase != TRAIN and phase not in found.setdefault(name, []):
                found[name].append(phase)
    return {name: phases for name, phases in found.items() if phases}


def _validation(phases: Mapping[str, Sequence[str]], scalar: str) -> HeldOut:
    known = phases[scalar]
    named = next((phase for phase in VALIDATION if phase in known), None)
    if named is not None:
        return HeldOut(scalar, named)
    phase = default_phase([one for one in known if one != TEST] or known, scalar)
    beside = [name for name in phases if is_validation(name) and name.lower().endswith(scalar.lower())]
    if len(beside) == 1 and phase in phases[beside[0]] and beside[0] != scalar:
        return HeldOut(beside[0], phase)
    return HeldOut(scalar, phase)
