"""Run folders that are named from the config, each its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError, RunError
from dropdiag.printable import bare, printable
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.places import is_remote

AUTO: Final = "auto"
LONGEST: Final = 80
"""Characters of a name, and half of its bytes, which file systems bound."""
MOST_BYTES: Final = 240
"""Of a name that is given: 255 are the most, and a number may come behind it."""


class Numbered(str):
    """The name of a new run that gets a number where it is taken: ``x``, ``x-2``, ..."""

    __slots__ = ()


def check_name(name: object, resume: object) -> None:
    """Raise `ArgumentError` unless ``name=`` is the name of a folder, and of a new one where it is "auto"."""
    if name is None:
        return
    if not isinstance(name, str) or not _is_one(name):
        raise ArgumentError(f'name= takes the name of a folder below the path, or "auto", got {name!r}')
    if name == AUTO and resume is not False:
        raise ArgumentError('name="auto" begins a new run; to resume one give the path of its folder')


def _is_one(name: str) -> bool:
    # a name is shown wherever its run is, and file systems take 255 bytes of it
    shown = bool(name) and printable(name) == name and len(name.encode("utf-8")) <= MOST_BYTES
    return shown and Path(name).name == name and name not in (".", "..")


def auto_name(config: Mapping[str, Any]) -> str:
    """Return the name of a run: its condition and seed, ``dropout-s0``; "run" where the config has neither.

    Parameters
    ----------
    config : dict
    """
    condition, seed = config.get("condition"), config.get("seed")
    # Letters and digits of any language; what else a condition holds may mean something to a shell or a file system.
    words = _words("" if condition is None else str(condition).lower(), LONGEST)
    return (words or "run") + ("" if seed is None else f"-s{_words(str(seed), LONGEST)}")


def _words(text: str, most: int) -> str:
    words = re.sub(r"[^\w.+=]+", "-", bare(text)).strip("-.")
    return words.encode("utf-8")[: 2 * most].decode("utf-8", "ignore")[:most].rstrip("-.")


def claimed_folder(parent: Path, config: Mapping[str, Any], name: str | None = None) -> Path:
    """Make a new folder for a run below ``parent``: NAME, NAME-2, ..., whichever is the first that is free.

    NAME is that of the config (`auto_name`) where none is given.

    Raises
    ------
    RunError
        If none can be made there.
    """
    name = name or auto_name(config)
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    if is_remote(parent):  # which has no folders to be made: `dropdiag.store.claims` decides between two
        taken = _names_in_store(parent)
        return parent / next(one for one in names if one not in taken)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return next(path for path in map(parent.joinpath, names) if _made(path))
    except OSError as error:
        raise RunError(f"cannot make a run folder in {parent}: {error}; choose a path that can be written") from error


def _names_in_store(parent: Path) -> set[str]:
    try:
        return set(storage_of(parent).names(parent))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RunError(f"{parent} cannot be listed: {error}; choose a path that can be written") from error


def _made(path: Path) -> bool:
    # To make it is the one question whose answer holds: of several processes that ask, one gets the folder.
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True
