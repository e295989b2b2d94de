"""What starts trainings: each is a process of its own, and an engine only schedules the launchers that wait for it.

`engine_named` chooses an engine; `Engine.run` takes launches and yields how each ended. It knows nothing of
experiments: any program that calls `training_process` can be launched.
"""

from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.inside import training_process
from dropdiag.experiments.engines.launch import End, Launch
from dropdiag.experiments.engines.named import engine_named

__all__ = ["End", "Engine", "Launch", "engine_named", "training_process"]
