"""Messages that speak to users of Python, in the terms of a shell: the options of the command that is running."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

# What is quoted is somebody's name or path, and stays. Else `name=` is how all messages write an argument.
_PART: Final = re.compile(
    r"""(?P<quoted>(?<!\w)'[^']*'(?!\w)|"[^"]*")"""
    r"""|(?P<call>\b(?:compare|report|load)\((?P<given>\{[^{}]*\})\))"""
    r"""|(?<![\w./=-])(?P<name>[a-z_]+)=(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:[\w.+-]*\w)?)"""
)

UNREADABLE: Final = (ValueError, SyntaxError, MemoryError, RecursionError)
"""What `ast.literal_eval` raises of what is no literal, or one that is nested too deep."""


@dataclass(frozen=True)
class Command:
    """The command that is running: how it was called, and its options by the names of the arguments they stand for."""

    called: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, called: str, parameters: Iterable[tuple[str, Sequence[str]]]) -> Command:
        """Make one of its parameters: the name of each, and what it is called on the command line."""
        found = {name: max(flags, key=len) for name, flags in parameters if flags and flags[0].startswith("-")}
        # an option that is given several times, or takes a pattern, is a list in Python
        return cls(called, {name: flag for own, flag in found.items() for name in (own, f"{own}s")})


running: Final[ContextVar[Command | None]] = ContextVar("dropdiag_command", default=None)


def in_shell_terms(message: str) -> str:
    """Write the Python arguments of a message as options of the command that is running.

    ``baseline='No dropout'`` becomes ``--baseline 'No dropout'``, ``phase=`` becomes ``--phase``, and a dict of
    conditions in a call ``NAME=PATTERN`` arguments. An argument that the command has no option for stays as it is, as
    does everything where no command is running.

    Parameters
    ----------
    message : str
    """
    command = running.get()
    return message if command is None else _PART.sub(lambda part: _shell(part, command), message)


def _shell(part: re.Match[str], command: Command) -> str:
    if part["call"]:
        return f"{command.called} {groups}" if (groups := _groups(part["given"])) else part[0]
    flag = command.options.get(part["name"] or "")
    if flag is None:
        return part[0]
    value = part["value"]
    if value[:1] in ("'", '"'):
        try:
            value = shlex.quote(str(ast.literal_eval(value)))
        except UNREADABLE:  # no text of Python's: a name that looks like an argument
            return part[0]
    return f"{flag} {value}" if value else flag


def _groups(given: str) -> str:
    """Return a dict of conditions as NAME=PATTERN arguments; nothing where it is none."""
    try:
        conditions = ast.literal_eval(given)
    except UNREADABLE:
        return ""
    pairs = conditions.items() if isinstance(conditions, dict) else ()
    return " ".join(_quoted(f"{name}={pattern}") for name, pattern in pairs)


def _quoted(text: str) -> str:
    # between double quotes a shell still runs what is after a dollar sign or in backquotes
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
