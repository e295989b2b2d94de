"""``dropdiag export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import AsJson, RunArgument, answer, check_folder, clear_errors, finish, one_run
from dropdiag.errors import warned


class Format(str, Enum):
    """What a run can be exported to."""

    csv = "csv"
    tensorboard = "tensorboard"


@clear_errors()
def export(
    run: RunArgument,
    *,
    to: Annotated[Format, typer.Option(help="csv, or tensorboard (needs that package).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder; nothing is ever overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Write a run's scalars and histograms in a format that other tools read.

    **csv**: scalars.csv and histograms.csv, a row a value or an occupied bin, counts exact; layers.csv, the order of
    execution, where the run recorded one. Any Parquet reader reads the run folder itself, faster and smaller.
    **tensorboard**: event files, a folder a phase.

    **Examples**

    - `dropdiag export runs/dropout-s0 --to csv --out csv/dropout-s0`
    - `dropdiag export runs/dropout-s0 --to tensorboard --out tb/dropout-s0`, then `tensorboard --logdir tb`
    """
    out = check_folder(out)
    with warned() as problems:
        opened = one_run(run)
        # each format's module is imported by itself: tensorboard is an optional package
        if to is Format.csv:
            from dropdiag.integrations.csv import to_csv  # noqa: PLC0415

            files = to_csv(opened, out)
        else:
            from dropdiag.integrations.tensorboard import to_tensorboard  # noqa: PLC0415

            files = to_tensorboard(opened, out)
    names = [str(file) for file in files]
    answer(
        {"run": str(run), "files": names, "problems": problems}, *(f"wrote {name}" for name in names), as_json=as_json
    )
    finish(problems, "warning")
