"""What a sweep made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropdiag.errors import RunError
from dropdiag.experiments.folders import RUNS, completed
from dropdiag.experiments.sweep.axes import CONDITION, SEED, order
from dropdiag.store.reader import Runs, load

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """What `sweep` made, and what it found there.

    Attributes
    ----------
    out : Path
        ``out/runs`` has the runs, ``out/sweep.json`` what was asked for and found.
    axes : tuple of str
    trained, kept : tuple of str
        Names of the runs trained now, and of those found finished.
    failed : mapping
        Name of each run that failed -> what ended it.
    stopped : mapping
        Condition that was stopped by screening -> at what, in words. It was not trained in full, and is not compared.
    remarks : tuple of str
        What is to be known of the runs: whether those of one seed are pairs, what was stopped, what was changed.
    """

    out: Path
    axes: tuple[str, ...]
    trained: tuple[str, ...]
    kept: tuple[str, ...]
    failed: Mapping[str, str]
    stopped: Mapping[str, str]
    remarks: tuple[str, ...]

    def runs(self) -> Runs:
        """Open all finished runs of the folder, also those of earlier calls, in the order of the axes' values.

        Raises
        ------
        RunError
            If there is none.
        """
        metas = completed(self.out / RUNS)
        if not metas:
            raise RunError(f"no run in {self.out / RUNS} is finished; sweep.failed says why")
        return Runs(load(sorted(metas, key=lambda path: self._order(metas[path]["config"]))), ordered=True)

    def _order(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        return (*order({axis: config[axis] for axis in self.axes}), config[SEED])

    @property
    def table(self) -> pd.DataFrame:
        """A row a condition: its axes, seeds (how many runs), and of each number that `train` logged of held-out data
        the mean of the last values over seeds and their standard deviation, ``PHASE NAME`` and ``PHASE NAME sd``.

        A run that diverged makes a mean NaN: nothing is left out.
        """  # noqa: D205 - one sentence
        import pandas as pd  # noqa: PLC0415 - who trains need not wait for it

        from dropdiag.experiments.sweep.finals import finals  # noqa: PLC0415

        runs = self.runs()
        rows: dict[str, dict[str, Any]] = {}
        for run in runs:
            config = run.meta["config"]
            rows.setdefault(config[CONDITION], {axis: config[axis] for axis in self.axes} | {"seeds": 0})["seeds"] += 1
        for (condition, phase, quantity), group in finals(runs).groupby(["condition", "phase", "quantity"], sort=False):
            values = group["value"]
            name = f"{phase} {quantity}"
            rows[str(condition)] |= {name: values.mean(skipna=False), f"{name} sd": values.std(skipna=False)}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition").reset_index()

    def __repr__(self) -> str:
        said = [f"<Sweep over {', '.join(self.axes)} in {self.out}: {len(self.trained)} runs trained"]
        said += [f"{len(self.kept)} kept"] if self.kept else []
        said += [f"{len(self.failed)} failed"] if self.failed else []
        return ", ".join(said) + ">"
