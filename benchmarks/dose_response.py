"""How often the best dose is left out, a worse one is found, and a trend is seen: runs of which the truth is known.

    python benchmarks/dose_response.py [--times 4000]

prints the tables of docs/dose-response.md. Tables of numbers are drawn in place of networks: a row a seed, which has a
part in common at all doses, a column a dose, and a part that each run has of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dropdiag.analysis.dose_response.best import cannot_be_told_from_best
from dropdiag.analysis.dose_response.trend import trend

ALPHA: Final = 0.05
FAR: Final = 2.0
"""Standard deviations of one dose's runs, its seeds' common part left out, by which a worse dose is worse."""
Floats = NDArray[np.float64]
SHAPES: Final[dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy": lambda rng, size: rng.standard_t(3, size=size) / np.sqrt(3.0),
    "low tail": lambda rng, size: 1.0 - rng.exponential(size=size),
    "high tail": lambda rng, size: rng.exponential(size=size) - 1.0,
}
"""Shape of what a run has of its own: mean 0, standard deviation 1."""


@dataclass(frozen=True)
class World:
    """Runs to be drawn, and the truth about them.

    Attributes
    ----------
    means : sequence of float
        Of the doses; the first one is a best one.
    sd : sequence of float
        Standard deviation of each dose's runs.
    shape : str
        One of `SHAPES`.
    common : float
        Standard deviation of what a seed has at all doses.
    rounded : bool
        Whether values are rounded to whole standard deviations, so that most are tied.
    """

    means: Sequence[float]
    sd: Sequence[float]
    shape: str = "normal"
    common: float = 1.0
    rounded: bool = False

    def draw(self, rng: np.random.Generator, seeds: int) -> Floats:
        """Draw the values of some seeds."""
        own = SHAPES[self.shape](rng, (seeds, len(self.means))) * np.array(self.sd)
        values = np.array(self.means) + own + self.common * rng.normal(size=(seeds, 1))
        return np.round(values) if self.rounded else values


def alike(doses: int) -> dict[str, World]:
    """Return worlds in which no dose is better than another: each is the best, and must not be left out."""
    ones, flat = [1.0] * doses, [0.0] * doses
    return {
        "alike": World(flat, ones),
        "best sd 4": World(flat, [4.0, *ones[1:]]),
        "best sd 1/4": World(flat, [0.25, *ones[1:]]),
        "another sd 4": World(flat, [*ones[1:], 4.0]),
        "sd 1 to 4": World(flat, np.linspace(1.0, 4.0, doses).tolist()),
        "heavy tails": World(flat, ones, "heavy"),
        "skewed": World(flat, ones, "low tail"),
        "tied": World(flat, ones, rounded=True),
        "half worse": World([0.0] * (doses - doses // 2) + [-3.0] * (doses // 2), ones),
        "skewed, best sd 4": World(flat, [4.0, *ones[1:]], "high tail"),
    }


def missed(world: World, seeds: int, times: int, seed: int = 0) -> float:
    """Return how often the first dose, a best one, is outside."""
    return _share(world, seeds, times, seed, lambda inside: not inside[0])


def power(doses: int, seeds: int, times: int, seed: int = 0) -> dict[str, float]:
    """Return how often a dose that is `FAR` worse is outside: the only worse one, one of all but the best, and all."""
    ones = [1.0] * doses
    one = World([*([0.0] * (doses - 1)), -FAR], ones)
    others = World([0.0, *([-FAR] * (doses - 1))], ones)
    return {
        "the only worse one": _share(one, seeds, times, seed, lambda inside: not inside[-1]),
        "one of all others": _share(others, seeds, times, seed, lambda inside: not inside[-1]),
        "all others": _share(others, seeds, times, seed, lambda inside: not any(inside[1:])),
    }


def _ours(values: Floats) -> Sequence[bool]:
    return cannot_be_told_from_best(values, less_is_better=False, alpha=ALPHA).inside


def _bonferroni(values: Floats) -> Sequence[bool]:
    """Each dose beside each other one by the paired t, at its share of alpha."""
    apart = values[:, None, :] - values[:, :, None]
    error = np.maximum(apart.std(axis=0, ddof=1) / np.sqrt(len(values)), 1e-300)
    doses = values.shape[1]
    return (apart.mean(axis=0) / error <= stats.t.ppf(1.0 - ALPHA / (doses - 1), len(values) - 1)).all(axis=1).tolist()


def _pooled(values: Floats) -> Sequence[bool]:
    """Hsu's comparisons with the best: one variance of all doses, the seeds' own parts taken out (Hsu 1984)."""
    seeds, doses = values.shape
    means = values.mean(axis=0)
    left = values - values.mean(axis=1, keepdims=True) - means + values.mean()
    degrees = (seeds - 1) * (doses - 1)
    error = np.sqrt(2.0 * (left**2).sum() / degrees / seeds)
    return ((means.max() - means) / error <= _dunnett(doses, degrees)).tolist()


@cache
def _dunnett(doses: int, degrees: int, draws: int = 200_000) -> float:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(draws, doses))
    apart = (values[:, 1:].max(axis=1) - values[:, 0]) / np.sqrt(2.0)
    return float(np.quantile(apart / np.sqrt(rng.chisquare(degrees, draws) / degrees), 1.0 - ALPHA))


def others(seeds: int, doses: int, times: int) -> Iterator[str]:
    """Yield what other ways to make the set would do."""
    worlds, ones = alike(doses), [1.0] * doses
    one, every = World([*([0.0] * (doses - 1)), -FAR], ones), World([0.0, *([-FAR] * (doses - 1))], ones)
    for name, make in (("ours", _ours), ("paired t, Bonferroni", _bonferroni), ("pooled variance (Hsu)", _pooled)):
        shares = [_share(worlds[world], seeds, times, 0, lambda inside: not inside[0], make)
                  for world in ("alike", "best sd 4", "another sd 4", "sd 1 to 4")]  # fmt: skip
        shares += [_share(world, seeds, times, 0, lambda inside: not inside[-1], make) for world in (one, every)]
        yield f"| {seeds} seeds, {doses} doses: {name} | {' | '.join(f'{share:.3f}' for share in shares)} |"


def _share(
    world: World, seeds: int, times: int, seed: int, holds: Callable[[Sequence[bool]], bool],
    make: Callable[[Floats], Sequence[bool]] = _ours,
) -> float:  # fmt: skip
    rng = np.random.default_rng([seed, seeds, len(world.means)])
    return sum(holds(make(world.draw(rng, seeds))) for _ in range(times)) / times


def trends(world: World, seeds: int, times: int, seed: int = 0) -> float:
    """Return how often a trend is seen at alpha."""
    rng = np.random.default_rng([seed, seeds, len(world.means)])
    return sum(trend(world.draw(rng, seeds)).p <= ALPHA for _ in range(times)) / times


def trend_worlds(doses: int) -> dict[str, World]:
    """Return worlds without a trend, and such in which the last dose is some standard deviations above the first."""
    ones, places = [1.0] * doses, np.linspace(0.0, 1.0, doses)
    return {
        "none": World([0.0] * doses, ones),
        "none, sd 1 to 4": World([0.0] * doses, np.linspace(1.0, 4.0, doses).tolist()),
        "none, heavy tails": World([0.0] * doses, ones, "heavy"),
        "none, tied": World([0.0] * doses, ones, rounded=True),
        "rises by 1 sd": World(places.tolist(), ones),
        "rises by 2 sd": World((2.0 * places).tolist(), ones),
        "rises by 3 sd": World((3.0 * places).tolist(), ones),
        "rises and falls by 3 sd": World((3.0 * (1.0 - np.abs(2.0 * places - 1.0))).tolist(), ones),
    }


def rows(times: int) -> Iterator[str]:
    """Yield the tables, a line at a time."""
    names = [*alike(3)]
    yield f"| the true best is outside | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for seeds in (3, 5, 10):
        for doses in (2, 3, 5, 9):
            shares = [missed(world, seeds, times) for world in alike(doses).values()]
            yield f"| {seeds} seeds, {doses} doses | {' | '.join(f'{share:.3f}' for share in shares)} |"
    yield ""
    yield f"| {FAR:g} sd worse, and outside | the only worse one | one of all others | all others |"
    yield "|---|---|---|---|"
    for seeds in (3, 5, 10):
        for doses in (2, 3, 5, 9):
            shares = [*power(doses, seeds, times).values()]
            yield f"| {seeds} seeds, {doses} doses | {' | '.join(f'{share:.2f}' for share in shares)} |"
    yield ""
    yield "| | alike: outside | best sd 4 | another sd 4 | sd 1 to 4 | the only worse one | one of all others |"
    yield "|---|---|---|---|---|---|---|"
    for doses in (3, 5, 9):
        yield from others(5, doses, times)
    yield ""
    names = [*trend_worlds(3)]
    yield f"| a trend is seen | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for seeds in (2, 3, 5, 10):
        for doses in (2, 3, 5, 9):
            if doses > 2 or seeds > 2:
                shares = [trends(world, seeds, times) for world in trend_worlds(doses).values()]
                yield f"| {seeds} seeds, {doses} doses | {' | '.join(f'{share:.3f}' for share in shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=4000, help="tables of numbers a cell")
    for line in rows(parser.parse_args().times):
        print(line, flush=True)


if __name__ == "__main__":
    main()
