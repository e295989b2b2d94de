"""A page that follows run folders: made anew when they have changed, the last good one kept meanwhile."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Final

from dropdiag.errors import DropdiagError
from dropdiag.report.data import gather
from dropdiag.report.finding import State, opened, state
from dropdiag.report.page import render

WAITING: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="color-scheme" content="light dark"><title>Waiting for a run · dropdiag</title></head>
<body><h1>Waiting for a run</h1>
<p>There is no readable run yet. This page looks again every two seconds.</p></body></html>
"""


class Follower:
    """Makes the page of a run, or of all runs below a folder, whenever they have changed.

    Parameters
    ----------
    target : Path
    title : str, optional
    interval : float
        Seconds between two looks at the folders.
    baseline : str, optional
        As in `dropdiag.report`, once a run of that condition is there.
    """

    def __init__(self, target: Path, *, title: str | None, interval: float, baseline: str | None = None) -> None:
        self.target, self.title, self.interval, self.baseline = target, title, interval, baseline
        self.page, self.version, self.problem = WAITING, "0", ""
        self._seen: State | None = None
        self._made = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="dropdiag-watch", daemon=True)

    def start(self) -> None:
        """Make the page once, then look for changes in a thread."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a page that is being made is finished first."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """Make the page anew if the runs have changed; return whether it was."""
        try:
            now = state(self.target)
            if now == self._seen:
                return False
            self._make()
            self._seen, self.problem = now, ""
        except (
            DropdiagError,
            OSError,
        ) as error:  # a run that is replaced while it is read: tried again at the next look
            self.problem = f"The runs cannot be read just now: {error}"
            return False
        return True

    def _make(self) -> None:
        runs, problems = opened(self.target)
        if runs is None:
            self.problem = "; ".join(problems)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remarks on runs of one step; the project's own are in the page
            known = self.baseline if self.baseline in runs.conditions else None
            content = gather(runs, baseline=known, problems=problems)
        self._made += 1
        version = str(self._made)
        page = render(content, title=self.title, live=round(1e3 * self.interval), version=version)
        self.page, self.version = page, version

    def _follow(self) -> None:
        while not self._stop.wait(self.interval):
            self.look()
