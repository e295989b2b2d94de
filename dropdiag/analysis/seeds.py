"""Statistics over runs: the seed is the unit, not the weight, the node or the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from dropdiag.formatting import some
from dropdiag.store.reader import Runs

Floats: TypeAlias = NDArray[np.float64]


def over_seeds(frame: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the rows (one a run) of each group.

    Parameters
    ----------
    frame : DataFrame
        One row a run and group.
    by : sequence of str
        Columns that name a group.
    values : sequence of str
        Numeric columns. A missing value (null, NaN) is left out, never taken for zero.

    Returns
    -------
    DataFrame
        Columns ``by``; for each value its mean and, under ``<value>_sd``, its standard deviation over runs
        (divisor n - 1; NaN for one run); ``seeds``, the runs of the group; ``missing``, the runs in which at
        least one of the values is missing. Groups keep the order of first appearance.

    Examples
    --------
    >>> frame = pd.DataFrame({"condition": ["A", "A", "B"], "value": [1.0, 3.0, 5.0]})
    >>> dd.analysis.seeds.over_seeds(frame, ["condition"], ["value"])
      condition  value  value_sd  seeds  missing
    0         A    2.0  1.414214      2        0
    1         B    5.0       NaN      1        0
    """
    names = list(values)
    numbers = frame[names].astype("float64")
    keys = [frame[name] for name in by]
    groups = numbers.groupby(keys, sort=False, dropna=False)
    mean, sd = groups.mean(), groups.std(ddof=1)
    columns = {column: part[name] for name in names for column, part in ((name, mean), (f"{name}_sd", sd))}
    missing = numbers.isna().any(axis=1).groupby(keys, sort=False, dropna=False).sum()
    return pd.DataFrame({**columns, "seeds": groups.size(), "missing": missing}).reset_index()


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of independent means, with its standard error.

    Attributes
    ----------
    effect : float
    error : float
        Standard error; NaN where a sample has fewer than two values.
    degrees : float
        Degrees of freedom: Student's n - 1, or those of Welch and Satterthwaite.

    Examples
    --------
    >>> estimate = dd.analysis.seeds.Estimate(effect=0.5, error=0.1, degrees=4)
    >>> estimate.effect / estimate.error
    5.0
    """

    effect: float
    error: float = float("nan")
    degrees: float = float("nan")

    @classmethod
    def of(cls, effect: float, squares: Sequence[float], sizes: Sequence[int]) -> Estimate:
        """Take an effect that is a sum or difference of independent means.

        Parameters
        ----------
        effect : float
        squares : sequence of float
            Squared standard error of each mean.
        sizes : sequence of int
            Number of values behind each, at least 2.

        Examples
        --------
        >>> dd.analysis.seeds.Estimate.of(0.5, squares=[0.02, 0.03], sizes=[3, 3]).effect
        0.5
        """
        total = sum(squares)
        if total == 0.0:  # the degrees of freedom would be 0 / 0
            return cls(effect, 0.0, float(sum(sizes) - len(sizes)))
        parts = (square**2 / (size - 1) for square, size in zip(squares, sizes, strict=True))
        return cls(effect, float(total**0.5), float(total**2 / sum(parts)))

    @classmethod
    def of_means(cls, samples: Sequence[Floats]) -> Estimate:
        """Take the sum of the means of independent samples; NaN where one is empty.

        Examples
        --------
        >>> dd.analysis.seeds.Estimate.of_means([np.array([1.0, 2.0, 3.0]), np.array([10.0, 12.0])]).effect
        13.0
        """
        if not all(x.size for x in samples):
            return cls(float("nan"))
        effect = float(sum(x.mean() for x in samples))
        if min(x.size for x in samples) < 2:
            return cls(effect)
        return cls.of(effect, [float(x.var(ddof=1)) / x.size for x in samples], [x.size for x in samples])

    def interval(self, level: float) -> tuple[float, float]:
        """Return the two-sided t interval; ``level`` is its coverage, if the values are normal.

        Examples
        --------
        >>> low, high = dd.analysis.seeds.Estimate(effect=0.5, error=0.1, degrees=4).interval(0.95)
        >>> round(low, 3), round(high, 3)
        (0.222, 0.778)
        """
        half = float(stdtrit(self.degrees, 0.5 + level / 2.0)) * self.error if self.error else self.error
        return self.effect - half, self.effect + half

    def p(self, threshold: float = 0.0) -> float:
        """Return Student's (Welch's) two-sided p that the truth is the threshold; NaN without an error of its own.

        Examples
        --------
        >>> round(dd.analysis.seeds.Estimate(effect=0.5, error=0.1, degrees=4).p(), 4)
        0.0075
        """
        if not self.error > 0.0:  # values that do not differ: t would be infinite, or 0 / 0
            return float("nan")
        return float(2.0 * stdtr(self.degrees, -abs(self.effect - threshold) / self.error))


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its two-sided Student t interval.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        Independent replicates, one a seed; NaN is left out.
    level : float
        Coverage, if the replicates are normal.

    Returns
    -------
    mean, low, high : float
        The interval is NaN for fewer than two replicates, the mean for none.

    Examples
    --------
    >>> mean, low, high = dd.analysis.seeds.t_interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(low, 3), round(high, 3)
    (2.0, -0.484, 4.484)
    """
    x = np.asarray(values, dtype=np.float64)
    estimate = Estimate.of_means([x[~np.isnan(x)]])
    return estimate.effect, *estimate.interval(level)


def difference(condition: Floats, baseline: Floats, *, paired: bool) -> Estimate:
    """Difference of two means: of the paired differences, or of independent samples (Welch).

    Parameters
    ----------
    condition, baseline : ndarray of float64, shapes (n,) and (m,)
        One finite value a run.
    paired : bool
        Whether value i of both is of the same seed.

    Returns
    -------
    Estimate
        Without an error for fewer than two values on a side.

    Examples
    --------
    >>> other, base = np.array([1.1, 1.3, 1.2]), np.array([1.0, 1.1, 1.0])
    >>> round(dd.analysis.seeds.difference(other, base, paired=True).effect, 3)
    0.167
    """
    return Estimate.of_means([condition - baseline] if paired else [condition, -baseline])


@dataclass(frozen=True)
class SeedPairing:
    """Runs of a condition and of its baseline, by label (`Runs.labels`).

    Attributes
    ----------
    condition, baseline : tuple of str
        Paired: run i of both has the same seed.
    paired : bool
    alone : tuple of str
        Runs left out of the pairs because no run of the other side has their seed.
    note : str
        Why they are not paired, and which seeds are in both conditions: a sentence without its full stop. Empty where
        they are paired.

    Examples
    --------
    >>> pairing = dd.analysis.seeds.pair_by_seed(runs, "Dropout", "No dropout")
    >>> pairing.condition, pairing.baseline
    (('dropout-s0', 'dropout-s1', 'dropout-s2'), ('base-s0', 'base-s1', 'base-s2'))
    """

    condition: tuple[str, ...]
    baseline: tuple[str, ...]
    paired: bool
    alone: tuple[str, ...] = ()
    note: str = field(default="", compare=False)  # words, which make no other pairing

    @property
    def runs(self) -> tuple[str, ...]:
        """Runs of both sides, the condition's first.

        Examples
        --------
        >>> len(dd.analysis.seeds.pair_by_seed(runs, "Dropout", "No dropout").runs)
        6
        """
        return (*self.condition, *self.baseline)

    def having(self, known: Container[str]) -> SeedPairing:
        """Return the runs that have a value; a pair is dropped where one of its two runs has none.

        Examples
        --------
        >>> pairing = dd.analysis.seeds.pair_by_seed(runs, "Dropout", "No dropout")
        >>> pairing.having({"base-s0", "dropout-s0", "dropout-s1"}).condition
        ('dropout-s0',)
        """
        if self.paired:
            both = [(one, other) for one, other in zip(self.condition, self.baseline, strict=True)
                    if one in known and other in known]  # fmt: skip
            return replace(self, condition=tuple(a for a, _ in both), baseline=tuple(b for _, b in both))
        mine, theirs = (tuple(run for run in side if run in known) for side in (self.condition, self.baseline))
        return replace(self, condition=mine, baseline=theirs)


def pair_by_seed(runs: Runs, condition: str, baseline: str) -> SeedPairing:
    """Pair two conditions by seed, where their seeds allow it.

    Parameters
    ----------
    runs : Runs
    condition, baseline : str

    Returns
    -------
    SeedPairing
        Paired where every run has a seed, none comes twice in a condition, and the seeds of one condition are all
        among those of the other; runs without a partner are then left out. Else all runs, as independent samples.
        A condition beside itself is paired run by run.

    Examples
    --------
    >>> dd.analysis.seeds.pair_by_seed(runs, "Dropout", "No dropout").paired
    True
    """
    mine, theirs = ({label: run.seed for run, label in zip(runs, runs.labels(), strict=True) if run.condition == name}
                    for name in (condition, baseline))  # fmt: skip
    if condition == baseline:
        return SeedPairing(tuple(mine), tuple(mine), paired=True)
    # a seed that comes twice loses a run here: the sizes then differ, and nobody can say which two belong together
    left, right = ({seed: label for label, seed in side.items()} for side in (mine, theirs))
    whole = None not in left.keys() | right.keys() and (len(left), len(right)) == (len(mine), len(theirs))
    common = [seed for seed in right if seed in left]
    # seeds that overlap only in part are independent runs: pairing a few of them would throw most away
    if not whole or not common or len(common) < min(len(left), len(right)):
        note = _why_not({condition: list(mine.values()), baseline: list(theirs.values())})
        return SeedPairing(tuple(mine), tuple(theirs), paired=False, note=note)
    alone = [label for side in (left, right) for seed, label in side.items() if seed not in right or seed not in left]
    return SeedPairing(tuple(left[s] for s in common), tuple(right[s] for s in common), paired=True, alone=tuple(alone))


def _why_not(seeds: Mapping[str, Sequence[int | None]]) -> str:
    """Say why two conditions are not paired by their seeds."""
    one, other = (set(side) - {None} for side in seeds.values())
    reasons = []
    for name, side in seeds.items():
        twice = [seed for seed, times in Counter(side).items() if times > 1 and seed is not None]
        reasons += [f"{_seeds(twice)} {'comes' if len(twice) == 1 else 'come'} twice in {name!r}"] if twice else []
        reasons += [f"{side.count(None)} of {len(side)} runs of {name!r} have no seed"] if None in side else []
    shared = f"{_seeds(one & other)} {'is' if len(one & other) == 1 else 'are'} in both" if one & other else ""
    if not reasons:
        alone = [
            f"{_seeds(mine)} in {name!r} alone" for name, mine in zip(seeds, (one - other, other - one), strict=True)
        ]
        reasons = [", ".join([shared, *alone])] if shared else ["no seed is in both"]
    elif shared:
        reasons.append(shared)
    return f"not paired by seed: {'; '.join(reasons)}; all runs are taken as independent"


def _seeds(seeds: Collection[int | None]) -> str:
    names = [str(seed) for seed in sorted(seed for seed in seeds if seed is not None)]
    return f"{'seed' if len(names) == 1 else 'seeds'} {some(names, 8)}"


def sides_of(
    values: Mapping[str, float], pairing: SeedPairing, *, logs: bool = False
) -> tuple[SeedPairing, Floats, Floats]:
    """Take the values of both sides, as far as they are finite (and positive, where logarithms are taken).

    Parameters
    ----------
    values : mapping of str to float
        Label of a run -> its value; a run may be missing.
    pairing : SeedPairing
    logs : bool
        Whether to return natural logarithms.

    Returns
    -------
    used : SeedPairing
        The runs that have a value.
    condition, baseline : ndarray of float64
        Their values, in the order of ``used``.
    """
    mine, theirs = (_values(values, side) for side in (pairing.condition, pairing.baseline))
    usable = [np.isfinite(side) & ((side > 0.0) | (not logs)) for side in (mine, theirs)]
    used = pairing
    if not (usable[0].all() and usable[1].all()):  # rare: thousands of labels are else looked up for nothing
        used = pairing.having(set(compress(pairing.runs, np.concatenate(usable))))
        mine, theirs = (_values(values, side) for side in (used.condition, used.baseline))
    return (used, np.log(mine), np.log(theirs)) if logs else (used, mine, theirs)


def _values(values: Mapping[str, float], side: Sequence[str]) -> Floats:
    return np.array([values.get(label, np.nan) for label in side], dtype=np.float64)


def ratio_to_baseline(values: Mapping[str, float], pairing: SeedPairing) -> dict[str, float]:
    """Ratio of two conditions: that of geometric means over seeds, with the t interval of its logarithm.

    Parameters
    ----------
    values : mapping of str to float
        Label of a run -> its value; those that are not positive and finite are left out, with their partners.
    pairing : SeedPairing

    Returns
    -------
    dict
        ratio; ratio_low, ratio_high (95 %; NaN for fewer than two runs on a side); pairs (of seeds; 0 where the
        runs are not paired and both sides are taken as independent samples, as `dropdiag.compare` does).

    Examples
    --------
    >>> pairing = dd.analysis.seeds.pair_by_seed(runs, "Dropout", "No dropout")
    >>> values = dict.fromkeys(pairing.condition, 3.0) | dict.fromkeys(pairing.baseline, 2.0)
    >>> round(dd.analysis.seeds.ratio_to_baseline(values, pairing)["ratio"], 3)
    1.5
    """
    used, mine, theirs = sides_of(values, pairing, logs=True)
    found = difference(mine, theirs, paired=used.paired)
    with np.errstate(over="ignore"):  # the interval of two runs may reach to infinity
        ratio, low, high = np.exp([found.effect, *found.interval(0.95)])
    pairs = len(used.condition) if used.paired else 0
    return {"ratio": float(ratio), "ratio_low": float(low), "ratio_high": float(high), "pairs": pairs}
