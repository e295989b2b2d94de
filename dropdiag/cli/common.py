"""Options, progress bars, error messages and JSON output that the commands share."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer.models import OptionInfo

from dropdiag.cli.completion import run_folders
from dropdiag.cli.words import in_shell_terms
from dropdiag.errors import ArgumentError, DropdiagError, RunError
from dropdiag.formatting import jsonable, some
from dropdiag.printable import printable, well_formed

if TYPE_CHECKING:
    from dropdiag.store.run import Run

GROUPS_HELP = (
    "NAME=PATTERN: a condition and its runs, a run folder, a folder with runs below it or a quoted glob pattern "
    "(`runs/**/s?`); a name may come again. Without names, runs go by the condition in their config; where no config "
    "names any, each of two or more patterns or folders is a condition."
)

EMPTY = "a path is empty, as of a variable of the shell that is not set; give the folder, or . for this one"


def _named(what: str, default: str) -> OptionInfo:
    option: OptionInfo = typer.Option(metavar="NAME", help=what, show_default=default, callback=_as_runs_are_called)
    return option


def _as_runs_are_called(name: str | None) -> str | None:
    return None if name is None else well_formed(name)


AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def place(text: str) -> Path:
    """Return the path of an argument that names runs: of a disk, or a URL such as ``s3://bucket/runs``."""
    from dropdiag.store.storage.places import as_path  # noqa: PLC0415 - --help needs none

    with clear_errors():
        if not text:  # not this folder, which Path("") is
            raise ArgumentError(EMPTY)
        return as_path(text) if "://" in text else Path(text)


RunArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RUN", parser=place, autocompletion=run_folders, help="A run folder.")
]
RootArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="ROOT", parser=place, autocompletion=run_folders, help="A folder with run folders in it, at any depth."
    ),
]
GroupsArgument: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="[NAME=]PATTERN...", autocompletion=run_folders, help=GROUPS_HELP)
]
Baseline: TypeAlias = Annotated[
    str | None, _named("Condition to compare with.", "by its name or recorded rates; else the first NAME=")
]
Dropout: TypeAlias = Annotated[
    str | None, _named("Condition that is dropout in claims (e) and (f).", "inferred from the name")
]
Gaaf: TypeAlias = Annotated[
    str | None, _named("Condition that is GAAF in claims (e) and (f).", "each with GAAF in its name")
]
Scalar: TypeAlias = Annotated[
    str | None,
    _named("Held-out scalar whose best ends the epochs of claim (f).", "an accuracy, if possible on validation data"),
]


Letters: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--claims", metavar="LETTERS", show_default="all",
        help="Claims to put to the test, as in 'cd': the fewer are asked, the fewer seeds it takes.",
    ),
]  # fmt: skip
Alpha: TypeAlias = Annotated[
    float | None,
    typer.Option(help="The one level of intervals, p and verdicts.", show_default="0.05"),
]


def claim_options(**given: Any) -> dict[str, Any]:
    """Return the options of `Comparison.claims` that were given."""
    return {name: value for name, value in given.items() if value is not None}


def groups(arguments: Sequence[str]) -> dict[str, list[str]] | list[str | Path]:
    """Turn ``NAME=PATTERN`` arguments into what `load` takes: a dict of conditions, or a list of paths.

    What exists as a path, or has a slash before its first ``=``, is a path and has no name.

    Raises
    ------
    ArgumentError
        If only some have a name, or a name or a pattern is empty.
    """
    from dropdiag.store.paths import existing  # noqa: PLC0415 - --help needs none

    named: dict[str, list[str]] = {}
    plain: list[str | Path] = []
    for argument in arguments:
        if not argument:
            raise ArgumentError(EMPTY)
        name, equals, pattern = argument.partition("=")
        # "runs/lr=0.1-s0" is a path, though it has a "="; so is a folder "lr=0.1" that exists.
        if not equals or "/" in name or existing(argument) is not None:
            plain.append(argument)
        elif name.strip() and pattern:
            named.setdefault(well_formed(name.strip()), []).append(pattern)  # as runs call their conditions
        else:
            raise ArgumentError(f"{argument!r} is no NAME=PATTERN; write it as 'Dropout=runs/dropout-*'")
    if named and plain:
        raise ArgumentError(f"{plain[0]!r} has no condition and others have; name all of them (NAME=PATTERN), or none")
    return named or plain


def one_run(path: Path) -> Run:
    """Open the run that a command takes: of a folder, the only one below it.

    Raises
    ------
    ArgumentError
        If there are several.
    """
    from dropdiag.store.reader import Run, load  # noqa: PLC0415 - --help needs none

    found = load(path)
    if isinstance(found, Run):
        return found
    if len(found) > 1:
        names = some([str(run.path) for run in found])
        raise ArgumentError(f"{path} stands for {len(found)} runs and this command takes one: {names}")
    return found[0]


def say(line: str, *, err: bool = False) -> None:
    """Print a line, whatever the names in it hold (`printable`): the one way of the commands, beside `Page`."""
    typer.echo(printable(line), err=err)


def echo_json(value: object) -> None:
    """Print strict JSON in ASCII: numbers that are not finite become null, control characters their escapes."""
    # NaN is no JSON: jq and every strict reader refuse a file that has one
    document = json.dumps(jsonable(value), indent=1, allow_nan=False)
    typer.echo(document.replace("\x7f", "\\u007f"))  # the one control character that JSON lets stand


def answer(value: object, *lines: str, as_json: bool) -> None:
    """Print what a command found: as JSON, or its lines."""
    if as_json:
        echo_json(value)
    else:
        for line in lines:
            say(line)


def tell(problems: Sequence[str], what: str) -> None:
    """Print problems to standard error, a line each."""
    for problem in dict.fromkeys(problems):
        say(f"{what}: {_one_line(problem)}", err=True)


def finish(problems: Sequence[str], what: str = "left out") -> None:
    """Print problems as `tell` does, and leave with code 1 if there are any."""
    tell(problems, what)
    if problems:
        raise typer.Exit(1)


def _one_line(text: object) -> str:
    # an argument that is put in a shell's terms is no longer as Python wrote it, but as it is: escaped after that
    return printable(in_shell_terms(" ".join(str(text).split())))


def check_file(out: Path) -> Path:
    """Return where a file is to be written, "~" expanded; raise where it cannot be, before anything is computed.

    Raises
    ------
    RunError
        If it is a folder, or no file can be made there.
    """
    out = _expanded(out)
    if out.is_dir():
        raise RunError(f"{out} is a folder; give the file to write, such as {out / 'report.html'}")
    _check_writable(out.parent, out)
    return out


def check_folder(out: Path) -> Path:
    """Return where a folder is to be made or filled, "~" expanded; raise where it cannot be, as `check_file` does.

    Raises
    ------
    RunError
        If it is a file, or no file can be made in it.
    """
    out = _expanded(out)
    _check_writable(out, out)
    return out


def _expanded(out: Path) -> Path:
    from dropdiag.store.storage.places import not_remote  # noqa: PLC0415 - --help needs none

    return not_remote(Path(os.path.expanduser(out)), "what --out names")  # noqa: PTH111 - Path's raises where there is no such user


def _check_writable(folder: Path, out: Path) -> None:
    """Make a file without a name in a folder, or in the nearest one above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        # to try it is the one question whose answer holds: permissions say little to root, or of what is mounted
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = "is a file, no folder" if folder.is_file() else f"cannot be written to ({error.strerror or error})"
        raise RunError(f"{out} cannot be made: {folder} {what}; choose another place for --out") from error


@contextmanager
def clear_errors(out: Path | None = None) -> Iterator[None]:
    """Turn an error into one line and code 2, Ctrl-C into code 130.

    Messages speak to users of Python: they are put in the terms of the command (`in_shell_terms`).
    """
    try:
        yield
    except DropdiagError as error:  # any other error is a bug, and keeps its traceback
        say(f"error: {_one_line(error)}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        kept = "" if out is None else f"; finished runs are kept, and the same command goes on from {out}"
        say("", err=True)
        say(f"stopped{kept}", err=True)
        raise typer.Exit(130) from None
