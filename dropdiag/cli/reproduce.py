"""``dropdiag reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dropdiag.cli.common import clear_errors as _clear_errors
from dropdiag.errors import ArgumentError

if TYPE_CHECKING:
    from dropdiag.experiments.reproduce import Reproduction


class Experiment(str, Enum):
    """What can be reproduced."""

    mnist = "mnist"
    cifar10 = "cifar10"
    cifar100 = "cifar100"
    svhn = "svhn"


class Device(str, Enum):
    """What trains the networks."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


ONLY_FIGURE_8 = ("width", "limit", "amp", "device")
COMMON = ("data", "seeds", "epochs", "optimizer", "lr", "conditions", "jobs", "batch_size", "every", "out")
"""Options of `reproduce` that Figure 8 has alone, and with the MNIST analysis."""


class Activation(str, Enum):
    """What the hidden layers end in."""

    tanh = "tanh"
    relu = "relu"


class Optimizer(str, Enum):
    """What trains the networks."""

    adam = "adam"
    sgd = "sgd"


def reproduce(
    ctx: typer.Context,
    *,
    experiment: Annotated[Experiment, typer.Argument(help="Which experiment of the paper.")] = Experiment.mnist,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the data: MNIST's four IDX files (gzipped or not, in DIR or DIR/mnist), CIFAR's extracted "
            "folder or .tar.gz, SVHN's two .mat files. Without it: $DROPDIAG_DATA, or else, for mnist, the sample of "
            "10,000 images that is shipped.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per condition; the same in each, so that runs pair.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every run; with --patience, the greatest number.")] = 20,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop a run when its accuracy on validation images has not risen for so many epochs.",
            show_default="never",
        ),
    ] = None,
    validation: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Training images held out for that.",
            show_default="a sixth with --patience, else none",
        ),
    ] = None,
    activation: Annotated[Activation, typer.Option(help="The base activation function.")] = Activation.tanh,
    optimizer: Annotated[Optimizer, typer.Option(help="adam, or sgd without momentum.")] = Optimizer.adam,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="0.001 adam, 0.1 sgd")] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A condition: no-dropout, dropout, gaaf, gaaf-fitted, and with ReLU gaaf-port. Repeat it for several.",
            show_default="the first four",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, one thread each.", show_default="number of cores"),
    ] = None,
    rate: Annotated[float, typer.Option(help="Dropout rate of the condition 'Dropout'.")] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    every: Annotated[int, typer.Option(min=1, help="Record weights every so many steps.")] = 10,
    width: Annotated[  # noqa: ARG001 - read through the context
        float, typer.Option(help="Factor of the network's widths, for a quick look. Not for mnist.")
    ] = 1.0,
    limit: Annotated[  # noqa: ARG001 - read through the context
        int | None,
        typer.Option(min=1, help="Take the first so many training and test images. Not for mnist."),
    ] = None,
    amp: Annotated[  # noqa: ARG001 - read through the context
        bool, typer.Option("--amp", help="Forward passes in bfloat16 (autocast). Not for mnist.")
    ] = False,
    device: Annotated[  # noqa: ARG001 - read through the context
        Device, typer.Option(help="What trains; auto takes a GPU if there is one. Not for mnist.")
    ] = Device.auto,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for runs, figures, tables and index.html.", show_default="out/NAME"),
    ] = Path("out/mnist"),
) -> None:
    """Train the paper's network in each condition and measure it: figures, tables, one page.

    `mnist` is the paper's analysis; `cifar10`, `cifar100` and `svhn` are its Figure 8: a VGG-like network with
    ReLU, with batch norm, GAAF, both or neither (unless given: 3 seeds, 60 epochs of SGD with momentum at 0.05,
    weights recorded every 100 steps).

    Finished runs in --out are kept: after Ctrl-C the same command goes on where it was.

    **Examples**

    - `dropdiag reproduce` : all conditions, five seeds, on the shipped sample; a few minutes
    - `dropdiag reproduce --seeds 2 --epochs 5 --out out/quick` : a first look
    - `dropdiag reproduce --data ~/data --epochs 200 --patience 20 --optimizer sgd --out out/sgd` : all of MNIST
    - `dropdiag reproduce --conditions no-dropout --conditions gaaf --out out/gaaf` : two conditions
    - `dropdiag reproduce cifar10 --data ~/data` : Figure 8 on CIFAR-10, from its published files; wants a GPU
    - `dropdiag reproduce svhn --data ~/data --width 0.25 --limit 5000 --epochs 5 --seeds 1` : a first look on a CPU
    """
    if experiment is not Experiment.mnist:
        _figure8(experiment.value, _given(ctx))
        return
    with _clear_errors(out):
        _refuse([name for name in _given(ctx) if name in ONLY_FIGURE_8], experiment.value)
        from dropdiag.experiments.mnist.network import CONDITIONS  # noqa: PLC0415 - torch is not paid for --help
        from dropdiag.experiments.reproduce import reproduce as mnist  # noqa: PLC0415

        made = mnist(
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
            activation=activation.value,
            patience=patience,
            validation=validation,
            jobs=jobs,
        )
    _say(made, out)


def _given(ctx: typer.Context) -> dict[str, Any]:
    """Return the options that were given, without those left at their defaults, which differ by experiment."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params if name != "experiment"}
    given = {name: ctx.params[name] for name, source in sources.items() if source and source.name != "DEFAULT"}
    return {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}


def _refuse(names: Sequence[str], experiment: str) -> None:
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ArgumentError(f"{experiment} does not take {options}; leave out what does not apply to it")


def _figure8(dataset: str, given: dict[str, Any]) -> None:
    out = Path(given.pop("out", Path("out") / dataset))
    with _clear_errors(out):
        _refuse([name for name in given if name not in (*COMMON, *ONLY_FIGURE_8)], dataset)
        from dropdiag.experiments.images.reproduce import reproduce as figure8  # noqa: PLC0415

        made = figure8(out, dataset, **given)
    _say(made, out)


def _say(made: Reproduction, out: Path) -> None:
    for name, error in made.failed.items():
        typer.echo(f"failed: {name}: {error}", err=True)
    typer.echo(f"report:  {made.page}")
    typer.echo(f"figures: {out / 'figures'}")
    typer.echo(f"tables:  {out / 'tables'}")
    if made.failed:
        raise typer.Exit(1)
