"""Follow what launches report while they run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.engines.report import Reader

LOOK_SECONDS: Final = 0.5


class Following:
    """Tells what launches report, from a thread of its own; a context around `Engine.run`.

    Parameters
    ----------
    launches : sequence of Launch
    tell : callable
        Called with a launch's name, its steps that are done, and its test accuracy or None; never twice at a time.
    """

    def __init__(self, launches: Sequence[Launch], tell: Callable[[str, int, float | None], None]) -> None:
        self._readers = {launch.name: Reader(launch.report) for launch in launches}
        self._tell = tell
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="dropdiag-following", daemon=True)

    def __enter__(self) -> Following:
        """Begin to follow."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Follow no more."""
        self._over.set()
        self._thread.join()

    @contextlib.contextmanager
    def told(self, name: str) -> Iterator[None]:
        """Tell all that a launch has reported, and nothing of any meanwhile."""
        with self._lock:
            self._look(name)
            yield

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for name in self._readers:
                with self._lock:
                    self._look(name)

    def _look(self, name: str) -> None:
        for event in self._readers[name].news():
            if _is_step(event):
                self._tell(name, event["step"], event.get("accuracy"))


def _is_step(event: dict[str, Any]) -> bool:
    return isinstance(event.get("step"), int) and isinstance(event.get("accuracy"), float | int | None)
