"""How often does the interval of W1 hold the truth? The table of docs/claims.md.

Each run's values are so many that its distribution function is known; what varies are the seeds, by place, width or
shape of their values, with normal, skewed (exponential) or heavy-tailed (t, 3 degrees of freedom) effects. The truth is
the distance between the averages of 40,000 seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from dropdiag.analysis.compare import effects
from dropdiag.analysis.compare.resampling import Design, Sums

pytestmark = pytest.mark.slow

Floats = NDArray[np.float64]
TIMES = 600
GRID = np.linspace(-14, 16, 601)
DESIGNS = [(n, n, True) for n in (2, 3, 5, 10)] + [(n, n, False) for n in (2, 3, 5, 10)]
DESIGNS += [(2, 5, False), (3, 10, False), (5, 10, False)]
# what differs between seeds, and by how much conditions differ: not, about as seeds do, by far more
VARYING: dict[str, tuple[Callable[[Floats], Floats], tuple[float, ...]]] = {
    "place": (lambda u: ndtr(GRID - u[..., None]), (0.0, 0.3, 1.5)),
    "width": (lambda u: ndtr(GRID / np.exp(np.clip(u[..., None], -3, 1.6))), (0.0, 0.2, 0.8)),
    "shape": (lambda u: _mixture(1 / (1 + np.exp(1 - u))[..., None]), (0.0, 0.9, 3.0)),
}
SPREAD = {"place": 0.3, "width": 0.2, "shape": 1.0}
SEEDS: dict[str, Callable[..., Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    "heavy tails": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
}
DIFFERENCES = ("none", "small", "large")
LEAST = {"equal": 0.90, "unequal": 0.83}
"""What docs/claims.md says that coverage does not fall below, over all cases."""


def _mixture(part: Floats) -> Floats:
    return (1 - part) * ndtr(GRID) + part * ndtr(GRID / 3)


def wasserstein(sums: Sums) -> Floats:
    """W1 as `PooledCounts` has it, of distribution functions in place of cumulative counts."""
    mine, theirs = sums
    apart = np.abs(mine / mine[:, -1:] - theirs / theirs[:, -1:])
    return np.asarray(apart[:, :-1] @ np.diff(GRID))


@cache
def truth(varying: str, seeds: str, difference: float) -> float:
    if difference == 0:
        return 0.0
    of, _ = VARYING[varying]
    parts = np.split(SPREAD[varying] * SEEDS[seeds](np.random.default_rng(9), 40_000), 40)
    mine, theirs = (np.mean([of(part + shift).mean(axis=0) for part in parts], axis=0) for shift in (difference, 0.0))
    return float(wasserstein(Sums(mine[None], theirs[None]))[0])


def coverage(varying: str, seeds: str, difference: float, n: int, m: int, paired: bool) -> float:
    of, _ = VARYING[varying]
    rng, true, held = np.random.default_rng([n, m, paired]), truth(varying, seeds, difference), 0
    for _ in range(TIMES):
        drawn = [SEEDS[seeds](rng, size) for size in (n, m)]
        if paired:  # half of the variance is the seed's, whatever the condition
            common = SEEDS[seeds](rng, n)
            drawn = [np.sqrt(0.5) * (common + own) for own in drawn]
        rows = np.concatenate([of(SPREAD[varying] * drawn[0] + difference), of(SPREAD[varying] * drawn[1])])
        found = effects.assess(wasserstein, rows, Design(n, m, paired), floor=0.0)
        held += found.low <= true + 1e-12 and true <= found.high
    return held / TIMES


@pytest.mark.parametrize(("n", "m", "paired"), DESIGNS)
def test_the_table_of_coverage(n: int, m: int, paired: bool, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(effects, "_relabelled_p", lambda *_: 1.0, raising=False)  # no p is looked at, and it takes long
    found = {
        (seeds, name): [coverage(varying, seeds, values[i], n, m, paired) for varying, (_, values) in VARYING.items()]
        for seeds in SEEDS
        for i, name in enumerate(DIFFERENCES)
    }
    cells = [f"{min(found[key]):.2f}-{max(found[key]):.2f}" for key in found]
    with capsys.disabled():
        sys.stdout.write(f"\n| {f'{n} pairs' if paired else f'{n} and {m}'} | {' | '.join(cells)} |")
    least = LEAST["equal" if n == m else "unequal"]
    error = 3 * np.sqrt(least * (1 - least) / TIMES)
    for key, values in found.items():
        assert min(values) > least - error, key
