"""``dropdiag ls``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dropdiag.cli.common import AsJson, RootArgument, clear_errors, echo_json, finish, say, tell
from dropdiag.cli.terminal import Page
from dropdiag.errors import ArgumentError, warned
from dropdiag.formatting import moment, size

if TYPE_CHECKING:
    from dropdiag.store.listing import Listed


@clear_errors()
def ls(
    root: RootArgument,
    *,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="name, condition, seed, steps, state, size, when, ranks, or a key of the config."
        ),
    ] = "name",
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Sort in descending order.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only runs whose config has this value, or whose column has; a.b reaches into a dict. "
            "Repeat it for several: all must hold.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List all runs below a folder: condition, seed, steps, state, size on disk, when they began, their ranks.

    Only what each says of itself is read, so a thousand runs take a second or two. What cannot be read is named with
    its reason, and the exit code is then 1. A job that was killed still reads `running`.

    **Examples**

    - `dropdiag ls runs`
    - `dropdiag ls runs --sort when --reverse`
    - `dropdiag ls runs --where condition=Dropout --where lr=0.001`
    - `dropdiag ls runs --where state=failed --json`
    """
    with warned() as problems:
        from dropdiag.store.listing import filtered, listing, ordered  # noqa: PLC0415

        found = listing(root)
        runs = ordered(filtered(found.runs, [_pair(one) for one in where or ()]), sort, reverse=reverse)
    if as_json:
        unreadable = [{"name": name, "reason": reason} for name, reason in found.unreadable.items()]
        echo_json({"root": str(root), "runs": list(map(_told, runs)), "unreadable": unreadable})
    elif runs:
        _print(runs)
    else:
        say(f"no run{' with that' if where else ''} below {root}", err=True)
    # after the table, and on standard error: the list itself stays one that can be piped
    tell(list(found.unreadable.values()), "unreadable")
    finish(problems)
    if found.unreadable:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ArgumentError(f"--where takes KEY=VALUE, as in condition=Dropout, got {text!r}")
    return key, value


def _told(run: Listed) -> dict[str, Any]:
    """Return a run for JSON; of one process nothing is said of ranks."""
    told = asdict(run)
    return told if run.ranks else {name: value for name, value in told.items() if name != "ranks"}


def _print(runs: list[Listed]) -> None:
    page = Page()
    columns = {"name": "left", "condition": "left", "seed": "right", "steps": "right", "state": "left",
               "size": "right", "when": "left"}  # fmt: skip
    several = any(run.ranks for run in runs)
    columns |= {"ranks": "left"} if several else {}
    rows = [
        [run.name, run.condition, "" if run.seed is None else str(run.seed), f"{run.steps:,}", run.state,
         size(run.size), moment(run.when, seconds=False), *([run.ranks] if several else [])]
        for run in runs
    ]  # fmt: skip
    page.table(columns, rows)
    page.show()
