"""How often advice is wrong, and how often right: sweeps of which the truth is known, put to the rules themselves.

    python benchmarks/advice.py [--times 1000]

prints the table of docs/advice.md. Numbers of runs are drawn in place of networks: a part that a seed has at all rates,
one that a run has of its own, and one of each evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.advice.advice import Advice, judge
from dropdiag.analysis.advice.case import WITHOUT_MASKS, Case
from dropdiag.analysis.advice.outcome import Outcome, Series
from dropdiag.analysis.advice.table import INSIDE, OUTSIDE

Floats = NDArray[np.float64]
ALPHA: Final = 0.05
SD: Final = 0.004
"""Standard deviation of what a run has of its own at its end; that of the difference of two is √2 times as great."""
OF_SEED: Final = 1.5
"""That of what a seed has at all rates, in `SD`."""
EVALUATIONS: Final = 15
JITTER: Final = 0.5
"""That of one evaluation, in `SD`."""
STEPS: Final = 1500
VALIDATION, TEST = Series("validation", "accuracy"), Series("test", "accuracy")
SHAPES: Final[Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "skewed": lambda rng, size: rng.exponential(size=size) - 1.0,
    "heavy tails": lambda rng, size: rng.standard_t(3, size=size) / np.sqrt(3.0),
}
"""Shape of what a run has of its own: mean 0, standard deviation 1."""


@dataclass(frozen=True)
class World:
    """A sweep to be drawn, and the truth about it.

    Attributes
    ----------
    means : tuple of float
        True means at the rates, in standard deviations of a pair's difference; the greatest is the best.
    seeds : int
    gap : float
        True gap at the lowest rate, in standard deviations of a run.
    rising : tuple of float
        By how much each rate still gets better in its last third, in standard deviations of a run; one for all.
    shape : str
        One of `SHAPES`.
    spread : float
        Standard deviation of the highest rate's runs beside those of the lowest; in between it grows evenly.
    paired : bool
    gaaf : float or None
        Mean of a condition with GAAF, on the scale of ``means``.
    """

    means: tuple[float, ...]
    seeds: int = 5
    gap: float = 0.0
    rising: tuple[float, ...] = (0.0,)
    shape: str = "normal"
    spread: float = 1.0
    paired: bool = True
    gaaf: float | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        rates = tuple(f"rate={0.1 * i:g}" for i in range(len(self.means)))
        return rates if self.gaaf is None else (*rates, "GAAF")

    @property
    def truth(self) -> Floats:
        """True means, GAAF's last."""
        return np.array(self.means if self.gaaf is None else (*self.means, self.gaaf)) * SD * np.sqrt(2.0)

    @property
    def rises(self) -> Floats:
        """True improvement of each condition over the last third."""
        return np.broadcast_to(np.array(self.rising), (len(self.conditions),)) * SD

    def draw(self, rng: np.random.Generator) -> Case:
        """Draw what was recorded of all runs."""
        n, k, own = self.seeds, len(self.conditions), SHAPES[self.shape]
        of_seed = OF_SEED * (rng.normal(size=(n, 1)) if self.paired else rng.normal(size=(n, k)))
        part = np.sqrt(1.0 - JITTER**2)  # with that of the last evaluation it makes 1
        last = self.truth + SD * (of_seed + part * own(rng, (n, k)) * np.linspace(1.0, self.spread, k))
        late = (np.arange(EVALUATIONS) + 1.0) / EVALUATIONS
        # over the last third it rises evenly by that, and before it faster
        curve = last[..., None] + 3.0 * self.rises[:, None] * (late - 1.0) - 0.3 * np.exp(-late * 14.0)
        curve = curve + SD * JITTER * rng.normal(size=(n, k, EVALUATIONS))
        training = curve[..., -1] + self.gap * SD + SD * own(rng, (n, k))
        return self._case(curve, training)

    def _case(self, curve: Floats, training: Floats) -> Case:
        n, k, e = curve.shape
        place, who = np.meshgrid(np.arange(n), np.arange(k), indexing="ij")
        condition = np.array(self.conditions, dtype=object)[who.ravel()]
        seed = place.ravel() if self.paired else (100 * who + place).ravel()
        names = [f"{c}-s{s:03d}" for c, s in zip(condition, seed, strict=True)]
        runs = pd.DataFrame({
            "condition": condition, "seed": seed, "run": names,
            "chosen": curve[..., -1].ravel(), "reported": curve[..., -1].ravel(), "steps": float(STEPS),
        })  # fmt: skip
        steps = np.tile(np.arange(1, e + 1) * STEPS // e, n * k)
        evaluations = runs.loc[runs.index.repeat(e), ["condition", "seed", "run"]].assign(
            step=steps, value=curve.ravel()
        )
        gaps = runs[["condition", "seed", "run"]].assign(training=training.ravel(), held_out=runs["chosen"])
        return Case(
            self.conditions, runs, Outcome(VALIDATION, TEST), evaluations, gaps, "rate",
            {name: 0.1 * i for i, name in enumerate(self.conditions[: len(self.means)])}, ALPHA,
            gaafs=() if self.gaaf is None else ("GAAF",), gap_of="accuracy", gap_on=WITHOUT_MASKS,
        )  # fmt: skip


def best(world: World) -> list[str]:
    """Return the best condition; where several are equally good, all of them."""
    return [name for name, mean in zip(world.conditions, world.truth, strict=True) if mean == world.truth.max()]


def outside(found: Advice) -> set[str]:
    """Return the conditions that are called worse than the best."""
    return set(found.table.loc[found.table["verdict"] == OUTSIDE, "condition"])


def beside_rates(found: Advice, world: World) -> bool:
    """Whether a gap, or a lack of convergence, is asserted that is not there."""
    rises = dict(zip(world.conditions, world.rises, strict=True)) | {"": float(world.rises.mean())}
    asserted = [one for one in found.findings if one.found]
    gap = any(one.rule == "gap" for one in asserted) and world.gap <= 0.0
    return gap or any(one.rule == "convergence" and rises[one.condition] <= 0.0 for one in asserted)


@dataclass
class Tally:
    """What came out of many sweeps.

    Where several conditions are equally good, the last of them is taken for the best; ``any_lost`` counts sweeps in
    which any of them is called worse.
    """

    times: int = 0
    lost: int = 0
    wrong: int = 0
    any_lost: int = 0
    exact: int = 0
    gap: int = 0
    truncated: int = 0

    def add(self, found: Advice, world: World) -> None:
        out, false = outside(found), beside_rates(found, world)
        inside = set(found.table.loc[found.table["verdict"] == INSIDE, "condition"])
        self.times += 1
        self.lost += best(world)[-1] in out
        self.wrong += best(world)[-1] in out or false
        self.any_lost += bool(out & set(best(world)))
        self.exact += inside == set(best(world))
        self.gap += any(one.rule == "gap" and one.found for one in found.findings)
        self.truncated += "had not converged" in found.sentence

    def share(self, name: str) -> float:
        """Share of sweeps in which something was said."""
        return float(getattr(self, name) / self.times)


def simulate(world: World, times: int, seed: int = 0) -> Tally:
    """Draw sweeps, ask for advice, and count."""
    rng, tally = np.random.default_rng(seed), Tally()
    for _ in range(times):
        tally.add(judge(world.draw(rng)), world)
    return tally


FLAT: Final = (0.0, 0.0, 0.0, 0.0)
NULLS: Final = {
    **{f"no difference, {n} seeds": World(FLAT, n) for n in (2, 3, 5, 10)},
    "no difference, 8 rates": World((0.0,) * 8),
    "no difference, seeds that do not pair": World(FLAT, paired=False),
    "no difference, the highest rate 3 times as scattered": World(FLAT, spread=3.0),
    "no difference, GAAF as good": World(FLAT, gaaf=0.0),
    "no difference, skewed": World(FLAT, shape="skewed"),
    "no difference, skewed, 10 seeds": World(FLAT, 10, shape="skewed"),
    "no difference, heavy tails": World(FLAT, shape="heavy tails"),
    "one rate best by 0.5 sd": World((0.0, -0.5, -0.5, -0.5)),
    "two rates best, others 2 sd behind": World((0.0, 0.0, -2.0, -2.0)),
    "a gap of 10 sd": World(FLAT, gap=10.0),
}
"""Worlds in which something is to be found by chance alone."""
EFFECTS: Final = {
    **{f"{k} rates, one best by {e:g} sd, {n} seeds": World((0.0, *(-e,) * (k - 1)), n, gap=10.0)
       for k, e, n in ((2, 2.0, 5), (3, 2.0, 5), (4, 2.0, 5), (6, 2.0, 5), (4, 2.0, 3), (4, 2.0, 8), (4, 1.0, 10),
                       (4, 4.0, 5))},
    "dose and response: 0, 2, 4, 6 sd behind, 5 seeds": World((0.0, -2.0, -4.0, -6.0), gap=10.0),
    "the same without a gap": World((0.0, -2.0, -4.0, -6.0)),
    "rate 0.1 best, 0 and 0.2 by 2 sd behind, 0.3 by 4": World((-2.0, 0.0, -2.0, -4.0), gap=10.0),
}  # fmt: skip
GAPS: Final = {f"gap of {gap:g} sd": World(FLAT, gap=gap) for gap in (2.0, 4.0, 8.0, 16.0)}
RISES: Final = {
    **{f"all rise by {rise:g} sd in the last third": World(FLAT, gap=10.0, rising=(rise,)) for rise in (1.0, 2.0, 4.0)},
    **{
        f"the highest rate alone by {rise:g} sd": World(FLAT, gap=10.0, rising=(0.0, 0.0, 0.0, rise))
        for rise in (2.0, 4.0, 8.0)
    },
}


TABLES: Final = (
    (NULLS, {"nothing to find, but what is said": "", "anything wrong": "wrong", "the best called worse": "lost",
             "any of equally good ones": "any_lost"}),
    (EFFECTS, {"rates apart": "", "the best alone is left": "exact", "anything wrong": "wrong"}),
    (GAPS, {"between training and held-out data": "", "a gap is found": "gap", "anything wrong": "wrong"}),
    (RISES, {"training not at its end": "", "no verdict": "truncated", "anything wrong": "wrong"}),
)  # fmt: skip
"""Worlds, and the columns of their table: what is said over each, and the share that it has."""


def rows(times: int) -> Iterator[str]:
    """Yield the tables, line by line."""
    for place, (worlds, columns) in enumerate(TABLES):
        yield from [""] if place else []
        yield f"| {' | '.join(columns)} |"
        yield f"|{'---|' * len(columns)}"
        for name, world in worlds.items():
            found = simulate(world, times)
            yield f"| {name} | {' | '.join(f'{found.share(share):.3f}' for share in columns.values() if share)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000, help="sweeps a row")
    for line in rows(parser.parse_args().times):
        print(line, flush=True)


if __name__ == "__main__":
    main()
