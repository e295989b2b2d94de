"""A page that follows run folders: made anew when they have changed, the last good one kept meanwhile."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import DropdiagError, warned
from dropdiag.pages import rendered
from dropdiag.report.cache import RunCache, State, state
from dropdiag.report.data import gather
from dropdiag.report.page import render
from dropdiag.store.listing import run_folders
from dropdiag.store.reader import Runs, open_runs

REST: Final = 5.0
"""Between two makings of the page lie at least so many times the seconds that the last one took."""
PATIENCE: Final = 2.0
"""Seconds for which the end waits for a page that is being made."""


class Follower:
    """Makes the page of a run, or of all runs below a folder, whenever they have changed.

    Parameters
    ----------
    target : Path
    title : str, optional
    interval : float
        Seconds between two looks at the folders; more where making the page takes long (`REST`).
    baseline : str, optional
        As in `dropdiag.report`, once a run of that condition is there.
    claims : mapping, optional
        As in `dropdiag.report`.
    """

    def __init__(
        self,
        target: Path,
        *,
        interval: float,
        title: str | None = None,
        baseline: str | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        self.target, self.title, self.interval = target, title, interval
        self.baseline, self.claims = baseline, claims
        self.version, self.problem = "0", ""
        self.took = 0.0
        self._page, self._reading = "", True
        self._body = b""
        self._seen: State | None = None
        self._cache = RunCache()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="dropdiag-watch", daemon=True)

    @property
    def page(self) -> str:
        """The last page that could be made; before the first one, a page that says what is waited for."""
        if self._page:
            return self._page
        reading = self._reading and not self.problem
        return rendered("dropdiag.report", "waiting.html.j2", problem=self.problem, reading=reading)

    @property
    def body(self) -> bytes:
        """The page as it is sent: one copy of it, however many readers there are."""
        return self._body or self.page.encode("utf-8")

    def start(self) -> None:
        """Make the page, and then whenever something changes, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a page that is being made is waited for, but not for long: its thread ends with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def pause(self) -> float:
        """Seconds until the next look."""
        return max(self.interval, REST * self.took)

    def look(self) -> bool:
        """Make the page anew if the runs have changed; return whether it was."""
        made, self.took, began = False, 0.0, time.monotonic()
        try:
            now = state(self.target)  # before anything is read: what changes meanwhile is seen by the next look
            if now == self._seen:
                return False
            self._reading = bool(now)
            self._cache.look(now)
            made = self._make()
            self._seen = now
        except (DropdiagError, OSError) as error:  # a run that is replaced while it is read: tried again next time
            self.problem = f"The runs cannot be read just now: {error}"
        except Exception as error:  # noqa: BLE001 - the thread must outlive it; it is shown, and tried again
            self.problem = f"The page cannot be made just now: {type(error).__name__}: {error}"
        self.took = time.monotonic() - began
        return made

    def _make(self) -> bool:
        with warned() as left_out:
            runs, problems = open_runs(run_folders(self.target), on_error="collect")
        if runs is None:
            self._reading, self.problem = False, "; ".join([*problems, *left_out])
            return False
        order = runs.conditions  # folders come by name: runs of one condition may lie apart
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remarks on runs of one step; the project's own are in the page
            content = gather(
                Runs(sorted(runs, key=lambda run: order.index(run.condition))),
                baseline=self.baseline if self.baseline in order else None,
                claims=self.claims, problems=[*problems, *left_out], cache=self._cache,
            )  # fmt: skip
        version = str(int(self.version) + 1)
        page = render(content, title=self.title, live=round(1e3 * self.interval), version=version)
        # the page comes first: a reader who is told the new version must find it
        self._page, self._body, self.version, self.problem = page, page.encode("utf-8"), version, ""
        return True

    def _follow(self) -> None:
        self.look()
        while not self._stop.wait(self.pause()):
            self.look()
