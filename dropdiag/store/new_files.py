"""Files and folders that are made of names, and put in place whole: pages, figures, exports."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from dropdiag.printable import bare

LONGEST: Final = 100
"""Characters of a file's name, of which file systems take 255 bytes: four for each, an ending, and a number."""
RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their ending."""
NO_LINKS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def file_name(name: str, taken: Container[str] = ()) -> str:
    """Return a name as that of a file or folder: letters, digits and ``.+=_-``, not hidden, none that leads elsewhere.

    A name that is one already stays; what is made of any other ends in eight digits of its digest, so that no two meet.

    Parameters
    ----------
    name : str
        As somebody gave it: ``loss/train``, ``../x``, nothing.
    taken : container of str
        Names in lower case that other files have already.
    """
    # bytes are what file systems count: letters of other scripts take up to four each
    words = re.sub(r"[^\w.+=]+", "-", bare(name)).lstrip(".-").rstrip(".-")
    made = words.encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore")
    if made and made == name and not RESERVED.match(made) and made.lower() not in taken:
        return made
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{made}-{digest}" if made and not RESERVED.match(made) else f"name-{digest}"


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file under a name that nobody can know; at the end it is given its own, after an exception removed.

    A link in its place is replaced, and what it leads to is left alone. The folder may be one in which others write, as
    ``/tmp``: nothing that they put there is opened.

    Parameters
    ----------
    path : Path
        Its folder is there.
    """
    temporary = path.with_name(f".dropdiag-{secrets.token_hex(8)}.tmp")
    # not by `tempfile`: its files are readable by their owner alone, also after they were given another name
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
