"""Train one run of an experiment in a process of its own: what engines start, and what a printed plan is made of.

    python -m dropdiag.experiments.run_one mnist --data DIR --out OUT '{"condition": "Dropout", "seed": 0, ...}'

A run that is finished is left as it is, and one that was broken off is moved aside and trained anew, so that a command
may be given again.
"""

# Neither torch nor dropdiag's recording is imported before a run is trained: what launched it hears of it at once.

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import DataError
from dropdiag.experiments.engines.inside import training_process
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.threads import environment

if TYPE_CHECKING:
    from dropdiag.experiments.data.datasets import Images
    from dropdiag.experiments.settings import TrainSettings

MODULE: Final = "dropdiag.experiments.run_one"


@dataclass(frozen=True)
class One:
    """What one command trains.

    Attributes
    ----------
    key : str
        Of the data set, and so of the experiment.
    data : Path
        Folder of the data.
    limit : int or None
        See `dropdiag.experiments.data.load.load_images`.
    out : Path
        Folder of the experiment.
    config : mapping
        The run's settings, prepared; see `TrainSettings.config`.
    """

    key: str
    data: Path
    limit: int | None
    out: Path
    config: Mapping[str, Any]

    def command(self) -> tuple[str, ...]:
        """Return the command that trains it, which finds its files wherever it is given."""
        limit = () if self.limit is None else ("--limit", str(self.limit))
        where = ("--data", str(self.data.absolute()), *limit, "--out", str(self.out.absolute()))
        return (sys.executable, "-m", MODULE, self.key, *where, json.dumps(self.config))

    @classmethod
    def of(cls, arguments: Sequence[str]) -> One:
        """Return what a command's arguments mean."""
        parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=str(__doc__).partition("\n")[0])
        parser.add_argument("key", metavar="NAME", help="data set of the experiment")
        parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data")
        parser.add_argument("--limit", type=int, help="take the first so many training and test images")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the experiment")
        parser.add_argument("config", type=json.loads, metavar="JSON", help="the run's settings")
        return cls(**vars(parser.parse_args(arguments)))


def train_one(one: One, report: Report) -> None:
    """Train a run, unless it is finished.

    Raises
    ------
    DataError
        If the data are missing, damaged, or others than those that were planned with.
    ArgumentError
        For settings that cannot be used, or if the folder holds runs of others.
    RunError
        If another process trains the run, or its folder cannot be written.
    """
    import torch  # noqa: PLC0415 - see above

    from dropdiag.experiments.plan import make_plan, run_name  # noqa: PLC0415
    from dropdiag.experiments.recipes import recipe_of  # noqa: PLC0415
    from dropdiag.experiments.under_way import being_trained  # noqa: PLC0415

    torch.set_num_threads(1)
    recipe = recipe_of(one.key)
    settings = recipe.settings.from_config(one.config)
    with being_trained(one.out, run_name(settings.condition, settings.seed)):
        plan = make_plan(one.out, [settings])
        for job in plan.todo:
            data = _load(one, settings)
            plan.make_room()
            recipe.train(job.settings, data, job.path, report.step)


def _load(one: One, settings: TrainSettings) -> Images:
    from dropdiag.experiments.data.load import load_images  # noqa: PLC0415 - see above

    data = load_images(one.key, one.data, one.limit)
    if data.digest != settings.data:
        raise DataError(
            f"the data in {one.data} are not those that the run was planned with: their digest is {data.digest[:12]}, "
            f"not {settings.data[:12]}; plan it anew"
        )
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command's arguments say; return the exit code."""
    one = One.of(sys.argv[1:] if arguments is None else arguments)
    os.environ.update(environment(threads=1))  # before torch is imported, which reads them once
    return training_process(lambda report: train_one(one, report))


if __name__ == "__main__":
    sys.exit(main())
