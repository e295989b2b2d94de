"""``dropdiag reproduce``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import clear_errors as _clear_errors


class Experiment(str, Enum):
    """What can be reproduced."""

    mnist = "mnist"


class Optimizer(str, Enum):
    """What trains the networks."""

    adam = "adam"
    sgd = "sgd"


def reproduce(
    *,
    experiment: Annotated[Experiment, typer.Argument(help="Which experiment of the paper.")] = Experiment.mnist,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of MNIST's four IDX files (gzipped or not, in DIR or DIR/mnist). "
            "Without it: $DROPDIAG_DATA, or else the sample of 10,000 images that is shipped.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per condition; the same in each, so that runs pair.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every run.")] = 20,
    optimizer: Annotated[Optimizer, typer.Option(help="adam, or sgd without momentum.")] = Optimizer.adam,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="0.001 adam, 0.1 sgd")] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A condition: no-dropout, dropout or gaaf. Repeat it for several.",
            show_default="all three",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, one thread each.", show_default="number of cores"),
    ] = None,
    rate: Annotated[float, typer.Option(help="Dropout rate of the condition 'Dropout'.")] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    every: Annotated[int, typer.Option(min=1, help="Record weights every so many steps.")] = 10,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for runs, figures, tables and index.html.")] = Path(
        "out/mnist"
    ),
) -> None:
    """Train the paper's network in each condition and measure it: figures, tables, one page.

    Finished runs in --out are kept: after Ctrl-C the same command goes on where it was.

    **Examples**

    - `dropdiag reproduce` : all conditions, five seeds, on the shipped sample; a few minutes
    - `dropdiag reproduce --seeds 2 --epochs 5 --out out/quick` : a first look
    - `dropdiag reproduce --data ~/data --epochs 50 --optimizer sgd --out out/sgd` : all of MNIST, plain SGD
    - `dropdiag reproduce --conditions no-dropout --conditions gaaf --out out/gaaf` : two conditions
    """
    with _clear_errors(out):
        from dropdiag.experiments.networks import CONDITIONS  # noqa: PLC0415 - torch is not paid for --help
        from dropdiag.experiments.reproduce import reproduce as mnist  # noqa: PLC0415

        made = {Experiment.mnist: mnist}[experiment](
            out,
            data=data,
            conditions=conditions or CONDITIONS,
            seeds=seeds,
            epochs=epochs,
            optimizer=optimizer.value,
            lr=lr,
            batch_size=batch_size,
            rate=rate,
            every=every,
            jobs=jobs,
        )
    for name, error in made.failed.items():
        typer.echo(f"failed: {name}: {error}", err=True)
    typer.echo(f"report:  {made.page}")
    typer.echo(f"figures: {out / 'figures'}")
    typer.echo(f"tables:  {out / 'tables'}")
    if made.failed:
        raise typer.Exit(1)
