"""What the rules read: numbers of runs, one a run or a row an evaluation, whatever they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.advice.outcome import Outcome
from dropdiag.analysis.compare.measurements import CompareSettings
from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.analysis.compare.values import COLUMNS
from dropdiag.analysis.seeds import Floats
from dropdiag.formatting import missing, plain, some

ENDS: Final = ("condition", "seed", "run", "chosen", "reported", "steps")
CURVE: Final = ("condition", "seed", "run", "step", "value")
GAPS: Final = ("condition", "seed", "run", "training", "held_out")
MASKED, WITHOUT_MASKS = "training loss, masks on", "training data, masks off"


class Blocks(NamedTuple):
    """Values of conditions side by side, a row a seed.

    Attributes
    ----------
    values : ndarray of float64, shape (blocks, conditions)
        NaN where a run is missing.
    note : str
        How rows were made where it was not by seed, and which seeds lack a condition; empty where all is whole.
    """

    values: Floats
    note: str = ""

    @property
    def whole(self) -> Floats:
        """Rows without a missing value."""
        rows: Floats = self.values[np.isfinite(self.values).all(axis=1)]
        return rows


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """Runs as far as the rules ask.

    Attributes
    ----------
    conditions : tuple of str
        Those that are set side by side: rates ascending, then what has no rate.
    axis : str
        What the numbers of ``doses`` are of ("rate"); empty where conditions have none.
    doses : mapping of str to float
        Condition -> its number.
    ends : DataFrame
        A row a run: condition, seed, run, chosen, reported (last value of what it is chosen by and reported on), steps.
    curve : DataFrame
        A row an evaluation: condition, seed, run, step, value (of what it is chosen by).
    gaps : DataFrame
        A row a run: condition, seed, run, training, held_out, of ``gap_of``; empty where it was not recorded.
    outcome : Outcome or None
        None where nothing was held out.
    alpha : float
        The one level of the page.
    gaafs : tuple of str
        Conditions with GAAF, among ``conditions`` where their budget is that of the others; ``ends`` has rows of all.
    gap_of : str
        What the gap is of: "loss", "accuracy".
    gap_on : str
        `MASKED` or `WITHOUT_MASKS`: how its training side was taken.
    diverged : mapping of str to tuple of str
        Condition -> its runs that have diverged.
    left_out : mapping of str to str
        Condition -> why it is not set beside the others.
    layers : DataFrame
        A row a run, layer and measure, as `dropdiag.analysis.compare` takes them.
    normed : tuple of str
        Layers that normalise over the batch, of a network that has dropouts too.
    dropouts : tuple of str
        Layers that are dropouts.
    """

    conditions: tuple[str, ...]
    ends: pd.DataFrame
    outcome: Outcome | None
    curve: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CURVE))
    gaps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=GAPS))
    axis: str = ""
    doses: Mapping[str, float] = field(default_factory=dict)
    alpha: float = 0.05
    gaafs: tuple[str, ...] = ()
    gap_of: str = ""
    gap_on: str = ""
    diverged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    layers: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    normed: tuple[str, ...] = ()
    dropouts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        CompareSettings(self.alpha)  # refuses what is no probability

    @cached_property
    def ends_of(self) -> dict[str, pd.DataFrame]:
        """Rows of ``ends`` of each condition."""
        return {str(name): part for name, part in self.ends.groupby("condition", sort=False, observed=True)}

    @cached_property
    def gap_of_runs(self) -> dict[str, Floats]:
        """Gap of each run, by condition: above 0 where held-out data are worse than training data."""
        apart = self.gaps["held_out"].to_numpy(np.float64) - self.gaps["training"].to_numpy(np.float64)
        apart = apart if less_is_better(self.gap_of) else -apart
        names = self.gaps["condition"].to_numpy()
        return {str(name): apart[(names == name) & np.isfinite(apart)] for name in dict.fromkeys(names)}

    @property
    def less(self) -> bool:
        """Whether less of the outcome is better."""
        return self.outcome is not None and self.outcome.less

    @property
    def lowest(self) -> str:
        """The condition of the lowest rate; without rates the first."""
        return self.conditions[0]

    @property
    def plural(self) -> str:
        """What the conditions are, in a sentence."""
        return "conditions" if not self.axis else f"{self.axis}s" if self.axis.isalpha() else f"values of {self.axis}"

    def name(self, condition: str) -> str:
        """Return what a condition is called in a sentence: its number, or its name."""
        return plain(self.doses[condition], ".6g") if condition in self.doses else repr(condition)

    def at(self, condition: str) -> str:
        """Return a condition with what it is: "rate 0.3"."""
        return f"{self.axis} {self.name(condition)}" if condition in self.doses else self.name(condition)

    @cached_property
    def blocks(self) -> Blocks:
        """The last values of the conditions side by side, seed by seed."""
        return blocks(self.ends, "chosen", self.conditions)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of what a run has of its own: beside the mean of its condition and that of its seed."""
        values = self.blocks.whole
        n, k = values.shape
        if n < 2 or k < 2:
            return float("nan")
        own = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        return float(np.sqrt((own**2).sum() / ((n - 1) * (k - 1))))


def blocks(rows: pd.DataFrame, column: str, conditions: Sequence[str]) -> Blocks:
    """Set one value a run of several conditions side by side.

    Parameters
    ----------
    rows : DataFrame
        Columns condition, seed, run and ``column``.
    column : str
    conditions : sequence of str

    Returns
    -------
    Blocks
        A row a seed, where each run has one and none comes twice in a condition, and two seeds or more are shared by
        all. Else runs are set side by side in the order of their names: they are independent then, so that this
        costs sureness and biases nothing.
    """
    of: dict[str, dict[Any, float]] = {name: {} for name in conditions}
    lists: dict[str, list[tuple[str, float]]] = {name: [] for name in conditions}
    for name, seed, run, value in zip(
        *(rows[one].tolist() for one in ("condition", "seed", "run", column)), strict=True
    ):
        if name in of:
            of[name][seed] = value
            lists[name].append((run, value))
    sizes = [len(one) for one in lists.values()]
    # a seed that comes twice loses a run, and a run without one is under a key of its own
    if all(len(of[name]) == len(lists[name]) for name in conditions) and not any(map(_lacking, of.values())):
        seeds = sorted(set().union(*of.values()))
        found = np.array([[of[name].get(seed, np.nan) for name in conditions] for seed in seeds], dtype=np.float64)
        if np.isfinite(found).all(axis=1).sum() >= min(2, *sizes):
            return Blocks(found, _lacking_some(seeds, found))
    found = np.full((max(sizes, default=0), len(lists)), np.nan)
    for i, several in enumerate(lists.values()):
        found[: len(several), i] = [value for _, value in sorted(several, key=lambda one: one[0])]
    return Blocks(
        found, "the seeds of the runs do not pair, so that runs stand side by side in the order of their names"
    )


def _lacking_some(seeds: Sequence[Any], found: Floats) -> str:
    lost = [str(seed) for seed, row in zip(seeds, found, strict=True) if not np.isfinite(row).all()]
    if not lost:
        return ""
    which = f"{'seed' if len(lost) == 1 else 'seeds'} {some(lost, 8)}"
    return f"{which} {'lacks' if len(lost) == 1 else 'lack'} a run of some condition, and no verdict rests on them"


def _lacking(seeds: Mapping[Any, float]) -> bool:
    return any(missing(seed) for seed in seeds)
