"""``dropdiag catalog``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import AsJson, bar, clear_errors, echo_json
from dropdiag.errors import DropdiagWarning


def catalog(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A folder with run folders in it, at any depth.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Keep the scalars of all runs below a folder together, so that thousands of them are read at once.

    Only runs that are new or have changed are read. The catalog lies in ROOT/.catalog; run folders are not touched.

    **Example**

    - `dropdiag catalog runs`, then in Python `dropdiag.Catalog("runs").runs()`
    """
    with clear_errors(), bar("runs") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)  # what they say is printed below
        from dropdiag.store.catalog import Catalog  # noqa: PLC0415

        made = Catalog(root).update(progress)
    for sentence in (*made.unreadable.values(), *made.problems):
        typer.echo(f"left out: {sentence}", err=True)
    if as_json:
        echo_json(made._asdict())
    else:
        left_out = len(made.unreadable)
        typer.echo(f"read {made.read:,}, unchanged {made.kept:,}, gone {made.removed:,}, left out {left_out:,}")
    if made.unreadable or made.problems:
        raise typer.Exit(1)
