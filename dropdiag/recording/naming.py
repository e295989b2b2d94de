"""Run folders that are named from the config, each its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import ArgumentError, RunError

AUTO: Final = "auto"
LONGEST: Final = 80
"""Characters of a name, which file systems bound."""


def check_name(name: object, resume: object) -> None:
    """Raise `ArgumentError` unless ``name=`` is the name of a folder, and of a new one where it is "auto"."""
    if name is None:
        return
    if not isinstance(name, str) or not name or Path(name).name != name or name in (".", ".."):
        raise ArgumentError(f'name= takes the name of a folder below the path, or "auto", got {name!r}')
    if name == AUTO and resume is not False:
        raise ArgumentError('name="auto" begins a new run; to resume one give the path of its folder')


def auto_name(config: Mapping[str, Any]) -> str:
    """Return the name of a run: its condition and seed, ``dropout-s0``; "run" where the config has neither.

    Parameters
    ----------
    config : dict
    """
    condition, seed = config.get("condition"), config.get("seed")
    # Letters and digits of any language; what else a condition holds may mean something to a shell or a file system.
    words = re.sub(r"[^\w.+=]+", "-", "" if condition is None else str(condition).lower()).strip("-.")
    return (words[:LONGEST].rstrip("-.") or "run") + ("" if seed is None else f"-s{seed}")


def claimed_folder(parent: Path, config: Mapping[str, Any]) -> Path:
    """Make a new folder for a run below ``parent``: NAME, NAME-2, ..., whichever is the first that is free.

    Raises
    ------
    RunError
        If none can be made there.
    """
    name = auto_name(config)
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return next(path for path in map(parent.joinpath, names) if _made(path))
    except OSError as error:
        raise RunError(f"cannot make a run folder in {parent}: {error}; choose a path that can be written") from error


def _made(path: Path) -> bool:
    # To make it is the one question whose answer holds: of several processes that ask, one gets the folder.
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True
