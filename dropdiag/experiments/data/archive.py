"""Files of a data set, from a folder or straight out of the published archive; nothing is unpacked to disk."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dropdiag.errors import DataError
from dropdiag.experiments.data.files import CHUNK, LIMIT, content, opened
from dropdiag.experiments.data.inflate import Inflated
from dropdiag.experiments.data.tar import Archive, Member


def md5(path: Path) -> str:
    """MD5 of a file in hexadecimal: what publishers of data give to tell a damaged copy; no protection.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with opened(path, 1 << 28) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def compared(published: Mapping[Path, str | None]) -> str:
    """Say whether files are the published ones.

    Parameters
    ----------
    published : mapping
        File -> its published MD5, None where none is known.

    Returns
    -------
    str
    """
    known = {path: digest for path, digest in published.items() if digest is not None}
    different = [path.name for path, digest in known.items() if md5(path) != digest]
    if different:
        return f"files that are not the published ones: the MD5 of {', '.join(different)} is another"
    if len(known) < len(published):
        return "files that may or may not be the published ones: no MD5 of theirs is published"
    return f"the published files: the MD5 of {', '.join(path.name for path in known)} is the published one"


def read_folder(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Read files of a folder.

    Raises
    ------
    DataError
        If one is missing or cannot be read, or they are absurdly large together; the message names one.
    """
    found: dict[str, bytes] = {}
    for name in names:
        path = folder / name
        if not path.exists():
            raise DataError(f"{path}: missing; other files of its data set lie there")
        found[name] = content(path, LIMIT - sum(map(len, found.values())))
    return found


def read_archive(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Read the files ``folder/NAME`` of a ``.tar.gz`` into memory.

    Parameters
    ----------
    path : Path
    folder : str
        Name of the folder within the archive.
    names : tuple of str

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    DataError
        If the archive is damaged, lacks a file, holds it twice or as a link, or one is absurdly large.
    """
    found: dict[str, bytes] = {}
    # One pass in the archive's order: to go back in a gzip stream is to unpack it anew.
    with opened(path) as file:
        archive = Archive(Inflated(file.read, gzip=True).read, LIMIT)
        for member in _members(path, archive):
            # Archives that were packed again from inside a folder have this prefix.
            place, _, name = member.name.removeprefix("./").rpartition("/")
            if place != folder or name not in names:
                continue
            if name in found:
                raise DataError(f"{path}: holds {name} twice, and it is not clear which is meant; fetch it again")
            found[name] = _content(path, archive, member)
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path}: holds no {folder}/{missing[0]}; it is another archive, or truncated: fetch it again")
    return found


def _members(path: Path, archive: Archive) -> Iterator[Member]:
    with _whole(path):
        yield from archive.members()
        archive.finish()


def _content(path: Path, archive: Archive, member: Member) -> bytes:
    if not member.plain:
        raise DataError(f"{path}: {member.name} in it is no plain file; fetch it again")
    # Announced, not yet read: a forged header must not fill the memory.
    if member.size > LIMIT:
        raise DataError(f"{path}: {member.name} in it announces {member.size:,} bytes, more than {LIMIT:,}")
    with _whole(path):
        held = archive.content()
    if len(held) != member.size:
        raise DataError(f"{path}: truncated; {member.name} in it has {len(held):,} of {member.size:,} bytes")
    return held


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is damaged or no .tar.gz archive ({error}); fetch it again") from error
