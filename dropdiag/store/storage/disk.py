"""Files of a disk, put in place atomically."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from dropdiag.store.regular import open_regular, read_bytes
from dropdiag.store.storage.digesting import Digesting
from dropdiag.store.storage.protocol import Entry, Named, Opened


def lies(entry: os.DirEntry[str], is_kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether what lies in a folder is a folder, or a file; a link in a circle, or to nothing, is neither."""
    try:
        return is_kind(entry)
    except OSError:
        return False


class Disk:
    """A file system of this machine, or one that looks so. See `dropdiag.store.storage.protocol.Storage`."""

    def kind(self, path: Path) -> Literal["file", "folder"] | None:
        """Return what lies at a path."""
        return "folder" if path.is_dir() else "file" if path.exists() else None

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        try:
            return os.listdir(folder)  # noqa: PTH208 - of thousands, several times as fast
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise FileNotFoundError(errno.ENOENT, "it is a link that leads in a circle", str(folder)) from error

    def files(self, folder: Path) -> list[Entry]:
        """Return the files in a folder."""
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it went just now
                    if lies(entry, os.DirEntry.is_file):
                        known = entry.stat()
                        found.append(Entry(entry.name, known.st_size, known.st_mtime_ns))
        return found

    @contextmanager
    def open(self, path: Path, root: Path) -> Iterator[Opened]:
        """Open a regular file to be read."""
        with open_regular(path, root) as file:
            of = os.fstat(file.fileno())
            yield Opened(file, of.st_size, (of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns))

    def read(self, path: Path, limit: int, root: Path | None = None) -> bytes:
        """Return a regular file whole."""
        return read_bytes(path, limit, root)

    def modified(self, path: Path) -> float:
        """Return when a file was written."""
        return path.stat().st_mtime

    @contextmanager
    def put(self, path: Named, temporary: Path, *, replaces: bool) -> Iterator[Digesting]:
        """Give a file to be written: under a temporary name, synced, then given its name."""
        with put_in_place(path, Path.replace if replaces else Path.rename, temporary) as file:
            yield file

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files."""
        for path in paths:
            path.unlink(missing_ok=True)

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder with all that it holds."""
        shutil.rmtree(folder, ignore_errors=True)

    def make_folder(self, folder: Path) -> None:
        """Make a folder with those above it."""
        folder.mkdir(parents=True, exist_ok=True)

    def make_new_folder(self, folder: Path, name: str, content: bytes, temporary: Path) -> None:
        """Make a folder with a file in it: both are there, or neither. Raise `FileExistsError` where it is taken."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(temporary)
            temporary.rename(folder)  # onto one that holds nothing at most
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(error.errno, "it is taken", str(folder)) from error
            raise
        sync_folder(folder.parent)

    def written_ago(self, path: Path) -> float:
        """Return how many seconds ago a file was written, by the clock of the file system."""
        probe = path.with_name(f"run.{secrets.token_hex(8)}.tmp")
        try:
            probe.touch()
            return max(probe.stat().st_mtime - path.stat().st_mtime, 0.0)
        finally:
            probe.unlink(missing_ok=True)


@contextmanager
def put_in_place(path: Named, move: Callable[[Path, Path], Path], temporary: Path) -> Iterator[Digesting]:
    """Open a file under a temporary name; at the end it is synced and given its name, after an exception removed.

    Parameters
    ----------
    path : Path or callable
        Its name, or what makes it of the digest of its bytes.
    move : callable
        `Path.rename` for a new name, `Path.replace` for one that may be taken.
    temporary : Path
        The temporary name, in the same folder, which no other writer has.
    """
    try:
        with temporary.open("wb") as file:
            draft = Digesting(file)
            yield draft
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path if isinstance(path, Path) else path(draft.digest))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(temporary.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, where the system has a notion of it."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
