"""The few exceptions of dropdiag.

Every message says what was wrong, what was got, and what to do.
"""

from __future__ import annotations


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
