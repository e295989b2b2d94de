"""Successive halving that biases no comparison: conditions are screened by seeds that are never compared.

Every round trains all conditions that are left at one small budget, with seeds of its own, and keeps the better part
of them. The conditions that are left are then trained in full, with fresh seeds, and these alone are compared. So what
decided that a condition goes on is in none of the numbers that are reported of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pandas as pd

from dropdiag.analysis.compare.measures import is_validation, less_is_better
from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.asked import Asked
from dropdiag.experiments.sweep.axes import label
from dropdiag.formatting import some

FIRST_SEED: Final = 1_000_000
"""From here on seeds are those of screening: a thousand a round."""
SEEDS_OF_A_ROUND: Final = 1_000
LEFT: Final = 2
"""Fewer conditions are not left: there would be nothing to compare."""


@dataclass(frozen=True)
class EarlyStop:
    """How conditions are screened.

    Attributes
    ----------
    metric : str
        The number that `train` logs of held-out data; its last value decides.
    budget : str
        The setting that says how long `train` trains: a whole number.
    least : int, optional
        The budget of the first round; by default a quarter of the whole, rounded up. Each round multiplies it by
        `factor`, as long as it stays below the whole.
    factor : int
        One of so many conditions is kept each round.
    seeds : int
        Seeds of a round.
    phase : str, optional
        Where the metric is taken: by default on validation data, or in the only held-out phase that has it.
    """

    metric: str
    budget: str = "epochs"
    least: int | None = None
    factor: int = 2
    seeds: int = 2
    phase: str | None = None

    @classmethod
    def of(cls, given: object) -> EarlyStop | None:
        """Return what ``early_stop=`` means: None, a metric, or a mapping of these attributes."""
        if given is None or isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls(given)
        try:
            return cls(**given)  # type: ignore[arg-type]
        except TypeError:
            example = "{'metric': 'accuracy', 'budget': 'epochs', 'least': 2}"
            raise ArgumentError(f"early_stop= takes a metric, or as {example}; got {given!r}") from None

    def rounds(self, asked: Asked) -> list[Asked]:
        """Return what each round asks for, of all conditions.

        Raises
        ------
        ArgumentError
            If the budget is no setting that is a whole number above `least`, or a seed is one of screening.
        """
        whole = asked.settings.get(self.budget)
        if not isinstance(whole, int) or isinstance(whole, bool):
            raise ArgumentError(
                f"early_stop= needs the whole budget as a setting that train reads, as "
                f"settings={{{self.budget!r}: 20}}; got {whole!r}"
            )
        least = self.least or math.ceil(whole / 4)
        if not 1 <= least < whole or self.factor < 2 or not 1 <= self.seeds <= SEEDS_OF_A_ROUND:
            raise ArgumentError(
                f"early_stop= takes least from 1 to below {self.budget} = {whole}, a factor of at least 2 and at least "
                f"one seed; got least={least}, factor={self.factor}, seeds={self.seeds}"
            )
        if taken := [seed for seed in asked.seeds if seed >= FIRST_SEED]:
            raise ArgumentError(f"seeds from {FIRST_SEED} on are those of screening; got {taken[0]}")
        count = math.ceil(math.log(whole / least, self.factor) - 1e-9)
        return [
            replace(asked, seeds=self._seeds(at), settings={**asked.settings, self.budget: least * self.factor**at})
            for at in range(count)
        ]

    def _seeds(self, at: int) -> tuple[int, ...]:
        first = FIRST_SEED + at * SEEDS_OF_A_ROUND
        return tuple(range(first, first + self.seeds))


@dataclass(frozen=True)
class Round:
    """What came out of a round.

    Attributes
    ----------
    budget : int
    seeds : tuple of int
    phase : str
    means : mapping
        Condition -> mean of the metric over seeds; NaN where a run diverged or failed.
    kept : tuple of str
        In the order of the conditions; the first one that was asked for is always kept, as others are compared with it.
    stopped : mapping
        Condition -> why, in words.
    """

    budget: int
    seeds: tuple[int, ...]
    phase: str
    means: Mapping[str, float]
    kept: tuple[str, ...]
    stopped: Mapping[str, str]


def judged(stop: EarlyStop, asked: Asked, finals: pd.DataFrame, always: str) -> Round:
    """Say which conditions of a round go on.

    Parameters
    ----------
    stop : EarlyStop
    asked : Asked
        The round.
    finals : DataFrame
        Of its runs, see `dropdiag.experiments.sweep.finals`.
    always : str
        The condition that goes on whatever it has.

    Raises
    ------
    ArgumentError
        If no run logged the metric, or several held-out phases have it.
    """
    of_metric = finals[finals["quantity"] == stop.metric]
    phase = _phase(stop, finals, of_metric)
    rows = of_metric[of_metric["phase"] == phase]
    groups = {str(name): group["value"] for name, group in rows.groupby("condition", sort=False)}
    # a run that failed or diverged makes a condition's mean NaN, which is behind all others
    means = {
        name: float(groups[name].mean(skipna=False)) if name in groups and len(groups[name]) == stop.seeds else math.nan
        for name in asked.conditions
    }
    sign = 1.0 if less_is_better(stop.metric) else -1.0
    best = sorted(means, key=lambda name: (math.isnan(means[name]), sign * means[name]))
    best = [name for name in best if not math.isnan(means[name])]
    kept = {*best[: max(LEFT, math.ceil(len(means) / stop.factor))], always}
    budget = int(asked.settings[stop.budget])
    at = f"after {stop.budget} = {budget}, {phase} {stop.metric}"
    return Round(
        budget,
        asked.seeds,
        phase,
        means,
        tuple(name for name in asked.conditions if name in kept),
        {
            name: f"{at} {mean:.4g}, mean of {stop.seeds} screening seeds" if not math.isnan(mean)
            else f"after {stop.budget} = {budget} a run had failed, diverged or no {stop.metric}"
            for name, mean in means.items() if name not in kept
        },
    )  # fmt: skip


def left_of(asked: Asked, kept: Sequence[str]) -> Asked:
    """Return what is asked for, of these conditions alone."""
    return replace(asked, points=tuple(point for point in asked.points if label(point) in kept))


def _phase(stop: EarlyStop, finals: pd.DataFrame, of_metric: pd.DataFrame) -> str:
    phases = [str(name) for name in of_metric["phase"].unique()]
    if stop.phase is not None:
        phases = [name for name in phases if name == stop.phase]
    chosen = [name for name in phases if is_validation(name)] or phases
    if len(chosen) == 1:
        return chosen[0]
    logged = some(sorted({f"{row.phase} {row.quantity}" for row in finals.itertuples()}), 12) or "nothing"
    raise ArgumentError(
        f"early_stop= needs one held-out phase with {stop.metric!r}, as rec.log({stop.metric}=..., phase='validation') "
        f"gives it; logged is {logged}"
    )
