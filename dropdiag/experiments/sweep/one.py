"""What one command of a sweep trains, and how it is written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
        parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Train one run of a sweep.")
        parser.add_argument("train", metavar="FILE.py:NAME", help="the function that trains")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the sweep")
        parser.add_argument("--name", required=True, help="name of the run's folder")
        parser.add_argument("--threads", type=int, default=1, help="threads of the training")
        parser.add_argument("config", type=json.loads, metavar="JSON", help="condition, seed, axes and settings")
        return cls(**vars(parser.parse_args(arguments)))
