"""Whether the advice of a sweep held on seeds that it had not seen.

    python docs/cases/check.py runs/cnn runs/cnn-fresh [SCALAR]

Each rate that could not be told from the best in the first sweep, on validation data, is set beside every other one on
the test data of the second sweep, seed by seed. The intervals are Student's, and so wide that all hold together at 95 %
(Bonferroni).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import pandas as pd

from dropdiag.analysis.advice.advice import advise
from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.analysis.learning import best_per_run
from dropdiag.analysis.seeds import t_interval
from dropdiag.store.reader import load


def finals(folder: str, phase: str, quantity: str) -> pd.DataFrame:
    """Return the last value of each run: a row a seed, a column a condition."""
    rows = best_per_run(load(f"{folder}/runs/*"), quantity, phase=phase)
    return rows.pivot_table(index="seed", columns="condition", values="final", sort=False)


def held(fresh: pd.DataFrame, inside: Sequence[str], *, less: bool) -> pd.DataFrame:
    """Say by how much each of the rates ``inside`` was better than each other one, and what the advice had said."""
    worse = [name for name in fresh if name not in inside]
    pairs = [*itertools.product(inside, worse), *itertools.combinations(inside, 2)]
    rows = []
    for taken, other in pairs:
        better = (fresh[other] - fresh[taken]) * (1 if less else -1)
        mean, low, high = t_interval(better, 1 - 0.05 / len(pairs))
        said = "worse" if other in worse else "not told apart"
        rows.append((taken, other, mean, low, high, said, _came(low, high)))
    columns = ["taken", "beside", "better by", "low", "high", "the advice said", "fresh seeds say"]
    return pd.DataFrame(rows, columns=columns)


def _came(low: float, high: float) -> str:
    return "worse" if low > 0 else "better" if high < 0 else "not told apart"


def main(sweep: str, second: str, scalar: str | None = None) -> None:
    """Print the advice of the first sweep, and what the second one says of it."""
    advice = advise(sweep, scalar=scalar)
    if advice.rates is None or advice.case.outcome is None or advice.sentence.startswith("No verdict"):
        sys.exit(f"there is no advice to check: {advice.sentence}")
    reported = advice.case.outcome.reported
    fresh = finals(second, reported.phase, reported.name)
    table = held(fresh, advice.rates.inside, less=less_is_better(reported.name))
    said, came = table["the advice said"] == "worse", table["fresh seeds say"]
    print(f"{advice.sentence}\n\n{reported} of {len(fresh)} fresh seeds")
    print(fresh.mean().to_string(float_format=lambda value: f"{value:.4f}"), "\n")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    there, other_way = (came[said] == "worse").sum(), (came[said] == "better").sum()
    print(f"\nOf {said.sum()} differences that the advice called, {there} are there on fresh seeds, "
          f"{other_way} are the other way round.")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
