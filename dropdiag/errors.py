"""The few exceptions of dropdiag.

Every message says what was wrong, what was got, and what to do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class DropdiagError(Exception):
    """Base of every error that dropdiag raises on purpose."""


class ArgumentError(DropdiagError, ValueError):
    """An argument cannot be used as it is."""


class BaselineError(ArgumentError):
    """Which condition the others are to be compared with is not known: give ``baseline=``."""


class RunError(DropdiagError):
    """A run folder cannot be written or read."""


class NotRecordedError(DropdiagError, LookupError):
    """A run was asked for something that it does not hold."""


class DataError(DropdiagError):
    """A data set's file is missing, damaged, or not what it should be."""


class DropdiagWarning(UserWarning):
    """Something could not be recorded or read; the rest goes on."""


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
