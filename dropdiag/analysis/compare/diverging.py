"""Which runs have diverged: their numbers are NaN or infinite, and what could be measured from them says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dropdiag.analysis.compare.step_ranges import NOT_FINITE
from dropdiag.store.reader import Runs


def diverged(runs: Runs, values: pd.DataFrame, broken: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the runs that have diverged.

    Parameters
    ----------
    runs : Runs
    values : DataFrame
        As `dropdiag.analysis.compare.measures.gather` returns it; a note says what is not finite.
    broken : mapping of str to sequence of str
        What is not finite -> labels of runs, beside what the notes say.

    Returns
    -------
    list of str
        A sentence for each, with the path of the run.
    """
    found: dict[str, list[str]] = {}
    lost = values[values["note"].str.endswith(NOT_FINITE)] if len(values) else values
    for measure, run in zip(lost["measure"], lost["run"], strict=True):
        found.setdefault(run, []).append(_called(measure))
    for what, labels in broken.items():
        for run in labels:
            found.setdefault(run, []).append(what)
    paths = dict(zip(runs.labels(), (run.path for run in runs), strict=True))
    return [
        f"{path} has diverged: its {_listed(list(dict.fromkeys(found[label])))} are NaN or infinite, and it is left "
        "out of what is measured from them."
        for label, path in paths.items() if label in found
    ]  # fmt: skip


def _called(measure: str) -> str:
    """Say what a measure is taken from."""
    scalar = measure.partition(":")[2]
    if scalar:
        return f"last values of {scalar!r}"
    kinds = {"gradient_flow": "gradients", "saturation_share": "net values"}
    return kinds.get(measure, "weights")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
