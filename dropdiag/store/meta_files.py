"""``run.json`` and the file that each session has beside it: what writers say of a run, though two of them may write.

``run.json`` belongs to the last session that began. Each session says the same in a file of its own, whose name no
other has: when it begins and when it ends, and, where a later one has begun meanwhile, in place of ``run.json``.
So a session that another one's ``run.json`` does not know is known all the same, and a ``run.json`` that is damaged can
be done without.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import NamedTuple

from dropdiag.store.claims import claim, taken
from dropdiag.store.digests import sealed
from dropdiag.store.files import replace_file
from dropdiag.store.leftovers import SESSION, leftover
from dropdiag.store.segments import LAST, short
from dropdiag.store.storage.chosen import storage_of
from dropdiag.store.storage.disk import Disk
from dropdiag.store.storage.places import is_remote


class SessionFile(NamedTuple):
    """The file of a session, in the order in which sessions began: of two that began from one state, by identifier.

    Attributes
    ----------
    number : int
        The first session of a run is 1. Two that went on at the same time may have one number.
    session : str
        What names of files have of its identifier.
    """

    number: int
    session: str

    def path(self, folder: Path, kind: str = "json") -> Path:
        """Return where it lies, in the folder of a rank."""
        return folder / f"session-{self.number:06d}.{self.session}.{kind}"


class Found(NamedTuple):
    """What the names in a rank's folder say of sessions.

    Attributes
    ----------
    files : list of SessionFile
        In the order of sessions.
    superseded : set of str
        Those that went on recording when a later one had begun.
    """

    files: list[SessionFile]
    superseded: set[str]


def session_files(folder: Path) -> Found:
    """Return the files of sessions in a rank's folder; one that does not exist has none."""
    try:
        names = storage_of(folder).names(folder)
    except (FileNotFoundError, NotADirectoryError):
        return Found([], set())
    told = [match for name in names if name.startswith("session-") and (match := SESSION.fullmatch(name))]
    named = sorted(SessionFile(int(one["number"]), one["session"]) for one in told if one["kind"] == "json")
    files = [file for file in named if file.number < LAST]
    return Found(files, {one["session"] for one in told if one["kind"] == "superseded"})


def next_number(folder: Path, known: int) -> int:
    """Return the number of a session that begins in a rank's folder, in a run of which so many are known."""
    return max([known, *(file.number for file in session_files(folder).files)]) + 1


class MetaFiles:
    """Writes what a session says of its run, or of its rank.

    Parameters
    ----------
    main : Path
        ``run.json``, or the ``rank.json`` of a rank.
    folder : Path
        The rank's folder.
    number : int
    session : str
        Identifier of the session.

    Attributes
    ----------
    is_superseded : bool
        Whether a later session was found beside this one.
    has_begun : bool
        Whether the folder of a new run, or of a new rank, is this session's.
    """

    def __init__(self, main: Path, folder: Path, number: int, session: str) -> None:
        self._main, self._folder = main, folder
        self._own = SessionFile(number, short(session))
        self._known: set[SessionFile] = set()
        self.is_superseded = self.has_begun = False

    def begin(self, text: str, *, new: bool) -> None:
        """Put the text in place when the session begins.

        Parameters
        ----------
        text : str
        new : bool
            Whether the run is new, or the rank in it: then no other session may begin at the same place.

        Raises
        ------
        TakenError
            If one does.
        """
        known = {*session_files(self._folder).files, self._own}
        if new:
            self._begin_new(sealed(text))
        else:
            self.write(text, both=True)
        self._known = known

    def _begin_new(self, content: bytes) -> None:
        own = self._own.path(self._folder)
        if is_remote(self._folder):
            replace_file(own, content, own)
            claim(self._main, own, content)
            self.has_begun = True
            return
        try:
            # of two that begin at the same moment, one makes the folder
            Disk().make_new_folder(self._folder, own.name, content, leftover(self._folder, self._own.session))
        except FileExistsError as error:
            raise taken(self._folder.parent) from error
        self.has_begun = True
        replace_file(self._main, content, self._temporary(self._main.parent, self._main.stem))

    def take_back(self) -> None:
        """Remove the file of a session that could not begin: it recorded nothing, and hides nothing."""
        with contextlib.suppress(OSError):  # where nothing can be written it is not there
            storage_of(self._folder).remove([self._own.path(self._folder)])

    def write(self, text: str, *, both: bool = False) -> None:
        """Put the text in place.

        Parameters
        ----------
        text : str
            As `dropdiag.store.folder.as_json` makes it.
        both : bool
            Whether the session's own file gets it as well: when it begins, and when it ends.
        """
        content = sealed(text)
        taken = self.mark_superseded()
        if both or taken:
            replace_file(self._own.path(self._folder), content, self._temporary(self._folder, "session"))
        if not taken:
            replace_file(self._main, content, self._temporary(self._main.parent, self._main.stem))

    def mark_superseded(self) -> bool:
        """Say so where a later session has begun while this one records; return whether one has.

        It is to be called before rows are written: what is written from now on is hidden, which has to be told.

        Raises
        ------
        FileNotFoundError
            If the run was moved away or removed, and another one has its place.
        """
        found = session_files(self._folder).files
        if self._known and found and self._known.isdisjoint(found):
            raise FileNotFoundError(errno.ENOENT, "it was moved or removed, and another run has its place")
        if not self.is_superseded and any(file > self._own for file in found):
            mark = self._own.path(self._folder, "superseded")
            replace_file(mark, b"", self._temporary(self._folder, "session"))
            self.is_superseded = True
        return self.is_superseded

    def _temporary(self, folder: Path, name: str) -> Path:
        own = f"{name}-{self._own.number:06d}" if name == "session" else name
        return folder / f"{own}.{self._own.session}.tmp"
