"""Paths of a disk, and URLs of object stores, as objects of one interface."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeGuard, cast

from dropdiag.errors import ArgumentError, RunError

PathLike: TypeAlias = str | Path
"""A path or URL as text, or a `pathlib.Path`; a `upath.UPath`, which is typed as the latter."""
# two letters at least: "C:\x" and "C:/x" are drives
_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
LOCAL: Final = frozenset({"file", "local"})
NEEDED: Final = "pip install 'dropdiag[remote]'"


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether it is a path: text, a `pathlib.Path` or a `upath.UPath`."""
    return isinstance(value, (str, Path)) or _is_upath(value)  # what else is typed as a path is a UPath


def without_scheme(where: PathLike) -> PathLike:
    """Return a path without the scheme of a disk, ``file://``."""
    return where if is_remote(where) or not isinstance(where, str) else _URL.sub("", where, count=1)


def is_remote(path: object) -> bool:
    """Whether a path is that of an object store: a `upath.UPath` of one, or text that begins with its scheme."""
    if isinstance(path, str):
        match = _URL.match(path)
        return match is not None and match["scheme"].lower() not in LOCAL
    return not isinstance(path, Path) and _is_upath(path) and not isinstance(path, os.PathLike)


def as_path(where: PathLike, like: Path | None = None) -> Path:
    """Return a path as an object: absolute, "~" expanded.

    Parameters
    ----------
    where : path
        Text, a `pathlib.Path`, or a `upath.UPath`, whose storage options (credentials, an address) are kept.
    like : Path, optional
        One whose storage options text gets, where both are of one store.

    Returns
    -------
    Path
        A `upath.UPath` where it has a scheme, else a `pathlib.Path`. ``file://`` is local.

    Raises
    ------
    ArgumentError
        If it is a `pathlib.Path` that was made of a URL, which loses a slash that way.
    RunError
        If the packages are missing that its scheme needs.
    """
    if isinstance(where, Path):
        _check_not_collapsed(where)
    elif is_remote(where):
        return _remote(where, like)
    else:  # text, or a UPath of a disk: file:///tmp/runs
        where = _URL.sub("", str(where), count=1)
    return Path(os.path.expanduser(where)).absolute()  # noqa: PTH111 - Path's raises where there is no such user


def not_remote(path: Path, what: str) -> Path:
    """Return a path of a disk; raise `ArgumentError` where it is none, which would make a folder called "s3:"."""
    if is_remote(path) or (_COLLAPSED.match(str(path)) and not path.exists()):
        raise ArgumentError(f"{what} is written to a disk and not to {path}; give a path without a scheme, and copy it")
    return path


def _remote(where: PathLike, like: Path | None) -> Path:
    try:
        from fsspec import get_filesystem_class  # noqa: PLC0415 - of an extra
        from upath import UPath  # noqa: PLC0415
    except ImportError as error:
        raise RunError(f"{where} needs the package {error.name!r}: {_needed(str(where))}") from error
    options = dict(getattr(where, "storage_options", {}))
    scheme = cast("re.Match[str]", _URL.match(str(where)))["scheme"].lower()
    if not options and like is not None and _scheme_of(like) == scheme:
        options = dict(cast(Any, like).storage_options)
    # what another process wrote since must be seen
    options["use_listings_cache"] = False
    text = str(where)
    try:
        get_filesystem_class(scheme)  # which imports the client
        return cast(Path, UPath(text.rstrip("/") if text.count("/") > 2 else text, **options))
    except (ImportError, ValueError) as error:
        raise RunError(f"{where} cannot be opened: {error}; {_needed(text)}, or check the scheme") from error


def _scheme_of(path: Path) -> str | None:
    match = _URL.match(str(path)) if is_remote(path) else None
    return match["scheme"].lower() if match else None


def _needed(text: str) -> str:
    scheme = text.partition(":")[0].lower()
    package = {"s3": " s3fs", "s3a": " s3fs", "gs": " gcsfs", "gcs": " gcsfs", "az": " adlfs", "abfs": " adlfs"}
    return NEEDED + package.get(scheme, "")


def _is_upath(value: object) -> bool:
    # nobody has made one where the package was not imported
    upath = sys.modules.get("upath")
    return upath is not None and isinstance(value, upath.UPath)


def _check_not_collapsed(path: Path) -> None:
    match = _COLLAPSED.match(str(path))
    if match and match["scheme"].lower() not in LOCAL and not Path(path.parts[0]).exists():
        raise ArgumentError(
            f"Path({str(path)!r}) was made of a URL, and pathlib takes a slash away from these; give the URL as text, "
            "or as upath.UPath"
        )
