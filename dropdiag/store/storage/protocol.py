"""What reading and recording runs needs of a place where files lie."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

from dropdiag.store.storage.digesting import Digesting

Named: TypeAlias = Path | Callable[[str], Path]
"""A path, or what makes it of the digest of its content."""


class Entry(NamedTuple):
    """A file of a folder.

    Attributes
    ----------
    name : str
    size : int
    version : hashable
        Another one where the file was replaced.
    """

    name: str
    size: int
    version: Hashable


class Opened(NamedTuple):
    """A file that is open.

    Attributes
    ----------
    file : binary file
        Can be read at any place.
    size : int
    version : hashable or None
        What tells this content from another under its name; None where the content is at hand, and costs less to look
        at again than to remember.
    """

    file: BinaryIO
    size: int
    version: Hashable | None


class Storage(Protocol):
    """A place where files lie. Errors are `OSError`, as those of a disk: `FileNotFoundError`, `NotADirectoryError`."""

    def kind(self, path: Path) -> Literal["file", "folder"] | None:
        """Return what lies at a path; a folder of an object store is what objects lie below."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        ...

    def files(self, folder: Path) -> list[Entry]:
        """Return the files in a folder; those that go meanwhile are left out."""
        ...

    def open(self, path: Path, root: Path) -> AbstractContextManager[Opened]:
        """Open a regular file to be read, which no link leads out of a folder."""
        ...

    def read(self, path: Path, limit: int, root: Path | None = None) -> bytes:
        """Return a regular file whole; raise `RunError` where it has more bytes than it may."""
        ...

    def modified(self, path: Path) -> float:
        """Return when a file was written, in seconds, by the clock of the place."""
        ...

    def put(self, path: Named, temporary: Path, *, replaces: bool) -> AbstractContextManager[Digesting]:
        """Give a file to be written, which is there whole after the block, or not at all after an exception.

        Parameters
        ----------
        path : Path or callable
        temporary : Path
            Its name meanwhile, where one is needed; no other writer has it.
        replaces : bool
            Whether another one of its name may be replaced.
        """
        ...

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files; one that is gone is no error."""
        ...

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all that it holds."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Make a folder with those above it, where folders are made."""
        ...

    def written_ago(self, path: Path) -> float:
        """Return how many seconds ago a file was written, by the clock of the place and not of this machine."""
        ...
