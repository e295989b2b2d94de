"""Interventions in the dropouts of a built model: each is undone by what it returns, and kept in a run's ``run.json``.

`list`
    The dropouts of a model: name, rate, grain, whether the rate can be set and if not, why.
`set`, `off`
    Set rates by patterns of names; switch dropouts off.
`schedule`
    Change rates as training goes on: early, late, linear, stepped.
`insert`
    Put a dropout behind a module where there is none.
`Dropouts`, `DropoutSite`
    What `list` returns, and its rows.
`Intervention`, `RateChange`, `Schedule`, `Insertion`
    What the others return.
"""

from dropdiag.interventions.changes import Insertion, RateChange, insert, off
from dropdiag.interventions.changes import set_rates as set  # noqa: A004 - always used as interventions.set
from dropdiag.interventions.registry import Intervention
from dropdiag.interventions.schedules import Schedule, schedule
from dropdiag.interventions.sites import Dropouts, DropoutSite
from dropdiag.interventions.sites import list_dropouts as list  # noqa: A004 - always used as interventions.list

__all__ = [
    "DropoutSite", "Dropouts", "Insertion", "Intervention", "RateChange", "Schedule", "insert", "list", "off",
    "schedule", "set",
]  # fmt: skip
