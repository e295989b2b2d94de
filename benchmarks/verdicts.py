"""How often verdicts are wrong, and how many seeds it takes: claims put to runs of which the truth is known.

    python benchmarks/verdicts.py [--times 1000]

prints the tables of docs/claims.md. Numbers of runs are drawn in place of networks: three conditions, three layers, a
part that a seed has in all conditions, one that a run has in all layers, and one of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.claims.claims import Claims, claims
from dropdiag.analysis.compare.effects import mean_difference
from dropdiag.analysis.compare.measurements import CompareSettings, Measurements
from dropdiag.analysis.compare.step_ranges import StepRange
from dropdiag.analysis.compare.values import COLUMNS
from dropdiag.store.order import Places
from dropdiag.store.reader import Runs

ALPHA: Final = 0.05
CONDITIONS: Final = ("No dropout", "Dropout", "GAAF")
LAYERS: Final = 3
OF_LAYERS: Final = {
    "weight_ks_normal": -1, "weight_shape_distance": -1, "weight_scale_distance": -1, "abs_correlation": 1,
    "correlation_sd": 1, "gradient_flow": 1, "saturation_share": 1,
}  # fmt: skip
"""Measure -> the side on which the paper claims it."""
OF_NETWORK: Final = {"best:accuracy": 1, "epochs_to_best:accuracy": -1}
WHY_OF_LAYERS: Final = {"ablation_dependence": -1, "flow_slope": 1, "flow_total": 1}
SQUARED: Final = {"ablation_dependence": "ablation_dependence_squared"}
"""Measure -> its square, which a claim asks as well."""
WHY_OF_NETWORK: Final = {
    "relative_flatness": -1, "loss_rise@0.1": -1, "noisy_loss_rise@0.2": -1, "hessian_eigenvalue@1": -1,
    "ensemble_kl_geometric_corrected": -1, "gradient_direction_variance": -1,
}  # fmt: skip
"""The same of claims (g) to (k)."""
LOGS: Final = frozenset({"gradient_flow", "flow_slope", "flow_total", "relative_flatness"})
MARGIN: Final = 0.005
"""Of (h): without an effect the divergence is at the margin."""
WHOLE: Final = 20.0
"""Standard deviations of a pair's difference by which more gradient flows, where (i) asks why."""
SD: Final = 0.01
"""Standard deviation of one run's own part; the difference of a pair of seeds has the square root of 2 times that."""

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
SHAPES: Final[Mapping[str, Draw]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1.0,
    "heavy tails": lambda rng, n: rng.standard_t(3, size=n) / np.sqrt(3.0),
}
"""Shape of what a run has of its own: mean 0, standard deviation 1."""


@dataclass(frozen=True)
class World:
    """Runs to be drawn, and the truth about them.

    Attributes
    ----------
    n : sequence of int
        Runs of the baseline, of dropout and of GAAF.
    paired : bool
    effect : float
        Of dropout and GAAF beside the baseline, in standard deviations of a paired difference, on the claimed side.
    shape : str
        One of `SHAPES`.
    spread : float
        Standard deviation of the baseline's runs, beside those of the others.
    missing : bool
        Whether a layer of one run is missing, of each measure another one, where layers differ.
    slope : float or None
        Whether what claims (g) to (k) take was recorded too, and then the share of the extra gradient flow, which is
        there whatever the effect is, that the slope makes.
    """

    n: Sequence[int] = (5, 5, 5)
    paired: bool = True
    effect: float = 0.0
    shape: str = "normal"
    spread: float = 1.0
    missing: bool = False
    slope: float | None = None

    @property
    def sides(self) -> dict[str, int]:
        """Measure -> the side on which it is claimed."""
        why = {} if self.slope is None else {**WHY_OF_LAYERS, **WHY_OF_NETWORK}
        return {**OF_LAYERS, **OF_NETWORK, **why}

    def shift(self, measure: str) -> float:
        """Return how far dropout and GAAF lie from the baseline in the first layer, in standard deviations."""
        if measure.startswith("flow_"):
            return WHOLE * (1.0 if measure == "flow_total" else float(self.slope or 0.0))
        return self.sides[measure] * self.effect

    def truth(self, claim: str, part: str) -> int:
        """Return on which side of its threshold a directional part is: 1 is the claimed one, 0 neither."""
        if claim == "i" and self.slope is not None:
            return int(np.sign(self.slope - 0.5 * ("more than" in part)))
        return int(np.sign(self.effect))

    def draw(self, rng: np.random.Generator) -> Measurements:
        """Draw what was measured of all runs."""
        own = SHAPES[self.shape]
        rows: list[tuple[Any, ...]] = []
        runs = [(c, seed if self.paired else 100 * i + seed)
                for i, c in enumerate(CONDITIONS) for seed in range(self.n[i])]  # fmt: skip
        for measure in self.sides:
            layers = LAYERS if measure in OF_LAYERS or measure in WHY_OF_LAYERS else 1
            of_seed = rng.normal(size=1000)
            gone = (int(rng.integers(len(runs))), int(rng.integers(layers))) if self.missing and layers > 1 else None
            shift = self.shift(measure) * SD * np.sqrt(2.0)
            for place, (condition, seed) in enumerate(runs):
                spread = self.spread if condition == CONDITIONS[0] else 1.0
                # half of a run's own part is the same in all of its layers
                noise = np.sqrt(0.5) * (own(rng, 1) + own(rng, layers)) if layers > 1 else own(rng, 1)
                values = (
                    (MARGIN if measure.startswith("ensemble") else 0.2)
                    + 0.1 * np.arange(layers)
                    + SD * (of_seed[seed] + spread * noise)
                )
                values += shift * (1 + np.arange(layers)) * (condition != CONDITIONS[0])
                values = np.exp(values) if measure in LOGS else values
                for layer, value in enumerate(values):
                    if (place, layer) == gone:
                        continue
                    name = f"layer{layer + 1}" if layers > 1 else None
                    taken = {measure: value} | ({SQUARED[measure]: value**2} if measure in SQUARED else {})
                    rows += [(condition, seed, f"{condition}-{seed}", name, 0, one, one, number, np.nan,
                              1000.0 if "correlation" in one else np.nan, np.nan, "")
                             for one, number in taken.items()]  # fmt: skip
        names = tuple(f"layer{i + 1}" for i in range(LAYERS))
        order = {(name, 0): i for i, name in enumerate(names)}
        known = [SimpleNamespace(condition=c, seed=s, order=order, meta={"config": {}}) for c, s in runs]
        labels = [f"{c}-{s}" for c, s in runs]
        ranges = {frozenset((a, b)): StepRange(None, 100) for a in CONDITIONS for b in CONDITIONS if a != b}
        places = Places(tuple(((name, 0),) for name in names))
        frame = pd.DataFrame(rows, columns=COLUMNS)
        early = frame["measure"] == "gradient_direction_variance"
        return Measurements(
            cast(Runs, _Runs(known, labels)), CONDITIONS, names, frame[~early], pd.DataFrame(),
            ranges, CompareSettings(ALPHA), places=places, series=frame[early].assign(step=5),
        )  # fmt: skip


class _Runs(list[Any]):
    """Runs as far as claims ask them."""

    def __init__(self, runs: Sequence[Any], labels: list[str]) -> None:
        super().__init__(runs)
        self._labels = labels

    def labels(self) -> list[str]:
        """Return the runs' names."""
        return self._labels


@dataclass
class Tally:
    """What came out of many comparisons.

    Attributes
    ----------
    times : int
    wrong : int
        Comparisons with at least one wrong verdict.
    decided : dict of str to int
        Claim -> times that all of its verdicts were supported.
    """

    times: int = 0
    wrong: int = 0
    decided: dict[str, int] = field(default_factory=dict)

    def add(self, found: Claims, world: World) -> None:
        """Count one comparison."""
        self.times += 1
        self.wrong += bool(wrong(found, world))
        for claim, rows in found.table.groupby("claim"):
            self.decided[str(claim)] = self.decided.get(str(claim), 0) + bool((rows["verdict"] == "supported").all())

    @property
    def rate(self) -> float:
        """Share of comparisons with a wrong verdict."""
        return self.wrong / self.times

    def power(self, claim: str) -> float:
        """Share of comparisons in which a claim is supported of all conditions that it is put to."""
        return self.decided.get(claim, 0) / self.times


def wrong(found: Claims, world: World) -> list[str]:
    """Return the verdicts that are false, where dropout and GAAF have the same effect.

    A directional part is wrong where it is decided while the truth is 0 or on the other side; "not lower" where it is
    contradicted; (e) where it is supported although there is nothing to resemble, or contradicted although the two are
    alike.
    """
    said, effect = [], world.effect
    for part in found.parts.itertuples():
        if part.claim == "e":
            false = part.verdict == ("supported" if effect == 0.0 else "contradicted")
        elif not part.counts:
            false = part.verdict == "contradicted" and effect >= 0.0
        elif part.part == "fewer epochs":  # of GAAF beside dropout: they are alike
            false = part.verdict in ("supported", "contradicted")
        else:
            truth = {0: "undecided", 1: "supported", -1: "contradicted"}[world.truth(part.claim, part.part)]
            false = part.verdict in ("supported", "contradicted") and part.verdict != truth
        if false:
            said.append(f"{part.claim}, {part.part}, {part.condition}: {part.verdict}")
    return said


def simulate(world: World, times: int, seed: int = 0, **options: Any) -> Tally:
    """Draw runs, put the claims to them, and count."""
    rng, tally = np.random.default_rng(seed), Tally()
    for _ in range(times):
        tally.add(claims(world.draw(rng), **options), world)
    return tally


def false_positives(n: int, m: int, spread: float, times: int, seed: int = 0) -> dict[str, float]:
    """Return how often p is at most 0.05 without an effect, the smaller side having a greater standard deviation.

    Returns
    -------
    dict of str to float
        Of the permuted difference, of permuted Welch's t, of Welch's t alone, and of what verdicts take: permuted
        Welch's t together with Welch's t of the smaller side's degrees of freedom.
    """
    from scipy.stats import permutation_test

    rng = np.random.default_rng(seed)
    counts = np.zeros(4)
    for _ in range(times):
        a, b = spread * rng.normal(size=n), rng.normal(size=m)
        plain = permutation_test((a, b), lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)), vectorized=True,
                                 n_resamples=np.inf, alternative="greater").pvalue  # fmt: skip
        found = mean_difference(a, b, paired=False)
        careful = replace(found.estimate, degrees=min(n, m) - 1.0).p()
        p = np.array([plain, found.p, found.p_t, max(found.p, careful)])
        counts += p <= ALPHA + 1e-12
    return dict(zip(("difference", "welch", "t", "verdict"), (counts / times).tolist(), strict=True))


WORLDS: Final = [
    *(World(n=(n, n, n)) for n in (2, 3, 5, 10)),
    *(World(n=(n, n, n), paired=False) for n in (3, 5, 10)),
    World(n=(10, 3, 3), paired=False),
    World(n=(3, 10, 10), paired=False, spread=3.0),
    World(n=(5, 12, 12), paired=False, spread=3.0),
    World(missing=True),
    World(n=(10, 10, 10), missing=True),
    *(World(n=(n, n, n), shape=shape) for shape in ("skewed", "heavy tails") for n in (3, 5, 10)),
    *(World(n=(n, n, n), paired=False, shape=shape) for shape in ("skewed", "heavy tails") for n in (5, 10)),
]
"""Without an effect."""
WHY_WORLDS: Final = [
    *(World(n=(n, n, n), slope=slope) for slope in (0.0, 0.5) for n in (3, 5, 10)),
    *(World(n=(n, n, n), paired=False, slope=0.0) for n in (5, 10)),
    World(n=(10, 10, 10), missing=True, slope=0.0),
    *(World(n=(10, 10, 10), shape=shape, slope=0.0) for shape in ("skewed", "heavy tails")),
]
"""The same with what claims (g) to (k) take: the slope makes nothing, or just half, of more gradient flow."""
EFFECTS: Final = (0.5, 1.0, 3.0, 6.0, -3.0)


def rows(times: int) -> Iterator[str]:
    """Yield the tables, line by line."""
    yield "| no effect | runs | at least one of ten verdicts is wrong |"
    yield "|---|---|---|"
    for world in WORLDS:
        what = "pairs" if world.paired else "independent"
        spread = f", standard deviation {world.spread:g} times as great in the first" if world.spread != 1.0 else ""
        gone = ", a layer missing in one run" if world.missing else ""
        sizes = "/".join(map(str, world.n))
        yield f"| {world.shape}{spread}{gone} | {sizes} {what} | {simulate(world, times).rate:.3f} |"
    yield ""
    yield "| no effect, (a) to (k) | runs | of the extra flow the slope makes | at least one of 20 verdicts is wrong |"
    yield "|---|---|---|---|"
    for world in WHY_WORLDS:
        what = "pairs" if world.paired else "independent"
        gone = ", a layer missing in one run" if world.missing else ""
        yield (f"| {world.shape}{gone} | {'/'.join(map(str, world.n))} {what} | {world.slope:g} | "
               f"{simulate(world, times).rate:.3f} |")  # fmt: skip
    yield ""
    yield "| effect, (a) to (k) | pairs | wrong | (g) supported | (h) | (i) | (j) | (k) |"
    yield "|---|---|---|---|---|---|---|---|"
    for effect in EFFECTS:
        for n in (5, 10):
            every = simulate(World(n=(n, n, n), effect=effect, slope=1.0), times)
            powers = " | ".join(f"{every.power(claim):.2f}" for claim in "ghijk")
            yield f"| {effect:g} | {n} | {every.rate:.3f} | {powers} |"
    yield ""
    yield "| effect, in sd of a difference | pairs | wrong | (c) supported | (c) alone | (d) | (a) | (e) |"
    yield "|---|---|---|---|---|---|---|---|"
    for effect in EFFECTS:
        for n in (3, 5, 10):
            world = World(n=(n, n, n), effect=effect)
            every, alone = simulate(world, times), simulate(world, times, claims="c")
            powers = " | ".join(f"{tally.power(claim):.2f}" for tally, claim in
                                ((every, "c"), (alone, "c"), (every, "d"), (every, "a"), (every, "e")))  # fmt: skip
            yield f"| {effect:g} | {n} | {every.rate:.3f} | {powers} |"
    yield ""
    yield "| runs a side, ratio of their sd | permuted difference | permuted Welch's t | Welch's t | as verdicts do |"
    yield "|---|---|---|---|---|"
    for n, m, spread in ((3, 10, 3.0), (3, 10, 1.0), (4, 8, 3.0), (5, 10, 3.0), (5, 5, 3.0)):
        found = false_positives(n, m, spread, times)
        yield f"| {n} and {m}, {spread:g} | {' | '.join(f'{rate:.3f}' for rate in found.values())} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000, help="comparisons a row")
    for line in rows(parser.parse_args().times):
        print(line, flush=True)


if __name__ == "__main__":
    main()
