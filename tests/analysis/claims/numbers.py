"""Measurements from plain numbers: what claims make of them, without run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from benchmarks.verdicts import _Runs
from dropdiag.analysis.compare.measurements import SERIES, CompareSettings, Measurements
from dropdiag.analysis.compare.step_ranges import StepRange
from dropdiag.analysis.compare.values import COLUMNS
from dropdiag.store.order import Places
from dropdiag.store.reader import Runs

Told = Mapping[str, Mapping[int, Mapping[str, float | Sequence[float]]]]


Series = Mapping[str, Mapping[int, Mapping[str, Mapping[int, float]]]]


def measured(
    told: Told, layers: Sequence[str] = ("l1", "l2", "l3"), *, notes: Mapping[tuple[str, str], str] | None = None,
    series: Series | None = None, steps: int = 100, nulls: Mapping[str, float] | None = None,
) -> Measurements:  # fmt: skip
    """Take condition -> seed -> measure -> a value a layer (NaN: it is missing), or one of the network.

    ``notes`` are of a condition and measure, whose values are then missing; ``series`` is condition -> seed -> measure ->
    step -> value, ``steps`` the length of training; ``nulls`` measure -> what chance gives.
    """
    rows: list[tuple[Any, ...]] = []
    runs = [(condition, seed) for condition, seeds in told.items() for seed in seeds]
    for condition, seed in runs:
        for (who, measure), note in (notes or {}).items():
            if who == condition:
                rows.append((condition, seed, f"{condition}-{seed}", None, 0, measure, measure, np.nan, np.nan, np.nan,
                             np.nan, note))  # fmt: skip
        for measure, values in told[condition][seed].items():
            for place, value in enumerate(np.atleast_1d(values)):
                if np.isfinite(value):
                    layer = None if np.ndim(values) == 0 else layers[place]
                    rows.append((condition, seed, f"{condition}-{seed}", layer, 0, measure, measure, float(value),
                                 (nulls or {}).get(measure, np.nan), 1000.0 if "correlation" in measure else np.nan, np.nan, ""))  # fmt: skip
    sites = [(name, 0) for name in layers]
    known = [SimpleNamespace(condition=c, seed=s, order={site: i for i, site in enumerate(sites)}, meta={"config": {}})
             for c, s in runs]  # fmt: skip
    ranges = {frozenset((a, b)): StepRange(None, steps) for a in told for b in told if a != b}
    return Measurements(
        cast(Runs, _Runs(known, [f"{c}-{s}" for c, s in runs])), tuple(told), tuple(layers),
        pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(), ranges, CompareSettings(),
        places=Places(tuple((site,) for site in sites)), series=_series(series or {}),
    )  # fmt: skip


def _series(told: Series) -> pd.DataFrame:
    rows = [
        (condition, f"{condition}-{seed}", measure, value, "", step)
        for condition, seeds in told.items()
        for seed, measures in seeds.items()
        for measure, values in measures.items()
        for step, value in values.items()
    ]
    return pd.DataFrame(rows, columns=list(SERIES))
