"""Rows on their way to sinks: a thread each, so that neither the training nor the writer waits for any of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isfinite
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dropdiag.store import memory
from dropdiag.store.background import yield_to_others
from dropdiag.store.memory import check_for_thread
from dropdiag.store.sink import Sink, name_of

if TYPE_CHECKING:
    from dropdiag.store.histogram_rows import RecordedHistogram
    from dropdiag.store.rows import HistogramRow, ScalarRow

WAITING_BYTES: Final = 128_000_000
"""Memory of what may wait for a sink. What comes while so much waits is left out of it: training must not wait.

Some hundred steps of all probes: on a busy machine the thread, which lets those that train go first, falls behind for
a while, and catches up."""
TOGETHER: Final = 1000
"""Rows that a sink is given at once: how many it has taken tells whether it gets on."""
PATIENCE: Final = 60.0
"""Seconds that the end of a run waits for a sink that does not get on."""
TICK: Final = 0.5
"""Seconds after which who waits looks whether the sink got on."""

FAILED: Final = "the sink {name} failed and is sent nothing more, training goes on, the run folder has all: {error}"
SLOW: Final = "the sink {name} is slower than the training: rows are left out of it, the run folder has all of them"
LEFT_OUT: Final = "the sink {name} was not sent {rows:,} rows, of steps {first} to {last}; the run folder has them"
STUCK: Final = "the sink {name} did not end: the Recorder has waited {seconds:g} s for it in vain, and waits no more"
CAUSE: Final = 500
"""Characters of an error that are told."""


class Problem(NamedTuple):
    """What is to be told of a sink: a sentence, and what it raised, if that is it."""

    sentence: str
    error: BaseException | None = None


class Batch(NamedTuple):
    """The rows of a flush."""

    scalars: tuple[ScalarRow, ...]
    histograms: tuple[HistogramRow, ...]
    bytes: int

    @classmethod
    def of(cls, scalars: Sequence[ScalarRow], histograms: Sequence[HistogramRow]) -> Batch:
        """Make one of lists that others change afterwards."""
        return cls(tuple(scalars), tuple(histograms), memory.of_rows(scalars, histograms, ()))


class LeftOut:
    """How many rows a sink was not sent, and of which steps."""

    def __init__(self) -> None:
        self.rows, self.first, self.last = 0, 0, 0

    def add(self, batch: Batch) -> None:
        """Count the rows of a batch."""
        steps = [row.step for rows in (batch.scalars, batch.histograms) for row in rows]
        if steps:
            self.first = min(*steps, self.first if self.rows else steps[0])
            self.last = max(*steps, self.last)
            self.rows += len(steps)


class Sender:
    """Sends rows to one sink, in a thread of its own.

    Parameters
    ----------
    sink : Sink
    """

    def __init__(self, sink: Sink) -> None:
        self.name = name_of(sink)
        self._sink, self._state = sink, "interrupted"
        self._waiting: deque[Batch] = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()  # True: something waits; False: nothing comes any more
        self._last: Batch | None = None
        self._taken = self._sent = self._calls = 0  # bytes; the first is changed by training alone, the others here
        self._left_out = LeftOut()
        self._slow = self._stuck = self._opened = False
        self._failure: BaseException | None = None
        self.news: deque[Problem] = deque()
        self._thread: threading.Thread | None = None

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open the sink and start its thread; what fails is among the news."""
        try:
            self._sink.open(meta)
            self._opened = True
            check_for_thread()
            # daemon: a training that forgets close() must be able to end
            self._thread = threading.Thread(target=self._work, name=f"dropdiag-sink-{self.name}", daemon=True)
            self._thread.start()
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, training goes on
            self._thread = None
            self._fail(error)

    def put(self, batch: Batch) -> None:
        """Hand over rows, or leave them out where too much waits. May be called again with the same ones."""
        if batch is self._last:
            return
        if self._failure is not None:
            self._leave_out_what_waits()  # the thread sends nothing any more
        under_way = self._taken - self._sent
        if self._failure is not None or (under_way and under_way + batch.bytes > WAITING_BYTES):
            self._leave_out(batch)
            return
        # Nothing is called in between, so that no KeyboardInterrupt comes between.
        self._waiting += (batch,)
        self._last = batch
        self._taken += batch.bytes
        self._bell.put(True)

    def _leave_out(self, batch: Batch) -> None:
        self._last = batch
        self._left_out.add(batch)
        if self._failure is None and not self._slow:
            self._slow = True
            self.news.append(Problem(SLOW.format(name=self.name)))

    def end(self, state: str) -> None:
        """Say that nothing comes any more; `wait` waits for the sink's end."""
        self._state = state
        self._bell.put(False)

    def wait(self) -> None:
        """Wait until the sink has ended, as long as it gets on."""
        thread, seen, idle = self._thread, -1, 0.0
        if thread is None and self._opened:
            self._close()
        while thread is not None and thread.is_alive():
            if idle >= PATIENCE:
                self._stuck = True
                self.news.append(Problem(STUCK.format(name=self.name, seconds=PATIENCE)))
                break
            thread.join(TICK)
            idle = idle + TICK if self._calls == seen else 0.0
            seen = self._calls
        self._leave_out_what_waits()
        left = self._left_out
        if left.rows and self._failure is None:  # of one that failed it was said that nothing more is sent
            told = LEFT_OUT.format(name=self.name, rows=left.rows, first=left.first, last=left.last)
            self.news.append(Problem(told))

    def _leave_out_what_waits(self) -> None:
        with suppress(IndexError):  # the thread may take the last one
            while self._waiting:
                self._left_out.add(self._waiting.popleft())

    def _work(self) -> None:
        yield_to_others()
        while self._bell.get():
            self._send_what_waits()
        self._send_what_waits()
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001 - as in `_send_what_waits`
            self._fail(error)

    def _send_what_waits(self) -> None:
        while self._waiting and self._failure is None and not self._stuck:
            batch = self._waiting[0]
            try:
                self._send(batch)
            except BaseException as error:  # noqa: BLE001 - as above; a panic of a library in Rust is no Exception
                self._fail(error)
                return
            with suppress(IndexError):  # left out meanwhile, as it took too long
                self._waiting.popleft()
            self._sent += batch.bytes

    def _send(self, batch: Batch) -> None:
        scalars = [row for row in batch.scalars if row.value is not None and isfinite(row.value)]
        for first in range(0, len(scalars), TOGETHER):
            self._sink.scalars(scalars[first : first + TOGETHER])
            self._calls += 1
        for first in range(0, len(batch.histograms), TOGETHER):
            self._sink.histograms([_recorded(row) for row in batch.histograms[first : first + TOGETHER]])
            self._calls += 1

    def _close(self) -> None:
        try:
            self._sink.close(self._state if self._failure is None else "failed")
        except Exception as error:  # noqa: BLE001 - as above
            if self._failure is None:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self.news.append(Problem(FAILED.format(name=self.name, error=_cause(error)[:CAUSE]), error))


class Sending:
    """Sends the rows of a run to all of its sinks.

    Parameters
    ----------
    sinks : sequence of Sink
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._senders = [Sender(sink) for sink in sinks]
        self._ended = False

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open every sink."""
        from dropdiag.store import histogram_rows  # noqa: F401, PLC0415 - Arrow is loaded here, not in a thread

        for sender in self._senders:
            sender.open(meta)

    def put(self, batch: Batch) -> None:
        """Hand rows to every sink, without waiting."""
        for sender in self._senders:
            sender.put(batch)

    def take_news(self) -> list[Problem]:
        """Return what has to be told since the last call."""
        return [sender.news.popleft() for sender in self._senders for _ in range(len(sender.news))]

    def close(self, state: str) -> list[Problem]:
        """End every sink, wait for them, and return what has to be told. May be called again."""
        if not self._ended:
            self._ended = True
            for sender in self._senders:
                sender.end(state)
            for sender in self._senders:
                sender.wait()
        return self.take_news()


def _cause(error: BaseException) -> str:
    # the file that could not be opened is in what an OSError says, and not in its representation
    return repr(error) if getattr(error, "filename", None) is None else f"{type(error).__name__}({str(error)!r})"


def _recorded(row: HistogramRow) -> RecordedHistogram:
    from dropdiag.histograms.histogram import Histogram  # noqa: PLC0415
    from dropdiag.store.histogram_rows import RecordedHistogram  # noqa: PLC0415 - pyarrow is not paid by the Recorder

    return RecordedHistogram(*row[:5], Histogram.of_checked(row.bins, row.counts))
