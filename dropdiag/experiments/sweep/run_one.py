"""Train one run of a sweep in a process of its own: what engines start, and what a printed plan is made of.

    python -m dropdiag.experiments.sweep.run_one FILE.py:train --out OUT --name NAME '{"condition": "rate=0.3", ...}'

A run that is finished is left as it is, and one that was broken off is moved aside and trained anew, so that a command
may be given again.
"""

# Neither torch nor what trains is imported before a run is trained: what launched it hears of it at once.

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dropdiag.experiments.engines.inside import training_process
from dropdiag.experiments.engines.report import Report
from dropdiag.experiments.sweep.one import One
from dropdiag.experiments.threads import environment


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
