"""Where an export goes: a folder that is put in place whole, and never over another."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dropdiag.errors import RunError
from dropdiag.store.storage.disk import sync_folder


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to write into; at the end it gets the name ``out``, after an exception it is removed.

    Raises
    ------
    RunError
        If ``out`` is there and is not an empty folder, or cannot be made.
    """
    out = out.expanduser().absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise RunError(f"{out} {what}, and nothing is ever overwritten; choose another folder")
    # beside it, so that the rename stays on one file system and is atomic
    hidden = out.parent / f".{out.name[:20]}-{uuid.uuid4().hex}.tmp"
    try:
        hidden.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"{out} cannot be made: {error}; choose another folder") from error
    try:
        yield hidden
        if out.exists():
            out.rmdir()
        hidden.rename(out)
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error}; nothing is left of it") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    sync_folder(out.parent)
