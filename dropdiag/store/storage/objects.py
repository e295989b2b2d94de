"""Objects of a store that fsspec speaks to: they are put whole, are never half there, and have no folders.

A store is taken to be strongly consistent, as S3, Google Cloud Storage and Azure Blob Storage are: what was put is seen
by whoever lists or reads afterwards.
"""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, Literal, cast

from dropdiag.errors import RunError
from dropdiag.store.regular import check_size
from dropdiag.store.storage.digesting import Digesting
from dropdiag.store.storage.protocol import Entry, Named, Opened

WHOLE_BYTES: Final = 8 << 20
"""Of an object that is read with one request."""
LARGE_BYTES: Final = 64 << 20
"""Of one that is put in several parts, from a temporary file of this machine."""
STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "obs", "oci", "tos", "memory"})
"""Schemes of stores that put an object whole or not at all."""


_TOLD: Final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


class StoreError(RunError, OSError):
    """A store does not answer, or refuses: no credentials, no right, no network."""


class Objects:
    """Object stores. See `dropdiag.store.storage.protocol.Storage`."""

    def __init__(self) -> None:
        self._large: dict[str, None] = {}  # paths of objects that were not read whole

    def kind(self, path: Path) -> Literal["file", "folder"] | None:
        """Return what lies at a path; a folder is what objects lie below."""
        with _clear(path):
            try:
                found = _system(path).info(_key(path))["type"]
            except (FileNotFoundError, NotADirectoryError):
                return None
        return "folder" if found == "directory" else "file"

    def names(self, folder: Path) -> list[str]:
        """Return the names below a folder, with one request for a thousand of them."""
        return [PurePosixPath(one["name"]).name for one in self._listed(folder)]

    def files(self, folder: Path) -> list[Entry]:
        """Return the objects below a folder, not those of folders in it."""
        return [
            Entry(PurePosixPath(one["name"]).name, int(one["size"] or 0), _version(one))
            for one in self._listed(folder)
            if one["type"] == "file"
        ]

    def below(self, folder: Path) -> list[Entry]:
        """Return all objects below a folder, named by their paths from there, sorted."""
        with _clear(folder):
            system = _system(folder)
            start = system._strip_protocol(_key(folder)).rstrip("/") + "/"
            found = system.find(_key(folder), detail=True)
        named = sorted((name[len(start) :], one) for name, one in found.items() if name.startswith(start))
        return [Entry(name, int(one["size"] or 0), _version(one)) for name, one in named if name]

    @contextmanager
    def open(self, path: Path, root: Path) -> Iterator[Opened]:  # noqa: ARG002 - a store has no links
        """Open an object: a small one is read whole with one request."""
        if str(path) not in self._large:
            with _clear(path):
                content = _system(path).cat_file(_key(path), start=0, end=WHOLE_BYTES + 1)
            if len(content) <= WHOLE_BYTES:
                yield Opened(io.BytesIO(content), len(content), None)
                return
            self._large[str(path)] = None
        with _clear(path):
            known = _system(path).info(_key(path))
            file = _system(path).open(_key(path), "rb", block_size=WHOLE_BYTES, cache_type="readahead")
        with file:
            yield Opened(cast(BinaryIO, _Clear(file, path)), int(known["size"]), (str(path), _version(known)))

    def read(self, path: Path, limit: int, root: Path | None = None) -> bytes:  # noqa: ARG002 - as above
        """Return an object whole."""
        with _clear(path):
            content: bytes = _system(path).cat_file(_key(path), start=0, end=limit + 1)
        check_size(str(path), len(content), limit)
        return content

    def modified(self, path: Path) -> float:
        """Return when an object was put, by the clock of the store."""
        with _clear(path):
            try:
                return float(_system(path).modified(_key(path)).timestamp())
            except NotImplementedError as error:
                raise StoreError(f"when {path} was written cannot be told: its store does not say") from error

    @contextmanager
    def put(self, path: Named, temporary: Path, *, replaces: bool) -> Iterator[Digesting]:
        """Give a file to be written, which is put as one object at the end."""
        _check_whole(temporary)
        with tempfile.SpooledTemporaryFile(LARGE_BYTES) as file:
            draft = Digesting(cast(BinaryIO, file))
            yield draft
            named = path(draft.digest) if callable(path) else path
            file.seek(0)
            try:
                self._put(named, cast("IO[bytes]", file), draft.tell(), replaces=replaces)
            except FileNotFoundError as error:
                raise StoreError(f"{named} cannot be put: {error}; is there such a bucket?") from error
            except OSError:
                # The answer may have been lost, and not the object: one that has the digest in its name is that one.
                if not callable(path) or self._size(named) != draft.tell():
                    raise

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove objects, many with one request where the store can."""
        listed = list(paths)
        if not listed:
            return
        with _clear(listed[0]):
            system, keys = _system(listed[0]), [_key(path) for path in listed]
            magic = any(set("*?[") & set(key) for key in keys)
            for some in [[key] for key in keys] if magic else [keys]:
                with suppress(FileNotFoundError):
                    system.rm_file(some[0]) if len(some) == 1 else system.rm(some)

    def remove_folder(self, folder: Path) -> None:
        """Remove all objects below a folder."""
        with suppress(FileNotFoundError):
            self.remove(folder / one.name for one in self.below(folder))

    def make_folder(self, folder: Path) -> None:
        """Check that runs can be recorded there: a store has no folders to be made."""
        _check_whole(folder)

    def written_ago(self, path: Path) -> float:
        """Return how many seconds ago an object was put, by the clock of the store: beside one that is put now."""
        probe = path.with_name(f"run.{secrets.token_hex(8)}.tmp")
        with _clear(path):
            try:
                _system(probe).pipe_file(_key(probe), b"")
                return max(self.modified(probe) - self.modified(path), 0.0)
            finally:
                self.remove([probe])

    def _listed(self, folder: Path) -> list[dict[str, Any]]:
        with _clear(folder):
            system = _system(folder)
            own = system._strip_protocol(_key(folder)).rstrip("/")
            found: list[dict[str, Any]] = system.ls(own, detail=True)
        if any(one["name"].rstrip("/") == own and one["type"] == "file" and one["size"] for one in found):
            raise NotADirectoryError(f"{folder} is an object, no folder")
        # some tools put an empty object in place of a folder
        return [one for one in found if one["name"].rstrip("/") != own]

    def _size(self, path: Path) -> int | None:
        try:
            with _clear(path):
                return int(_system(path).info(_key(path))["size"])
        except OSError:
            return None

    def _put(self, path: Path, file: IO[bytes], size: int, *, replaces: bool) -> None:
        with _clear(path):
            system, key = _system(path), _key(path)
            if size > LARGE_BYTES:
                with tempfile.NamedTemporaryFile() as named:
                    shutil.copyfileobj(file, named)
                    named.flush()
                    system.put_file(named.name, key)  # in parts, of which nothing is seen where one fails
            elif replaces:
                system.pipe_file(key, file.read())
            else:
                _create(system, key, file.read())


def _create(system: Any, key: str, content: bytes) -> None:
    """Put an object that must not be there yet, as far as the store can tell."""
    try:
        system.pipe_file(key, content, mode="create")
    except (NotImplementedError, TypeError):
        system.pipe_file(key, content)
    except OSError as error:
        if "not implemented" not in str(error).lower() and "NotImplemented" not in str(error):
            raise
        system.pipe_file(key, content)


def _check_whole(path: Path) -> None:
    scheme = str(path).partition("://")[0].lower()
    if scheme not in STORES:
        raise RunError(
            f"{path}: runs are not recorded at {scheme}://, where a file that is being written can be seen in part; "
            f"record to a disk, or to one of {', '.join(sorted(STORES))}"
        )


def _system(path: Path) -> Any:
    """Return fsspec's file system of a path: made once a process, and anew in one that was forked."""
    import fsspec  # noqa: PLC0415 - of an extra, and a path of a store was made with it

    place = cast(Any, path)
    return fsspec.filesystem(place.protocol, **place.storage_options)


def _key(path: Path) -> str:
    return str(cast(Any, path).path).rstrip("/")


def _version(known: dict[str, Any]) -> tuple[str, ...]:
    names = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created", "size")
    return tuple(f"{name}={known[name]}" for name in names if known.get(name) is not None)


@contextmanager
def _clear(path: Path) -> Iterator[None]:
    """Turn errors of a store's client, of which each has its own, into `StoreError`."""
    try:
        yield
    except (*_TOLD, NotImplementedError, MemoryError, RunError):
        raise
    except Exception as error:
        raise StoreError(f"{path} cannot be reached or used: {type(error).__name__}: {error}") from error


class _Clear(io.RawIOBase):
    """A file of a store whose errors are `OSError`."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with _clear(self._path):
            return self._file.read(size)

    def seek(self, place: int, whence: int = 0, /) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()
