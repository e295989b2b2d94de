"""Files of a data set, from a folder or straight out of the published archive; nothing is unpacked to disk."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dropdiag.errors import DataError

LIMIT: Final = 1 << 28
"""Largest file that is read out of an archive, in bytes; the largest of CIFAR has 155 million."""

_CHUNK: Final = 1 << 20


def md5(path: Path) -> str:
    """MD5 of a file in hexadecimal: what publishers of data give to tell a damaged copy; no protection.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
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
        If one is missing or cannot be read; the message names it.
    """
    return {name: _content(folder / name) for name in names}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: missing; other files of its data set lie there") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


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
    wanted = {f"{folder}/{name}": name for name in names}
    found: dict[str, bytes] = {}
    try:
        # One pass in the archive's order: to go back in a gzip stream is to unpack it anew.
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                # Archives that were packed again from inside a folder have this prefix.
                name = wanted.get(member.name.removeprefix("./"))
                if name in found:
                    raise DataError(f"{path}: holds {name} twice, and it is not clear which is meant; fetch it again")
                if name is not None:
                    found[name] = _member(path, archive, member)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: is damaged or no .tar.gz archive ({error}); fetch it again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path}: holds no {folder}/{missing[0]}; it is another archive, or truncated: fetch it again")
    return found


def _member(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isfile():
        raise DataError(f"{path}: {member.name} in it is no plain file; fetch it again")
    # Announced, not yet read: a forged header must not fill the memory.
    if member.size > LIMIT:
        raise DataError(f"{path}: {member.name} in it announces {member.size:,} bytes, more than {LIMIT:,}")
    stream = archive.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise DataError(f"{path}: truncated; {member.name} in it has {len(content):,} of {member.size:,} bytes")
    return content
