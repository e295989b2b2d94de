"""One number a run and measure, of each layer and of the network as a whole, from what was read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis import correlation
from dropdiag.analysis.compare.lenient import Problems
from dropdiag.analysis.compare.measures import COUNTERS, Measure, less_is_better, measure_of
from dropdiag.analysis.compare.reading import asked, of_quantity
from dropdiag.analysis.compare.step_ranges import NOT_FINITE
from dropdiag.analysis.compare.weight_shapes import SHAPE_NUMBERS, distance_from_start, shape_numbers
from dropdiag.analysis.gradient_distance import far_gradient_probability, with_gradient
from dropdiag.analysis.net_variance import MASKS as UNDER_MASKS
from dropdiag.analysis.net_variance import MEASURES as ALL_UNDER_MASKS
from dropdiag.analysis.phases import common
from dropdiag.analysis.select import KEYS
from dropdiag.store.schema import MEASURED, TRAIN, UNCOMPARED, Quantity, base_and_x, quantity_of

COLUMNS: Final = [
    "condition", "seed", "run", "layer", "call", "quantity", "measure", "value", "null", "items", "until", "note",
]  # fmt: skip
SHARES: Final = ("saturation_share_left", "saturation_share_right")
SAMPLES: Final = ("node_correlation_samples", "node_correlation_nodes", "node_correlation_items")
MASKS: Final = "dropout_masks"
INTERACTION: Final = "ablation_interaction"
BY_LOT, BY_LOT_SD = f"{INTERACTION}_null", f"{INTERACTION}_null_sd"
"""The interaction of groups that are drawn by lot: its mean, and its standard deviation over draws."""
BESIDE: Final = frozenset({*SHARES, *SAMPLES, MASKS, BY_LOT, BY_LOT_SD})
"""Scalars that measures are taken with, and that are none themselves."""
START: Final = "weight at step 0"
"""Histograms of weights before training, beside those at a run's end."""
FAR: Final = ("saturated_net_mean", "gradient_net_mean")
"""Histograms of which the gradient probability far out is taken."""
MASKED: Final = ("net_variance_mean", "net_variance_closed_form_mean")
_NULLS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "participation_ratio": correlation.null_participation_ratio,
    "effective_rank": correlation.null_effective_rank,
}
"""What independent nodes would give, of so many nodes and samples."""
CORRECTED: Final = ("correlation_squared", "correlation_variance")
BETWEEN: Final = ("weight_shape_distance", "weight_scale_distance")
"""Measures of one layer that the others of its network take part in."""
LACKING: Final = "a layer is missing, to which the other runs have a distance"
ALONE: Final = "distances are taken between the layers that all conditions have"
Called: TypeAlias = Mapping[str, Mapping[str, str]]
UNKNOWN_ITEMS: Final = "the number of independent samples is not known"
EVERYWHERE: Final = ((-np.inf, np.inf),)
"""What was recorded as saturated lies in the saturation area already."""
LAST: Final = "the best is the last evaluation"
"""Note of a run that may have become better yet, had training gone on."""
USUAL: Final = {
    **dict.fromkeys(ALL_UNDER_MASKS, UNDER_MASKS),
    **{name: phase for phase, names in MEASURED.items() for name in names},
}
"""Quantity, or family of them -> the phase in which it is recorded unless told otherwise."""
_SITE: Final = ["run", "layer", "call"]


def rows(frame: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return a frame of values as rows of what was measured (`COLUMNS`)."""
    named = frame.assign(measure=measure.name, quantity=measure.quantity)
    for column, missing in (("null", np.nan), ("items", np.nan), ("until", np.nan), ("note", "")):
        named = named if column in named else named.assign(**{column: missing})
    return named[COLUMNS].astype({"layer": "object"})


def layer_values(
    scalars: pd.DataFrame,
    histograms: Mapping[str, pd.DataFrame],
    quantities: Mapping[str, Quantity],
    conditions: Sequence[str],
    problems: Problems,
    *,
    called: Called | None = None,
) -> Iterator[pd.DataFrame | None]:
    """Take the measures of layers, in the order of the table.

    Parameters
    ----------
    scalars : DataFrame
        As `dropdiag.analysis.compare.reading.read_scalars` returns it.
    histograms : mapping of str to DataFrame
        Quantity, or `START` -> its histograms in one phase, with a column ``whole``: whether all values are finite.
    quantities : mapping of str to Quantity
        Those of the runs.
    conditions : sequence of str
        In their order.
    problems : list of str
        What could not be taken is added.
    called : mapping of str to mapping of str to str, optional
        Condition -> its layer -> what the baseline calls the layer beside it; a layer without one stands beside no
        other. By default the conditions' layers are called the same.

    Yields
    ------
    DataFrame or None
        Rows of one measure or more; None where it was not recorded.
    """
    net_values, correlated = histograms.get("net_value"), None
    yield asked(problems, partial(_saturation, scalars, net_values, conditions))
    if "node_correlation" in histograms:
        correlated = _correlations(histograms["node_correlation"], scalars, net_values, conditions)
        yield correlated
    recorded = set(scalars.loc[scalars["layer"].notna(), "quantity"]) - BESIDE
    # those that a probe declares in the order in which it does, then those of which nothing is known but the name
    for name in [*filter(recorded.__contains__, quantities), *sorted(recorded - quantities.keys())]:
        known = quantity_of(name, quantities)
        if known is not None and known.scale == UNCOMPARED:  # one of a family, as "ablated_loss_se@0.1"
            continue
        measure = measure_of(name, quantities)
        yield asked(problems, partial(_last_scalars, measure, scalars, correlated, conditions))
    if recorded.issuperset(MASKED):
        yield asked(problems, partial(_excess, scalars, conditions))
    if INTERACTION in recorded:
        yield _dependence(scalars, conditions)
    if FAR[0] in histograms:
        yield _far(histograms, scalars, conditions)
    if "weight" in histograms:
        yield _weights(histograms["weight"], called)
    if START in histograms:
        yield _from_start(histograms["weight"], histograms[START])


def _saturation(scalars: pd.DataFrame, net_values: pd.DataFrame | None, conditions: Sequence[str]) -> pd.DataFrame:
    """Saturation share of each run at its last step; missing where the net values of that step are not all finite."""
    left, right = (of_quantity(scalars, name, conditions) for name in SHARES)
    both = left.merge(right, on=KEYS, suffixes=("_left", "_right"))
    value = both["value_left"] + both["value_right"]
    if net_values is not None:
        # NaN is on neither side of the area's border, so a share of what is left would look healthy
        at = ["step", "phase", *_SITE]
        broken = pd.MultiIndex.from_frame(net_values.loc[~net_values["whole"], at])
        value = value.mask(pd.MultiIndex.from_frame(both[at]).isin(broken))
    notes = np.where(np.isfinite(value), "", f"the net values are {NOT_FINITE}")
    return rows(both.assign(value=value, note=notes), measure_of("saturation_share"))


def _correlations(
    frame: pd.DataFrame, scalars: pd.DataFrame, net_values: pd.DataFrame | None, conditions: Sequence[str]
) -> pd.DataFrame:
    """Mean |r| of each run, with what independent nodes would give.

    A run's last |r| counts if it is of its last evaluation: a network that has diverged since has none.
    """
    frame = frame[[h.n_finite > 0 for h in frame["histogram"]]].reset_index(drop=True)
    samples = asked([], partial(of_quantity, scalars, SAMPLES[0], conditions))
    # a network that is NaN has no |r|, and its last finite one would speak for a network that is gone
    late = frame["step"] < frame["run"].map(_last_steps(frame, samples, net_values))
    r = [correlation.PairMoments.of(*h.bounds()) for h in frame["histogram"]]
    notes = [f"its last |r| is of step {step:,}, before its last evaluation" if old else ""
             for step, old in zip(frame["step"], late, strict=True)]  # fmt: skip
    n, items = _beside(frame, samples), _items(frame, scalars, conditions)
    frame = frame.assign(note=notes, items=items.fillna(n))
    parts = {
        "abs_correlation": [one.mean_abs for one in r],
        "correlation_squared": [one.corrected_square(m) for one, m in zip(r, items, strict=True)],
        "correlation_sd": [one.sd for one in r],
        "correlation_variance": [one.corrected_variance(m) for one, m in zip(r, items, strict=True)],
    }
    if items.isna().all():
        # runs of before do not say how many of their samples are independent
        parts = {name: values for name, values in parts.items() if name not in CORRECTED}
    null = {"abs_correlation": [correlation.null_mean_abs(m) for m in n]}
    unknown = frame.assign(
        note=[note or (UNKNOWN_ITEMS if np.isnan(m) else "") for note, m in zip(notes, items, strict=True)]
    )
    return pd.concat([
        rows((unknown if name in CORRECTED else frame).assign(
            value=pd.Series(values, index=frame.index, dtype="float64").mask(late), null=null.get(name, np.nan)
        ), measure_of(name))
        for name, values in parts.items()
    ])  # fmt: skip


def _items(frame: pd.DataFrame, scalars: pd.DataFrame, conditions: Sequence[str]) -> pd.Series[float]:
    """Independent samples behind each correlation; NaN where the run does not say."""
    return _beside(frame, asked([], partial(of_quantity, scalars, SAMPLES[2], conditions)))


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


def _last_scalars(
    measure: Measure, scalars: pd.DataFrame, correlated: pd.DataFrame | None, conditions: Sequence[str]
) -> pd.DataFrame:
    """Last value of a scalar of layers in each run; of training, the mean over the last tenth of its rows."""
    usual = USUAL.get(base_and_x(measure.quantity)[0])
    frame = of_quantity(scalars, measure.quantity, conditions, usual)
    null = _NULLS.get(measure.quantity)
    if null is None:
        training = frame["phase"] == TRAIN
        if measure.quantity == INTERACTION:
            frame = frame.assign(null=_by_lot(frame, scalars, BY_LOT, conditions))
        return rows(frame.assign(value=frame["tail"].where(training, frame["value"])), measure)
    samples, nodes, items = (_beside(frame, asked([], partial(of_quantity, scalars, name, conditions)))
                             for name in SAMPLES)  # fmt: skip
    expected = [null(m, n) for m, n in zip(nodes, samples, strict=True)]
    frame = frame.assign(null=expected, items=items.fillna(samples))
    if correlated is not None:
        frame = frame.assign(note=_beside(frame, correlated, "note").fillna(""))
    return rows(frame[frame["value"].notna()], measure)


def _dependence(scalars: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """How far the interaction of partners is from that of groups drawn by lot, whatever its sign; and its square.

    Chance alone gives a distance above 0, by how much random groups differ among themselves. The square is less what
    that adds to it: 0 on average where it does not matter which nodes are partners.
    """
    frame = of_quantity(scalars, INTERACTION, conditions, USUAL[INTERACTION])
    null, sd = (_by_lot(frame, scalars, name, conditions) for name in (BY_LOT, BY_LOT_SD))
    apart = frame["value"] - null
    parts = {"ablation_dependence": apart.abs(), "ablation_dependence_squared": apart**2 - sd**2}
    return pd.concat([rows(frame.assign(value=value), measure_of(name)) for name, value in parts.items()])


def _by_lot(frame: pd.DataFrame, scalars: pd.DataFrame, name: str, conditions: Sequence[str]) -> pd.Series[float]:
    return _beside(frame, asked([], partial(of_quantity, scalars, name, conditions, USUAL[INTERACTION])))


def _excess(scalars: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Net variance beyond that of the masks right before a layer: what comes to it from the layers below."""
    # GAAF that is fitted in training records its fits as well, in a phase of their own
    measured, closed = (of_quantity(scalars, name, conditions, UNDER_MASKS) for name in MASKED)
    both = measured.merge(closed, on=KEYS, suffixes=("", "_closed"))
    both = both[both["value_closed"].notna()]
    return rows(both.assign(value=both["value"] - both["value_closed"]), measure_of("excess_net_variance"))


def _far(
    histograms: Mapping[str, pd.DataFrame], scalars: pd.DataFrame, conditions: Sequence[str]
) -> pd.DataFrame:  # fmt: skip
    """Gradient probability of the saturated net values that lie farthest out, in each run."""
    saturated = histograms[FAR[0]]
    masks, alone = (_beside(saturated, asked([], partial(of_quantity, scalars, name, conditions, UNDER_MASKS)))
                    for name in (MASKS, "gradient_probability"))  # fmt: skip
    found = _beside(saturated, histograms.get(FAR[1]), "histogram")
    values = [
        far_gradient_probability(means, with_gradient(leaving, probability), EVERYWHERE, float(number))
        for means, leaving, probability, number in zip(saturated["histogram"], found, alone, masks, strict=True)
    ]
    return rows(saturated.assign(value=values), measure_of("far_gradient_probability"))


def _from_start(frame: pd.DataFrame, start: pd.DataFrame) -> pd.DataFrame:
    """How far each run's weights have come since step 0; missing where they are not all finite."""
    both = frame.merge(start[[*_SITE, "histogram", "whole"]], on=_SITE, suffixes=("", "_start"))
    whole = both["whole"] & both["whole_start"]
    pairs = zip(both["histogram_start"], both["histogram"], whole, strict=True)
    values = [distance_from_start(before, now) if finite else np.nan for before, now, finite in pairs]
    notes = np.where(whole, "", f"the weights are {NOT_FINITE}")
    return rows(both.assign(value=values, note=notes), measure_of("weight_w1_from_start"))


def _weights(frame: pd.DataFrame, called: Called | None) -> pd.DataFrame:
    """Shape of each run's last weights; missing where they are not all finite."""
    numbers, histograms = np.full((len(frame), len(SHAPE_NUMBERS)), np.nan), frame["histogram"].to_numpy()
    known = pd.Series(False, index=frame.index)
    among, most = _of_all(frame, called)
    # layers are compared within a run; arrays are filled in place, for there are thousands of runs
    for places in frame[frame["whole"]].groupby("run", sort=False).groups.values():
        between = among[places]
        complete = int(between.sum()) == most
        numbers[places] = shape_numbers(list(histograms[places]), between & complete)
        known.loc[places] = complete
    lost = np.where(frame["whole"], "", f"the weights are {NOT_FINITE}")
    # a distance to other layers is another quantity
    apart = np.where(among, np.where(known, "", LACKING), np.where(most > 0, ALONE, ""))
    frames = []
    for name, values in zip(SHAPE_NUMBERS, numbers.T, strict=True):
        note = np.where((lost == "") & (name in BETWEEN), apart, lost)
        frames.append(rows(frame.assign(value=values, note=note), measure_of(name)))
    return pd.concat(frames)


def _of_all(frame: pd.DataFrame, called: Called | None) -> tuple[NDArray[np.bool_], int]:
    """Say which rows are of layers that most runs of every condition hold, and how many such layers there are."""
    pairs = zip(frame["condition"], frame["layer"], strict=True)
    names = [layer if called is None else called.get(one, {}).get(layer) for one, layer in pairs]
    # a layer that no other stands beside is none of all
    sites = pd.Series(list(zip(names, frame["call"], strict=True)), index=frame.index, dtype="object")
    held: list[set[object]] = []
    for _, part in frame[frame["whole"] & np.array([name is not None for name in names])].groupby(
        "condition", sort=False
    ):
        counts = sites[part.index].value_counts()
        held.append(set(counts.index[counts >= 0.5 * part["run"].nunique()]))
    # a network of which one layer alone stands beside others has no distances that could be compared
    held = [one for one in held if len(one) > 1]
    shared = set.intersection(*held) if held else set()
    return sites.isin(shared).to_numpy(), len(shared)


def network_values(
    scalars: pd.DataFrame, own: Collection[str], conditions: Sequence[str], problems: Problems
) -> list[pd.DataFrame | None]:
    """Take the scalars of the network that were given to the recorder.

    Parameters
    ----------
    scalars : DataFrame
        As `dropdiag.analysis.compare.reading.read_scalars` returns it.
    own : collection of str
        Names that are dropdiag's own: no measures.
    conditions : sequence of str
        In their order.
    problems : list of str
        What could not be taken is added.

    Returns
    -------
    list of DataFrame or None
        Rows of final:NAME, best:NAME and epochs_to_best:NAME; of final:NAME alone, where training alone has the name.
    """
    frame = scalars[scalars["layer"].isna()].assign(layer=None, call=0)
    names = sorted(name for name in frame["quantity"].unique()
                   if name not in own and name.lower() not in COUNTERS and quantity_of(name) is None)  # fmt: skip
    place = frame["condition"].map({name: i for i, name in enumerate(conditions)})
    frame = frame.loc[place.sort_values(kind="stable").index]
    return [asked(problems, partial(_scalar, frame[frame["quantity"] == name], name)) for name in names]


def _scalar(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    held = {str(run): part.unique().tolist() for run, part in frame.groupby("run", sort=False)["phase"]}
    phase = common(held, name)
    frame = frame[frame["phase"] == phase].reset_index(drop=True)
    last = frame.groupby("run", sort=False).tail(1)
    if phase == TRAIN:
        # the best of noisy training steps says how many there were, not how good the network is
        return rows(last.assign(value=last["tail"], note=_lost(last["tail"], name)), measure_of(f"final:{name}"))
    best = _best(frame, less_is_better(name))
    # of a run without any finite evaluation nothing counts; both frames have a row a run, in one order
    known = best["value"].notna().to_numpy()
    parts = {
        "final": last.assign(value=last["value"].where(known), note=_lost(last["value"], name)),
        "best": best,
        "epochs_to_best": best.assign(value=best["evaluation"].where(known)),
    }
    return pd.concat([rows(part, measure_of(f"{kind}:{name}")) for kind, part in parts.items()])


def _best(frame: pd.DataFrame, less: bool) -> pd.DataFrame:
    """Return each run's best evaluation, the first of equal ones; its value is NaN where none is finite."""
    finite = np.isfinite(frame["value"])
    # -inf and not NaN: where no evaluation is finite idxmax still has to find one
    score = (-frame["value"] if less else frame["value"]).where(finite, -np.inf)
    best = frame.loc[score.groupby(frame["run"], sort=False).idxmax()]
    evaluations = frame.groupby("run", sort=False)["evaluation"].max()
    last = best["evaluation"] >= best["run"].map(evaluations)
    return best.assign(value=best["value"].where(finite), note=np.where(last, LAST, ""))


def _lost(final: pd.Series[float], name: str) -> list[str]:
    """Note for a loss that ends as NaN or infinite."""
    return ["" if np.isfinite(one) or not less_is_better(name) else f"the last {name} is {NOT_FINITE}" for one in final]
