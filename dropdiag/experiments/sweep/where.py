"""Where the runs of a sweep are trained, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.engines.local import cores
from dropdiag.experiments.engines.named import LOCAL, engine_named
from dropdiag.experiments.folders import RUNS, Plan, completed
from dropdiag.experiments.launching import announcement, train_all
from dropdiag.experiments.progress import display_for
from dropdiag.experiments.sweep.function import Function, Train
from dropdiag.experiments.sweep.one import One
from dropdiag.experiments.under_way import LAUNCHES

HERE: Final = "here"


@dataclass(frozen=True)
class Where:
    """How and where the runs of a folder are trained."""

    given: Train | str
    function: Function | None
    engine: str | Engine
    processes: int | None
    threads: int
    console: Console

    def train(self, out: Path, plan: Plan[dict[str, Any]]) -> dict[str, str]:
        """Train what is left of a plan; return what failed and why."""
        plan.make_room()
        ones = ones_of(out, plan, self.function, self.threads)
        engine = self._engine(ones)
        said = announcement(plan, engine)
        self.console.print("\n".join(said), markup=False, highlight=False, soft_wrap=True)
        if not ones:
            return {}
        # A stranger's training says nowhere how many steps it will take: as many as those that are done took.
        done = [meta["steps"] for meta in metas_of(out).values()]
        with display_for(dict.fromkeys(ones), self.console, finished=done) as display:
            return train_all([launch_of(one) for one in ones.values()], engine, display)

    def _engine(self, ones: Mapping[str, One]) -> Engine:
        if not isinstance(self.engine, str):
            return self.engine
        if self.engine == HERE:
            from dropdiag.experiments.sweep.here import HereEngine  # noqa: PLC0415 - others need no torch here

            return HereEngine(None if isinstance(self.given, str) else self.given, ones)
        return engine_named(self.engine, self.processes or self._at_a_time())

    def _at_a_time(self) -> int | None:
        """Return how many runs this machine takes at a time; None for a cluster, which knows by itself."""
        if self.engine != LOCAL:
            return None
        import torch  # noqa: PLC0415 - as above

        return 1 if torch.cuda.is_available() else max(1, cores() // self.threads)


def ones_of(out: Path, plan: Plan[dict[str, Any]], function: Function | None, threads: int) -> dict[str, One]:
    """Return what each run that is left to be trained is trained by, by its name."""
    text = "" if function is None else function.text
    return {job.name: One(out, job.name, job.settings, text, threads) for job in plan.todo}


def launch_of(one: One) -> Launch:
    """Return how a run is started."""
    return Launch(one.name, one.command(), (one.out / LAUNCHES).absolute())


def metas_of(out: Path) -> dict[str, Mapping[str, Any]]:
    """Return the ``run.json`` of each completed run of a folder, by its name."""
    return {path.name: meta for path, meta in completed(out / RUNS).items()}
