"""A page that follows run folders: made anew when they have changed, the last good one kept meanwhile."""

from __future__ import annotations

import html
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dropdiag.errors import DropdiagError
from dropdiag.report.cache import RunCache
from dropdiag.report.data import gather
from dropdiag.report.finding import State, opened, state
from dropdiag.report.page import render

REST: Final = 5.0
"""Between two makings of the page lie at least so many times the seconds that the last one took."""
PATIENCE: Final = 2.0
"""Seconds for which the end waits for a page that is being made."""


def waiting(problem: str = "", *, reading: bool = False) -> str:
    """Return the page that stands until the first one is made: it asks again every two seconds."""
    what = "Reading the runs" if reading else "Waiting for a run"
    why = "Their first page is being made." if reading else "There is no readable run yet."
    told = f"<p>{html.escape(problem)}</p>\n" if problem else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{what} · dropdiag</title></head>
<body><h1>{what}</h1>
<p>{why} This page looks again every two seconds.</p>
{told}</body></html>
"""


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
        title: str | None,
        interval: float,
        baseline: str | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        self.target, self.title, self.interval = target, title, interval
        self.baseline, self.claims = baseline, claims
        self.version, self.problem = "0", ""
        self.took = 0.0
        self._page = ""
        self._reading = True
        self._seen: State | None = None
        self._made = 0
        self._cache = RunCache()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="dropdiag-watch", daemon=True)

    @property
    def page(self) -> str:
        """The last page that could be made; before the first one, a page that says what is waited for."""
        return self._page or waiting(self.problem, reading=self._reading and not self.problem)

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
        self.took = 0.0
        began = time.monotonic()
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
            made = False
        except Exception as error:  # noqa: BLE001 - the thread must outlive it; it is shown, and tried again
            self.problem = f"The page cannot be made just now: {type(error).__name__}: {error}"
            made = False
        self.took = time.monotonic() - began
        return made

    def _make(self) -> bool:
        runs, problems = opened(self.target)
        if runs is None:
            self._reading, self.problem = False, "; ".join(problems)
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remarks on runs of one step; the project's own are in the page
            known = self.baseline if self.baseline in runs.conditions else None
            content = gather(runs, baseline=known, claims=self.claims, problems=problems, cache=self._cache)
        self._made += 1
        version = str(self._made)
        page = render(content, title=self.title, live=round(1e3 * self.interval), version=version)
        self._page, self.version, self.problem = page, version, ""
        return True

    def _follow(self) -> None:
        self.look()
        while not self._stop.wait(self.pause()):
            self.look()
