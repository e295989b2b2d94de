"""Whether the advice of a sweep held on seeds that it had not seen.

    python docs/cases/check.py runs/cnn runs/cnn-fresh [SCALAR]

The rate that is checked is the best of the first sweep on validation data. It is set beside every other one on the test
data of the second sweep, seed by seed. The intervals are Student's, and so wide that all hold together at 95 %
(Bonferroni).
"""

from __future__ import annotations

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


def held(fresh: pd.DataFrame, best: str, inside: Sequence[str], *, less: bool) -> pd.DataFrame:
    """Say of each other rate by how much the best one was better, with its interval, and what the advice had said."""
    rows = []
    for name in fresh.columns.drop(best):
        better = (fresh[name] - fresh[best]) * (1 if less else -1)
        mean, low, high = t_interval(better, 1 - 0.05 / (fresh.shape[1] - 1))
        said = "cannot be told apart" if name in inside else "worse"
        rows.append((name, fresh[name].mean(), mean, low, high, said, _came(low, high)))
    columns = ["condition", "mean", f"{best} is better by", "low", "high", "the advice said", "fresh seeds say"]
    return pd.DataFrame(rows, columns=columns)


def _came(low: float, high: float) -> str:
    return "worse" if low > 0 else "better" if high < 0 else "cannot be told apart"


def main(sweep: str, second: str, scalar: str | None = None) -> None:
    """Print the advice of the first sweep, and what the second one says of it."""
    advice = advise(sweep, scalar=scalar)
    if advice.rates is None or advice.rates.best is None or advice.case.outcome is None:
        sys.exit(f"there is no advice to check: {advice.sentence}")
    reported = advice.case.outcome.reported
    fresh = finals(second, reported.phase, reported.name)
    best = advice.rates.best
    print(f"{advice.sentence}\n\n{reported} of {len(fresh)} fresh seeds; {best} has {fresh[best].mean():.4g}")
    table = held(fresh, best, advice.rates.inside, less=less_is_better(reported.name))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
