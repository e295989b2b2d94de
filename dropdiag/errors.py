"""The few exceptions of dropdiag.

Every message says what was wrong, what was got, and what to do. Names in it are others': it is made printable where it
is made, so that no terminal, log or page that shows it has to.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dropdiag.printable import printable


class DropdiagError(Exception):
    """Base of every error that dropdiag raises on purpose.

    Examples
    --------
    >>> try:
    ...     dd.load("runs/nowhere")
    ... except dd.DropdiagError as error:
    ...     print(type(error).__name__)
    RunError
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*_lines(args))


class ArgumentError(DropdiagError, ValueError):
    """An argument cannot be used as it is."""


class BaselineError(ArgumentError):
    """Which condition the others are to be compared with is not known: give ``baseline=``."""


class AxisError(ArgumentError):
    """Runs do not lie on one axis of doses: name it by ``x=``, and give the runs of one setting of all else."""


class RunError(DropdiagError):
    """A run folder cannot be written or read."""


class NotRecordedError(DropdiagError, LookupError):
    """A run was asked for something that it does not hold."""


class DataError(DropdiagError):
    """A data set's file is missing, damaged, or not what it should be."""


class NotInstalledError(DropdiagError, ImportError):
    """A library that is needed for this cannot be imported.

    Examples
    --------
    >>> from dropdiag.errors import NotInstalledError
    >>> try:
    ...     from dropdiag.integrations import lightning
    ... except NotInstalledError as error:
    ...     print(error)  # dropdiag.integrations.lightning needs lightning, ...; install it with: pip install lightning
    """


class DropdiagWarning(UserWarning):
    """Something could not be recorded or read; the rest goes on.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", dd.DropdiagWarning)  # what could not be recorded stops the script
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*_lines(args))


def _lines(args: tuple[Any, ...]) -> list[Any]:
    return [_one_line(one) if isinstance(one, str) else one for one in args]


def _one_line(text: str) -> str:
    # errors of others that are repeated may have several lines; what a name holds must not look like another line
    return printable(" ".join(line.strip(" ") for line in text.split("\n")))


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the sentences of dropdiag's own warnings in place of showing them; the list is filled at the end."""
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        try:
            yield sentences
        finally:
            sentences += [str(one.message) for one in caught if issubclass(one.category, DropdiagWarning)]
    # Warnings of other libraries are not ours to print: whoever listens for them must still hear them.
    for other in caught:
        if not issubclass(other.category, DropdiagWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
