"""Trainings in this process, one after the other: for functions that no other process can import."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping, Sequence

from dropdiag.experiments.engines.inside import in_words
from dropdiag.experiments.engines.launch import End, Launch, check_names
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.sweep.function import Train
from dropdiag.experiments.sweep.one import One
from dropdiag.experiments.sweep.training import train_one
from dropdiag.measure.passes.state.random_states import RandomStates


class HereEngine:
    """Trains in this process; see `Engine`. A training that ends the process ends all of them.

    Parameters
    ----------
    train : callable or None
        None: each run loads the one that it names.
    ones : mapping
        By the name of the launch: what is trained.
    """

    here = True

    def __init__(self, train: Train | None, ones: Mapping[str, One]) -> None:
        self._train, self._ones = train, ones

    def describe(self, launches: int) -> str:  # noqa: ARG002 - it is always one
        """See `Engine.describe`."""
        return "one after the other in this process"

    def run(self, launches: Sequence[Launch]) -> Generator[End, None, None]:
        """See `Engine.run`."""
        check_names(launches)
        before = RandomStates([])  # of this process, which goes on
        try:
            for launch in launches:
                yield self._run(launch)
        finally:
            before.put_back()

    def _run(self, launch: Launch) -> End:
        launch.folder.mkdir(parents=True, exist_ok=True)
        try:
            train_one(self._ones[launch.name], Report(launch.report), self._train)
        except Exception as error:  # noqa: BLE001 - as of a process: the others go on
            text = traceback.format_exc()
            with launch.output.open("a", encoding="utf-8") as output:
                output.write(text)
            return End(launch.name, in_words(error), text)
        return End(launch.name)
