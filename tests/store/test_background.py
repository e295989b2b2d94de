"""Jobs in a thread: in order, none dropped, waits counted."""

import os
import threading

import pytest

from dropdiag.errors import RunError
from dropdiag.store import background
from dropdiag.store.background import Background


class Job(background.Job):
    bytes, rows = 10, 2

    def __init__(self, name, done, gate=None, failures=0):
        self.name, self.done, self.gate, self.failures = name, done, gate, failures

    def __call__(self):
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        self.done.append(self.name)


@pytest.fixture
def thread():
    thread = Background("test-writer")
    yield thread
    thread.stop()


def test_jobs_are_done_in_order_by_one_thread_that_ends(thread):
    done = []
    for name in range(20):
        thread.submit(Job(name, done))
    thread.drain()
    assert done == list(range(20))
    names = [t for t in threading.enumerate() if t.name == "test-writer"]
    assert len(names) == 1
    thread.stop()
    names[0].join(10)
    assert not names[0].is_alive()
    thread.submit(Job(20, done))  # it begins again where there is something to do
    thread.drain()
    assert done[-1] == 20


def test_who_hands_over_too_much_waits_and_that_is_counted(thread):
    done, gate = [], threading.Event()
    for name in range(background.QUEUE):
        thread.submit(Job(name, done, gate))
    assert thread.waits == 0
    assert (thread.bytes, thread.waiting()) == (10 * background.QUEUE, (2 * background.QUEUE, set()))
    threading.Timer(0.05, gate.set).start()
    thread.submit(Job("last", done, gate))
    assert thread.waits == 1
    assert thread.seconds_waited > 0.0
    thread.drain()
    assert done == [*range(background.QUEUE), "last"]


def test_a_job_that_fails_stays_first_and_is_tried_again(thread):
    done = []
    thread.submit(Job("a", done, failures=2))
    with pytest.raises(OSError, match="No space left"):
        thread.drain()
    thread.submit(Job("b", done))
    try:
        thread.drain()
    except OSError:  # the second attempt may have been the one that submit asked for, or this one
        thread.drain()
    assert done == ["a", "b"]


def test_while_the_disk_refuses_nobody_waits_and_nothing_is_dropped(thread):
    done, gate = [], threading.Event()
    gate.set()
    first = Job(0, done, gate, failures=10**6)
    thread.submit(first)
    with pytest.raises(OSError, match="No space left"):
        thread.drain()
    for name in range(1, 3 * background.QUEUE):
        thread.submit(Job(name, done))
    assert isinstance(thread.take_failure(), (OSError, type(None)))
    first.failures = 0
    thread.drain()
    assert done == list(range(3 * background.QUEUE))


def test_a_failure_is_told_once(thread):
    thread.submit(Job("a", [], failures=1))
    gate = threading.Event()
    for _ in range(1000):
        failure = thread.take_failure()
        if failure is not None:
            break
        gate.wait(0.005)
    assert isinstance(failure, OSError)
    assert thread.take_failure() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_refused(thread, monkeypatch):
    thread.submit(Job("a", []))
    thread.drain()
    monkeypatch.setattr(background.os, "getpid", lambda: -1)  # as in a child: the thread stayed behind
    for action in (lambda: thread.submit(Job("b", [])), thread.drain):
        with pytest.raises(RunError, match="forked while recording; open a Recorder of its own"):
            action()
