"""Is it the masks, or the weights that they led to? Gradient flow in four cells, from runs over seeds.

Taken from runs in which ``rec.measure("masks_by_weights", ...)`` was called on the same batch with the same seed: each
holds the two cells of its own weights, masks off and masks on. A condition and its baseline together have four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.seeds import Estimate, Floats, SeedPairing, difference, over_seeds, pair_by_seed, sides_of
from dropdiag.analysis.select import GROUP, SITE, check, last, scalars
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.selection import NamesOrAll

OFF: Final = "flow_masks_off"
ON: Final = "flow_masks_on"
PHASE: Final = "masks_by_weights"
EFFECTS: Final = ("weights", "masks", "interaction", "together")
LAST: Final = "last"
ALL: Final = "all"
_RUN: Final = ["condition", "run", "step", *SITE]


def table(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    baseline: str | None = None,
    step: int | str = LAST,
    phase: str = PHASE,
    level: float = 0.95,
) -> pd.DataFrame:
    """Effects of weights and of masks on gradient flow, and their interaction, over seeds.

    Parameters
    ----------
    runs : Run or Runs
    layers, conditions : sequence of str, optional
        All, or these in this order.
    baseline : str, optional
        The condition without dropout; by default as in `dropdiag.compare`.
    step : int, "last" or "all", default "last"
        The last measurement of each run, that at one step, or those at all steps.
    phase : str, default "masks_by_weights"
    level : float, default 0.95
        Of the intervals.

    Returns
    -------
    DataFrame
        One row a condition, step, layer and effect: condition, baseline, step (missing where the last ones of runs are
        not the same), layer, call, effect; value, low, high (natural logarithms of ratios, and their t interval over
        seeds); pairs (of seeds; 0 where runs are not paired), runs (that have a value, of both conditions), why (it is
        missing). ``weights``: log ratio of the condition's weights to the baseline's, mean over masks off and on.
        ``masks``: log ratio of masks on to off, mean over both weights. ``interaction``: by how much more masks do
        under the condition's weights. ``together``: weights and masks, which is the log ratio of the condition as it
        trains (masks on) to the baseline as it trains (masks off).

    Raises
    ------
    ArgumentError
        For an unknown layer or condition, or a step at which nothing was measured.
    BaselineError
        If nothing says which condition is the baseline.
    NotRecordedError
        If no run holds the measurement, or there is one condition alone.

    Examples
    --------
    >>> table = dd.analysis.masks_by_weights.table(runs)
    >>> table[["layer", "effect"]]
      layer       effect
    0  act1      weights
    1  act1        masks
    2  act1  interaction
    3  act1     together
    4  act2      weights
    5  act2        masks
    6  act2  interaction
    7  act2     together
    """
    every = as_runs(runs)
    wanted = check("condition", conditions, every.conditions)
    given = [] if baseline is None else check("condition", [baseline], every.conditions)
    rows = cells(runs, layers=layers, step=step, phase=phase)
    base = given[0] if given else baseline_of(every)
    others = [name for name in wanted if name != base]
    if not others:
        raise NotRecordedError(f"an effect takes two conditions, and there is {base!r} alone")
    rows = rows[rows["condition"].isin([*others, base])]
    by = SITE if step == LAST else ["step", *SITE]
    made = effects(every, rows, base, others, by=by, level=level).astype({"step": "Int64"})
    steps = rows["step"].unique()
    return made.assign(step=made["step"].fillna(steps[0])) if step == LAST and len(steps) == 1 else made


def cells(
    runs: Run | Runs,
    *,
    layers: NamesOrAll = None,
    conditions: NamesOrAll = None,
    step: int | str = LAST,
    phase: str = PHASE,
) -> pd.DataFrame:
    """Gradient flow of each run with masks off and on.

    Returns
    -------
    DataFrame
        One row a run, step and layer: condition, run, step, layer, call, off, on (mean |dL/dz|, loss units per
        net-value unit; NaN where it is missing).

    Raises
    ------
    ArgumentError, NotRecordedError
        As in `table`.

    Examples
    --------
    >>> cells = dd.analysis.masks_by_weights.cells(runs)
    >>> len(cells) == len(runs) * 2
    True
    """
    chosen: dict[str, Any] = {"phase": phase, "layers": layers, "conditions": conditions}
    try:
        off, on = (scalars(runs, name, **chosen) for name in (OFF, ON))
    except NotRecordedError as error:
        raise NotRecordedError(
            f'{error}. No probe records it by itself: call rec.measure("masks_by_weights", batch, loss_fn) in the '
            "training loop, on the same batch in all runs"
        ) from error
    if step == LAST:
        off, on = last(off), last(on)
    off, on = (one[[*_RUN, "value"]].rename(columns={"value": n}) for one, n in ((off, "off"), (on, "on")))
    found = off.merge(on, on=_RUN, how="left")  # both are written at once
    if step in (LAST, ALL):
        return found
    at = found[found["step"] == step].reset_index(drop=True)
    if at.empty:
        steps = ", ".join(map(str, sorted(found["step"].unique())))
        raise ArgumentError(f"step={step!r} was not measured; measured were steps {steps}, 'last', 'all'")
    return at


def effects(
    runs: Runs,
    rows: pd.DataFrame,
    baseline: str,
    others: Sequence[str],
    *,
    by: Sequence[str] = SITE,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the effects of some conditions beside a baseline, of cells that are in a frame already.

    Parameters
    ----------
    runs : Runs
    rows : DataFrame
        As `cells` returns it; ``step`` is needed only where it is in ``by``.
    baseline : str
    others : sequence of str
        Conditions.
    by : sequence of str
        What names a row beside the condition: layer and call, and the step where there are several.
    level : float, default 0.95

    Returns
    -------
    DataFrame
        Columns as of `table`; the step is missing unless it is in ``by``.

    Examples
    --------
    >>> cells = dd.analysis.masks_by_weights.cells(runs)
    >>> effects = dd.analysis.masks_by_weights.effects(runs, cells, "No dropout", ["Dropout"])
    >>> effects["condition"].unique().tolist()
    ['Dropout']
    """
    found = [
        {"condition": name, "baseline": baseline, **row}
        for name in others
        for row in _effects(pair_by_seed(runs, name, baseline), rows, list(by), level=level)
    ]
    columns = ["condition", "baseline", "step", *SITE, "effect", "value", "low", "high", "pairs", "runs", "why"]
    return pd.DataFrame(found, columns=columns)


def over_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and the standard deviation over runs of `cells`, by condition and layer."""
    return over_seeds(rows, GROUP, ["off", "on"])


def _effects(pairing: SeedPairing, rows: pd.DataFrame, by: list[str], *, level: float) -> Iterator[dict[str, Any]]:
    """Give the effects of a condition, by layer, and by step where that is among the columns given."""
    both = rows[rows["run"].isin(pairing.runs)]
    for key, part in both.groupby(by, sort=False):
        # no flow at all, as of a network that has collapsed, has no logarithm
        off, on = (np.log(part[name].where(part[name] > 0.0).to_numpy(np.float64)) for name in ("off", "on"))
        means, gains = (dict(zip(part["run"], one, strict=True)) for one in ((off + on) / 2, on - off))
        for effect, found, used in _of_site(means, gains, pairing):
            low, high = found.interval(level)
            known = np.isfinite(found.effect)
            yield {
                "step": None, **dict(zip(by, key, strict=True)), "effect": effect, "value": found.effect,
                "low": low, "high": high, "pairs": len(used.condition) if used.paired else 0,
                "runs": len(used.runs), "why": "" if known else _why(used),
            }  # fmt: skip


def _of_site(
    means: Mapping[str, float], gains: Mapping[str, float], pairing: SeedPairing
) -> Iterator[tuple[str, Estimate, SeedPairing]]:
    """Give each effect of one layer.

    Parameters
    ----------
    means, gains : mapping of str to float
        Run -> mean of both log flows, and log ratio of masks on to off.
    pairing : SeedPairing
    """
    # both have the same runs: one is finite where the other is
    used, mine, theirs = sides_of(means, pairing)
    _, gained, there = sides_of(gains, pairing)
    yield "weights", difference(mine, theirs, paired=used.paired), used
    yield "masks", _mean_of_both(gained, there, paired=used.paired), used
    yield "interaction", difference(gained, there, paired=used.paired), used
    # on of the condition beside off of the baseline
    yield "together", difference(mine + gained / 2, theirs - there / 2, paired=used.paired), used


def _mean_of_both(mine: Floats, theirs: Floats, *, paired: bool) -> Estimate:
    return Estimate.of_means([(mine + theirs) / 2] if paired else [mine / 2, theirs / 2])


def _why(used: SeedPairing) -> str:
    sides = {"the condition": used.condition, "the baseline": used.baseline}
    return f"no run of {' and of '.join(name for name, side in sides.items() if not side)} has both flows above 0 here"
