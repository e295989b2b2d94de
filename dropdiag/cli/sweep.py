"""``dropdiag sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dropdiag.cli.common import check_folder, say
from dropdiag.cli.common import clear_errors as _clear_errors
from dropdiag.errors import ArgumentError
from dropdiag.formatting import missing, plain

if TYPE_CHECKING:
    import pandas as pd

    from dropdiag.experiments.sweep.result import Sweep


def sweep(
    train: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME",
            help="Your function train(config, path), which records one network into path; MODULE:NAME also does.",
        ),
    ],
    *,
    over: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE,...",
            help="An axis and its values: a key of config, or dropout:PATTERN, insert:PATTERN, early:STEPS:PATTERN, "
            "late:STEPS:PATTERN, linear:STEPS:PATTERN, schedule:PATTERN. Repeat it for several, of which all "
            "combinations are trained.",
        ),
    ],
    seeds: Annotated[
        str, typer.Option(metavar="N", help="Seeds, 0 to N - 1, or which: 3,4,5. The same for each combination.")
    ] = "5",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for runs and sweep.json; finished runs in it are kept.")
    ] = Path("runs/sweep"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A key of config, the same in all runs. Repeat it."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where runs are trained: local; dask:ADDRESS; slurm; here: in this process (docs/engines.md).",
        ),
    ] = "local",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time.", show_default="cores by threads; 1 on a GPU; what a cluster takes"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each run.")] = 1,
    early_stop: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Screen combinations by this held-out number, with seeds of their own, and train in full those that "
            "are left.",
            show_default="never",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="NAME", help="With --early-stop: the --set that says how long a run trains.")
    ] = "epochs",
    least: Annotated[
        int | None,
        typer.Option(min=1, help="With --early-stop: the budget of the first round.", show_default="a quarter"),
    ] = None,
    keep_changed: Annotated[
        bool, typer.Option("--keep-changed", help="Keep finished runs though the file of train was changed since.")
    ] = False,
    print_plan: Annotated[
        bool, typer.Option("--print-plan", help="Train nothing: print a command for each run that is left.")
    ] = False,
) -> None:
    """Train a network of yours over all values of some axes, with paired seeds, and record each run.

    Every run is a process of its own. Finished runs in --out are kept: after Ctrl-C the same command goes on where it
    was, and one with more values or seeds adds to them.

    **Examples**

    - `dropdiag sweep train.py:train --over rate=0,.1,.3,.5 --seeds 5` : a key that train reads
    - `dropdiag sweep train.py:train --over 'dropout:*=0,.1,.3' --over lr=.1,.01 --out runs/two` : the model's dropouts
    - `dropdiag sweep train.py:train --over 'insert:act*=0,.2' --seeds 3` : dropouts where there are none
    - `dropdiag sweep train.py:train --over rate=0,.1,.2,.3 --set epochs=20 --early-stop accuracy` : screened first
    """
    with _clear_errors(out):
        out = check_folder(out)
        # Imported late: torch is not paid for --help.
        from dropdiag.experiments.sweep import sweep as sweeps  # noqa: PLC0415
        from dropdiag.experiments.sweep.axes import pairs, parsed, seeds_of, setting  # noqa: PLC0415

        asked: dict[str, Any] = {
            "train": train, "over": pairs(map(parsed, over)), "seeds": seeds_of(seeds), "out": out, "threads": threads,
            "settings": {key: values[0] for key, values in pairs(map(setting, settings or ())).items()},
            "keep_changed": keep_changed,
        }  # fmt: skip
        if least is not None and early_stop is None:
            raise ArgumentError("least= is the first budget of screening; give early_stop= as well, or leave it out")
        if print_plan:
            if early_stop is not None:
                raise ArgumentError("early_stop= decides by what runs have given, so that no plan is known before")
            for command in sweeps.commands(**asked):
                say(command)
            return
        stop = None if early_stop is None else {"metric": early_stop, "budget": budget, "least": least}
        made = sweeps.sweep(**asked, engine=engine, processes=processes, early_stop=stop)
        table = made.table
    _say(made, table)


def _show(table: pd.DataFrame, axes: int) -> None:
    """Print what the conditions ended with: the mean over seeds, ± their standard deviation."""
    from dropdiag.cli.terminal import Page  # noqa: PLC0415 - --help needs none

    numbers = list(table.columns[axes + 2 :: 2])
    page = Page()
    page.table(
        {"condition": "left", "seeds": "right", **dict.fromkeys(numbers, "right")},
        [[row["condition"], str(row["seeds"]), *(_cell(row[name], row[f"{name} sd"]) for name in numbers)]
         for row in table.to_dict("records")],
    )  # fmt: skip
    page.line("Last values on held-out data: mean ± sd over seeds.")
    page.show()


def _cell(mean: float, sd: float) -> str:
    return plain(mean, ".4g") + (f" ±{plain(sd, '.2g')}" if not missing(sd) else "")


def _say(made: Sweep, table: pd.DataFrame) -> None:
    _show(table, len(made.axes))
    for remark in made.remarks:
        say(remark)
    say(f"runs:  {made.out / 'runs'}")
    say(f"next:  dropdiag advise {made.out}")
    for name, error in made.failed.items():
        say(f"failed: {name}: {error}", err=True)
    if made.failed:
        say(f"what they wrote: {made.out / 'launches'}", err=True)
        raise typer.Exit(1)
