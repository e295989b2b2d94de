"""One number a run, layer and measure, from the histograms and scalars that were read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from dropdiag.analysis import correlation
from dropdiag.analysis.compare.measures import Measure, measure_of
from dropdiag.analysis.compare.reading import asked, of_quantity
from dropdiag.analysis.compare.step_ranges import NOT_FINITE
from dropdiag.analysis.compare.weight_shapes import SHAPE_NUMBERS, shape_numbers
from dropdiag.analysis.select import KEYS
from dropdiag.store.schema import TRAIN

COLUMNS: Final = ["condition", "seed", "run", "layer", "call", "quantity", "measure", "value", "null", "until", "note"]
SHARES: Final = ("saturation_share_left", "saturation_share_right")
SAMPLES: Final = ("node_correlation_samples", "node_correlation_nodes")
_NULLS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "participation_ratio": correlation.null_participation_ratio,
    "effective_rank": correlation.null_effective_rank,
}
"""What independent nodes would give, of so many nodes and samples."""
_SITE: Final = ["run", "layer", "call"]


def rows(frame: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return a frame of values as rows of what was measured (`COLUMNS`)."""
    named = frame.assign(measure=measure.name, quantity=measure.quantity)
    for column, missing in (("null", np.nan), ("until", np.nan), ("note", "")):
        named = named if column in named else named.assign(**{column: missing})
    return named[COLUMNS].astype({"layer": "object"})


def saturation(scalars: pd.DataFrame, net_values: pd.DataFrame | None, conditions: Iterable[str]) -> pd.DataFrame:
    """Saturation share of each run at its last step; missing where the net values of that step are not all finite."""
    left, right = (of_quantity(scalars, name, list(conditions)) for name in SHARES)
    both = left.merge(right, on=KEYS, suffixes=("_left", "_right"))
    value = both["value_left"] + both["value_right"]
    if net_values is not None:
        # NaN is on neither side of the area's border, so a share of what is left would look healthy
        at = ["step", "phase", *_SITE]
        broken = pd.MultiIndex.from_frame(net_values.loc[~net_values["whole"], at])
        value = value.mask(pd.MultiIndex.from_frame(both[at]).isin(broken))
    notes = np.where(np.isfinite(value), "", f"the net values are {NOT_FINITE}")
    return rows(both.assign(value=value, note=notes), measure_of("saturation_share"))


def correlations(
    frame: pd.DataFrame, scalars: pd.DataFrame, net_values: pd.DataFrame | None, conditions: Iterable[str]
) -> pd.DataFrame:
    """Mean |r| of each run, with what independent nodes would give.

    A run's last |r| counts if it is of its last evaluation: a network that has diverged since has none.
    """
    frame = frame[[h.n_finite > 0 for h in frame["histogram"]]].reset_index(drop=True)
    samples = asked([], partial(of_quantity, scalars, SAMPLES[0], list(conditions)))
    # a network that is NaN has no |r|, and its last finite one would speak for a network that is gone
    late = frame["step"] < frame["run"].map(_last_steps(frame, samples, net_values))
    values = [correlation.mean_abs(*h.bounds()) for h in frame["histogram"]]
    notes = [f"its last |r| is of step {step:,}, before its last evaluation" if old else ""
             for step, old in zip(frame["step"], late, strict=True)]  # fmt: skip
    frame = frame.assign(value=pd.Series(values, index=frame.index, dtype="float64").mask(late), note=notes)
    null = [correlation.null_mean_abs(n) for n in _beside(frame, samples)]
    return rows(frame.assign(null=null), measure_of("abs_correlation"))


def _last_steps(frame: pd.DataFrame, *others: pd.DataFrame | None) -> pd.Series[int]:
    """Last step of each run's evaluations, of the phase that the frame is of."""
    phases = set(frame["phase"])
    parts = [part.loc[part["phase"].isin(phases), ["run", "step"]] for part in (frame, *others) if part is not None]
    return pd.concat(parts).groupby("run")["step"].max()


def _beside(frame: pd.DataFrame, other: pd.DataFrame | None, column: str = "value") -> pd.Series[float]:
    """Values of another frame at the same run and site; NaN where there is none."""
    if other is None:
        return pd.Series(np.nan, index=frame.index)
    known = other.drop_duplicates(_SITE, keep="last").set_index(_SITE)[column]
    return known.reindex(pd.MultiIndex.from_frame(frame[_SITE])).set_axis(frame.index)


def last_scalars(
    measure: Measure, scalars: pd.DataFrame, correlated: pd.DataFrame | None, conditions: Iterable[str]
) -> pd.DataFrame:
    """Last value of a scalar of layers in each run; of training, the mean over the last tenth of its rows."""
    frame = of_quantity(scalars, measure.quantity, list(conditions))
    null = _NULLS.get(measure.quantity)
    if null is None:
        training = frame["phase"] == TRAIN
        return rows(frame.assign(value=frame["tail"].where(training, frame["value"])), measure)
    samples, nodes = (_beside(frame, asked([], partial(of_quantity, scalars, name, list(conditions))))
                      for name in SAMPLES)  # fmt: skip
    frame = frame.assign(null=[null(m, n) for m, n in zip(nodes, samples, strict=True)])
    if correlated is not None:
        frame = frame.assign(note=_beside(frame, correlated, "note").fillna(""))
    return rows(frame[frame["value"].notna()], measure)


def weights(frame: pd.DataFrame) -> pd.DataFrame:
    """Shape of each run's last weights; missing where they are not all finite."""
    numbers, histograms = np.full((len(frame), len(SHAPE_NUMBERS)), np.nan), frame["histogram"].to_numpy()
    # layers are compared within a run; arrays are filled in place, for there are thousands of runs
    for places in frame[frame["whole"]].groupby("run", sort=False).groups.values():
        numbers[places] = shape_numbers(list(histograms[places]))
    frame = frame.assign(note=np.where(frame["whole"], "", f"the weights are {NOT_FINITE}"))
    return pd.concat(
        [rows(frame.assign(value=numbers[:, i]), measure_of(name)) for i, name in enumerate(SHAPE_NUMBERS)]
    )
