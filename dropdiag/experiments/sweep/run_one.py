"""Train one run of a sweep in a process of its own: what engines start, and what a printed plan is made of.

    python -m dropdiag.experiments.sweep.run_one FILE.py:train --out OUT --name NAME '{"condition": "rate=0.3", ...}'

A run that is finished is left as it is, and one that was broken off is moved aside and trained anew, so that a command
may be given again.
"""

# Neither torch nor what trains is imported before a run is trained: what launched it hears of it at once.

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dropdiag.experiments.engines.inside import training_process
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.threads import environment

MODULE: Final = "dropdiag.experiments.sweep.run_one"


@dataclass(frozen=True)
class One:
    """What one command trains.

    Attributes
    ----------
    out : Path
        Its runs are in ``out/runs``.
    name : str
        Of the run's folder.
    config : mapping
        What `train` is called with.
    train : str
        ``FILE.py:NAME`` or ``MODULE:NAME``; empty where it is a function of this process.
    threads : int
    """

    out: Path
    name: str
    config: Mapping[str, Any]
    train: str = ""
    threads: int = 1

    def command(self) -> tuple[str, ...]:
        """Return the command that trains it, which finds its files wherever it is given."""
        where = ("--out", str(self.out.absolute()), "--name", self.name, "--threads", str(self.threads))
        return (sys.executable, "-m", MODULE, self.train, *where, json.dumps(self.config))

    @classmethod
    def of(cls, arguments: Sequence[str]) -> One:
        """Return what a command's arguments mean."""
        parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=str(__doc__).partition("\n")[0])
        parser.add_argument("train", metavar="FILE.py:NAME", help="the function that trains")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the sweep")
        parser.add_argument("--name", required=True, help="name of the run's folder")
        parser.add_argument("--threads", type=int, default=1, help="threads of the training")
        parser.add_argument("config", type=json.loads, metavar="JSON", help="condition, seed, axes and settings")
        return cls(**vars(parser.parse_args(arguments)))


def _train(one: One, report: Report) -> None:
    import torch  # noqa: PLC0415 - see above

    from dropdiag.experiments.sweep.training import train_one  # noqa: PLC0415

    torch.set_num_threads(one.threads)
    train_one(one, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command's arguments say; return the exit code."""
    one = One.of(sys.argv[1:] if arguments is None else arguments)
    os.environ.update(environment(one.threads))  # before torch is imported, which reads them once
    return training_process(lambda report: _train(one, report))


if __name__ == "__main__":
    sys.exit(main())
