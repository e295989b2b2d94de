"""Train what a plan leaves to be trained: an engine, and what is seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.following import Following
from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.folders import Plan
from dropdiag.experiments.progress import Display


def announcement(plan: Plan[Any], engine: Engine) -> list[str]:
    """Return what is moved aside, what is kept and what is trained where, a sentence each."""
    todo, done = len(plan.todo), len(plan.done)
    said = [f"{source.name} was interrupted; moved to {target}" for source, target in plan.aside]
    if done:
        said.append(f"Kept, because finished: {done} of {done + todo} runs")
    if todo:
        said.append(f"Training {todo} runs, {engine.describe(todo)}")
    return said


def train_all(launches: Sequence[Launch], engine: Engine, display: Display) -> dict[str, str]:
    """Train all runs; one that fails does not stop the others.

    Parameters
    ----------
    launches : sequence of Launch
    engine : Engine
    display : Display

    Returns
    -------
    dict
        Name of each failed run -> what ended it.

    Raises
    ------
    KeyboardInterrupt
        After the runs under way were ended and marked as interrupted; finished runs are whole.
    """
    failed = {}
    with Following(launches, display.step) as following, closing(engine.run(launches)) as ends:
        for end in ends:
            if end.error is not None:
                failed[end.name] = end.error
            with following.told(end.name):
                display.end(end.name, end.error)
                if end.output and end.error is None:
                    display.wrote(end.name, end.output)
    return failed
