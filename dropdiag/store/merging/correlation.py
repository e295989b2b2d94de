"""Covariances of several ranks' nodes as those over all their samples, and what is told of the correlation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.merging.multiple_correlation import multiple_correlation, null_multiple_correlation

Floats = NDArray[np.float64]

RANK: Final = "effective_rank"
SAMPLES: Final = "node_correlation_samples"
WIDTH: Final = "node_correlation_width"
ABS_MEAN: Final = "node_correlation_abs_mean"
RATIO: Final = "participation_ratio"
MULTIPLE: Final = "multiple_correlation"
MULTIPLE_NULL: Final = "multiple_correlation_null"
ADDED: Final = ("node_correlation_nodes", "constant_nodes")
VALUES: Final = (ABS_MEAN, RATIO, SAMPLES, *ADDED, WIDTH, RANK, MULTIPLE, MULTIPLE_NULL)
"""What a state gives of a layer; a rank's width is its own to say, for of many nodes some alone are correlated."""
INVERTED: Final = frozenset({RANK, MULTIPLE, MULTIPLE_NULL})
"""Those that cost more than the correlation does: they are taken where they are asked for."""


class Covariance(NamedTuple):
    """Covariance of d nodes over n samples.

    Attributes
    ----------
    n : int
    mean, low, high : ndarray of float64, shape (d,)
        Of each node, its minimum and its maximum.
    upper : ndarray of float64, shape (d (d + 1) / 2,)
        The covariance divided by n: its upper triangle with the diagonal, row by row.
    """

    n: int
    mean: Floats
    low: Floats
    high: Floats
    upper: Floats

    @classmethod
    def of(cls, n: int, nodes: int, state: Floats) -> Covariance:
        """Return what a state holds: mean, minimum, maximum, and the covariance's upper triangle."""
        return cls(n, *np.split(state, [nodes, 2 * nodes, 3 * nodes]))

    def matrix(self) -> Floats:
        """Return the covariance, shape (d, d)."""
        full = np.empty((len(self.mean), len(self.mean)))
        rows, columns = _triangle(len(self.mean))
        full[rows, columns] = full[columns, rows] = self.upper
        return full


@lru_cache(maxsize=4)
def _triangle(nodes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(nodes)


def merged(parts: Sequence[Covariance]) -> Covariance:
    """Return the covariance over the samples of all parts (Chan, Golub and LeVeque 1983, of any number at once)."""
    if len(parts) == 1:
        return parts[0]
    n, first = sum(part.n for part in parts), parts[0].mean
    with np.errstate(invalid="ignore", over="ignore"):  # a node that has diverged
        mean = first + sum(part.n / n * (part.mean - first) for part in parts)
        upper = np.zeros_like(parts[0].upper)
        rows, columns = _triangle(len(mean))
        for part in parts:
            off = part.mean - mean
            upper += part.n / n * (part.upper + off[rows] * off[columns])
    low = np.minimum.reduce([part.low for part in parts])
    return Covariance(n, mean, low, np.maximum.reduce([part.high for part in parts]), upper)


class Correlation(NamedTuple):
    """What is told of one layer's correlation.

    Attributes
    ----------
    values : dict of str to float or None
        Some of `VALUES`; None where missing.
    histogram : Histogram
        Of r over pairs.
    """

    values: dict[str, float | None]
    histogram: Histogram


def correlation(shards: Mapping[int, Sequence[Covariance]], wanted: Collection[str] = ()) -> Correlation:
    """Return what is told of the correlation of a layer's nodes.

    Parameters
    ----------
    shards : mapping to sequence of Covariance
        The parts to be merged of each shard: different shards hold different nodes of the layer, mostly one holds all.
    wanted : collection of str
        Which of `INVERTED` to take as well.

    Notes
    -----
    Of several shards, the pairs are those within each. What is a matter of the whole matrix is then missing.
    """
    found = [_of_shard(merged(parts), wanted if len(shards) == 1 else ()) for parts in shards.values()]
    if len(found) == 1:
        return found[0]
    values = {name: [one.values[name] or 0.0 for one in found] for name in (ABS_MEAN, SAMPLES, *ADDED)}
    pairs = [one.histogram.n for one in found]
    # that of one without a pair is NaN, and weighs nothing
    weighed = sum(mean * n for mean, n in zip(values[ABS_MEAN], pairs, strict=True) if n)
    told: dict[str, float | None] = {
        ABS_MEAN: weighed / sum(pairs) if sum(pairs) else float("nan"),
        RATIO: None,
        **dict.fromkeys(INVERTED),
        SAMPLES: max(values[SAMPLES]),
    }
    sums = {name: float(sum(values[name])) for name in ADDED}
    histogram = sum((one.histogram for one in found[1:]), found[0].histogram)
    return Correlation({**told, **sums}, histogram)


def _of_shard(over: Covariance, wanted: Collection[str]) -> Correlation:
    constant = over.low == over.high
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        covariance = over.matrix()
        scale = 1.0 / np.sqrt(np.where(constant, np.nan, covariance.diagonal()))
        r = np.clip(covariance * scale[:, None] * scale[None, :], -1.0, 1.0)
    kept = ~np.isnan(r.diagonal())
    r = r[np.ix_(kept, kept)]
    rows, columns = _triangle(len(r))
    pairs = r[rows, columns][rows != columns]
    pairs = pairs[~np.isnan(pairs)]
    values: dict[str, float | None] = {
        ABS_MEAN: float(np.abs(pairs).mean()) if len(pairs) else float("nan"),
        RATIO: _participation_ratio(r),
        SAMPLES: float(over.n),
        **dict(zip(ADDED, (float((~constant).sum()), float(constant.sum())), strict=True)),
    }
    if RANK in wanted:
        values[RANK] = _effective_rank(r)
    varying = int((~constant).sum())  # those that have diverged among them
    if MULTIPLE in wanted:
        values[MULTIPLE] = multiple_correlation(r, over.n) if len(r) == varying else float("nan")
    if MULTIPLE_NULL in wanted:
        values[MULTIPLE_NULL] = null_multiple_correlation(varying, over.n)
    return Correlation(values, Histogram.from_values(pairs))


def _participation_ratio(r: Floats) -> float:
    square = float(np.nansum(r**2))
    return float(np.nansum(r.diagonal())) ** 2 / square if square else float("nan")


def _effective_rank(r: Floats) -> float:
    """Return exp of the entropy of the normalised eigenvalues; NaN without any node, or of one that has diverged."""
    if not len(r) or not np.isfinite(r).all():
        return float("nan")
    shares = np.linalg.eigvalsh(r).clip(min=0.0)
    shares = shares[shares > 0.0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
