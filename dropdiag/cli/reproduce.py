"""``dropdiag reproduce``."""

# ruff: noqa: ARG001 - options are read through the context, which knows which of them were given

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from dropdiag.cli.common import check_folder, say
from dropdiag.cli.common import clear_errors as _clear_errors
from dropdiag.experiments.data.datasets import DATASETS

if TYPE_CHECKING:
    from dropdiag.experiments.reproduce import Reproduction


def _known(name: str) -> str:
    if name not in DATASETS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(DATASETS)}.")
    return name


OF_REPRODUCE = ("data", "limit", "conditions", "seeds", "jobs", "engine", "print_plan", "out")
"""Options of every experiment; the others are settings of its runs, and each experiment knows which it has."""


# What can be chosen. Spelt out here: the settings that check it import torch, which --help must not pay for.
Device: TypeAlias = Literal["auto", "cuda", "mps", "cpu"]
Activation: TypeAlias = Literal["tanh", "relu"]
Optimizer: TypeAlias = Literal["adam", "sgd"]


def reproduce(
    ctx: typer.Context,
    *,
    experiment: Annotated[
        str, typer.Argument(parser=_known, metavar="NAME", help=f"Which experiment: {', '.join(DATASETS)}.")
    ] = "mnist",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the data: the four IDX files of MNIST or Fashion-MNIST (gzipped or not, in DIR or "
            "DIR/NAME), CIFAR's extracted folder or .tar.gz, SVHN's two .mat files. Without it: $DROPDIAG_DATA, or "
            "else, for mnist, the sample of 10,000 images that is shipped.",
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
            min=0, help="Training images held out for that.", show_default="a sixth with --patience, else none"
        ),
    ] = None,
    activation: Annotated[Activation, typer.Option(help="The base activation function.")] = "tanh",
    optimizer: Annotated[Optimizer, typer.Option(help="adam, or sgd without momentum.")] = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="0.001 adam, 0.1 sgd")] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A condition: no-dropout, dropout, gaaf, gaaf-fitted, straight-through, and with ReLU gaaf-port, "
            "sugar-b-silu, sugar-nelu. Repeat it for several.",
            show_default="the first four",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Runs at a time, each a process with one thread.",
            show_default="number of cores; 1 on a GPU; what a cluster takes",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where runs are trained: local; dask:ADDRESS, a Dask cluster; slurm, an array of jobs, with "
            "submitit's parameters as in slurm:slurm_partition=gpu,timeout_min=600. Clusters see the same files.",
        ),
    ] = "local",
    print_plan: Annotated[
        bool,
        typer.Option(
            "--print-plan",
            help="Train nothing: print a command for each run that is left, which trains it by itself.",
        ),
    ] = False,
    rate: Annotated[
        float, typer.Option(help="Dropout rate of the condition 'Dropout', which has to be named but for mnist.")
    ] = 0.5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    every: Annotated[int, typer.Option(min=1, help="Record weights every so many steps.")] = 10,
    measurements: Annotated[
        int,
        typer.Option(
            min=0,
            help="At the start and at so many points of training measure why gradient flows, and at the end flatness, "
            "robustness, ensemble and co-adaptation; 0: never. For mnist alone.",
        ),
    ] = 10,
    width: Annotated[
        float, typer.Option(help="Factor of the network's widths, for a quick look. Not for mnist.")
    ] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many training and test images.")] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Forward passes in bfloat16 (autocast). Not for mnist.")] = False,
    device: Annotated[
        Device, typer.Option(help="What trains; auto takes a GPU if there is one. Not for mnist.")
    ] = "auto",
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for runs, figures, tables and index.html.", show_default="out/NAME"),
    ] = Path("out/mnist"),
) -> None:
    """Train the paper's network in each condition and measure it: figures, tables, one page.

    `mnist` is the paper's analysis; `cifar10`, `cifar100` and `svhn` are its Figure 8: a VGG-like network with
    ReLU, with batch norm, GAAF, both or neither (unless given: 3 seeds, 60 epochs of SGD with momentum at 0.05,
    weights recorded every 100 steps). `fashion-mnist` is the same on data of which the paper has no numbers.

    Finished runs in --out are kept: after Ctrl-C the same command goes on where it was.

    **Examples**

    - `dropdiag reproduce` : all conditions, five seeds, on the shipped sample; a few minutes
    - `dropdiag reproduce --seeds 2 --epochs 5 --out out/quick` : a first look
    - `dropdiag reproduce --data ~/data --epochs 200 --patience 20 --optimizer sgd --out out/sgd` : all of MNIST
    - `dropdiag reproduce --conditions no-dropout --conditions gaaf --out out/gaaf` : two conditions
    - `dropdiag reproduce cifar10 --data ~/data` : Figure 8 on CIFAR-10, from its published files; wants a GPU
    - `dropdiag reproduce svhn --data ~/data --width 0.25 --limit 5000 --epochs 5 --seeds 1` : a first look on a CPU
    - `dropdiag reproduce --engine dask:tcp://host:8786` : on a Dask cluster
    - `dropdiag reproduce --print-plan > plan.sh` : a command a run, for whatever starts commands
    """
    given = _given(ctx)
    out = Path(given.pop("out", Path("out") / experiment))
    with _clear_errors(out):
        out = check_folder(out)
        # Imported late: torch is not paid for --help.
        from dropdiag.experiments import reproduce as experiments  # noqa: PLC0415
        from dropdiag.experiments.asked import EXPERIMENTS  # noqa: PLC0415

        printed = given.pop("print_plan", False)
        chosen = {name: value for name, value in given.items() if name not in OF_REPRODUCE}
        EXPERIMENTS[experiment].refuse_unknown(chosen, _as_option)
        if not printed:
            made = experiments.reproduce(out, experiment, **given)
        else:
            of_trainings = {name: value for name, value in given.items() if name not in ("jobs", "engine")}
            for command in experiments.commands(out, experiment, **of_trainings):
                say(command)
            return
    _say(made, out)


def _given(ctx: typer.Context) -> dict[str, Any]:
    """Return the options that were given, without those left at their defaults, which differ by experiment."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params if name != "experiment"}
    return {name: ctx.params[name] for name, source in sources.items() if source and source.name != "DEFAULT"}


def _as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _say(made: Reproduction, out: Path) -> None:
    for name, error in made.failed.items():
        say(f"failed: {name}: {error}", err=True)
    if made.failed:
        say(f"what they wrote: {out / 'launches'}", err=True)
    say(f"report:  {made.page}")
    say(f"figures: {out / 'figures'}")
    say(f"tables:  {out / 'tables'}")
    if made.failed:
        raise typer.Exit(1)
