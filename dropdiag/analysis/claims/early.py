"""What was measured early in training: one number a run, over the same steps of all runs."""

from __future__ import annotations

import numpy as np

from dropdiag.analysis.claims.effects import ClaimEffect, PairEffects
from dropdiag.analysis.compare.table import told
from dropdiag.analysis.measured_steps import common_steps
from dropdiag.formatting import some


def early(effects: PairEffects, name: str, share: float) -> ClaimEffect | str:
    """Return the effect on the mean of a series over the first part of training.

    Parameters
    ----------
    effects : PairEffects
    name : str
        Measure of `Measurements.series`.
    share : float
        Of the training steps that both conditions have. Step 0 does not count: nothing is trained there yet, and two
        networks of one seed have the same weights.

    Returns
    -------
    ClaimEffect or str
        Over the steps at which most runs of both sides were measured; a text says why there is none.
    """
    called = f"{name.replace('_', ' ')} early in training"
    rows = effects.measurements.series
    rows = rows[(rows["measure"] == name) & rows["run"].isin(effects.pairing.runs)]
    if not {effects.condition, effects.baseline} <= set(rows["condition"]):
        return f"{called} was not recorded on both sides"
    last = share * float(effects.step_range.steps or rows["step"].max())
    rows = rows[(rows["step"] > 0) & (rows["step"] <= last)]
    both = {effects.condition, effects.baseline} <= set(rows["condition"])
    steps = common_steps(rows) if both else []
    if not steps:
        return f"{called} was not measured at the same steps of both sides, between step 1 and {last:,.0f}"
    rows = rows[rows["step"].isin(steps)]
    table = rows.pivot_table(index="run", columns="step", values="value", aggfunc="last").reindex(columns=steps)
    values = dict(zip(map(str, table.index), table.to_numpy(np.float64).mean(axis=1).tolist(), strict=True))
    lacking = [run for run, value in values.items() if not np.isfinite(value)]
    at = "step" if len(steps) == 1 else "steps"
    note = [f"measured at {at} {some([f'{one:,}' for one in steps], 6)}",
            f"{some(lacking)} left out, for a step is missing there" if lacking else ""]  # fmt: skip
    found = effects.of_values(name, values, ", ".join(filter(None, note)))
    why = told(dict(zip(rows["run"].map(str), rows["note"].map(str), strict=True)))
    return found or f"{called} has no finite value on one side" + (f" ({why})" if why else "")
