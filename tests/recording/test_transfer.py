"""No step is named as recorded while rows of it are still on a device."""

import numpy as np
import pytest
import torch

from dropdiag.recording import transfer
from dropdiag.recording.records import Record
from dropdiag.recording.transfer import TransferQueue
from dropdiag.sketches.histogram import HistogramSketch


class Event:
    """A device's event: over when the test says so, or when somebody waits for it."""

    def __init__(self):
        self.over = False

    def query(self):
        return self.over

    def synchronize(self):
        self.over = True


class Writer:
    """Takes rows in as the run folder's writer does, and keeps them in memory."""

    def __init__(self):
        self.scalars, self.histograms, self.flushes, self.due = [], [], 0, False
        self.failure = None

    def add(self, scalars, histograms, states, taken_from):
        assert not states
        self.scalars += scalars
        self.histograms += histograms
        taken_from.clear()

    def flush(self):
        self.flushes += 1

    def take_failure(self):
        failure, self.failure = self.failure, None
        return failure

    @property
    def steps(self):
        return {row.step for row in (*self.scalars, *self.histograms)}


@pytest.fixture
def events(monkeypatch):
    """Every copy from the (pretended) device waits for an event, which is kept here."""
    made = []

    def recorded(device):
        made.append(Event())
        return made[-1:]

    monkeypatch.setattr(transfer, "_recorded", recorded)
    return made


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def queue(writer):
    return TransferQueue(writer, pytest.fail)


def on_device(value=1.0):
    """What a probe gives of an accelerator: a tensor, which is not read at once."""
    return [Record("layer", 0, "quantity", torch.tensor(value, dtype=torch.float64))]


def on_host(value=1.0):
    return [Record("layer", 0, "quantity", value)]


def test_a_step_whose_values_are_on_the_host_is_safe(queue):
    queue.put(1, "train", on_host())
    assert queue.safe_step(1) == 1


def test_a_step_whose_values_wait_on_a_device_is_not_safe_and_those_before_it_are(queue, events):
    queue.put(7, "train", on_host())
    queue.put(8, "train", on_device())
    assert queue.safe_step(8) == 7
    queue.put(9, "train", on_device())
    assert queue.safe_step(9) == 7


def test_a_step_whose_values_are_on_their_way_is_not_safe_until_they_have_come(queue, writer, events):
    queue.put(3, "train", on_device())
    queue.flush(wait=False)
    assert queue.safe_step(3) == 2
    assert writer.steps == set()
    queue.put(4, "train", on_host())
    assert queue.safe_step(4) == 2
    events[0].over = True
    queue.put(5, "train", on_host())
    assert queue.safe_step(5) == 5
    assert 3 in writer.steps


def test_of_copies_under_way_the_oldest_decides(queue, writer, events, monkeypatch):
    monkeypatch.setattr(transfer, "DEVICE_VALUES", 2)
    for step in range(1, 6):  # two groups of copies, and one value that waits
        queue.put(step, "train", on_device())
    assert len(events) == 2
    assert queue.safe_step(5) == 0
    events[1].over = True  # the second comes first
    queue.put(6, "train", on_host())
    assert queue.safe_step(6) == 0
    assert writer.steps == set()
    events[0].over = True
    queue.put(7, "train", on_host())
    assert queue.safe_step(7) == 4
    assert writer.steps == {1, 2, 3, 4}


def test_a_group_of_copies_is_as_old_as_its_oldest_value_however_it_is_sorted(queue, events):
    scalar, histogram = on_device(), HistogramSketch()
    histogram.update(torch.ones(3))
    queue.put(2, "train", scalar)
    queue.put(5, "train", [Record("layer", 0, "histogram", histogram)])  # histograms come before scalars in a group
    queue.flush(wait=False)
    assert queue.safe_step(6) == 1


def test_an_evaluation_before_the_step_that_is_asked_for_is_waited_for_as_well(queue, events):
    queue.put(4, "eval", on_device())
    queue.put(5, "train", on_host())
    assert queue.safe_step(5) == 3


def test_never_later_than_the_step_that_is_asked_for(queue, events):
    queue.put(9, "train", on_device())
    assert queue.safe_step(5) == 5


def test_what_a_killed_job_names_is_on_the_host_at_every_moment(queue, writer, events, monkeypatch):
    """Whatever comes when: each row up to the named step is at the writer or in a batch on the host."""
    monkeypatch.setattr(transfer, "DEVICE_VALUES", 3)
    generator = np.random.default_rng(0)
    on_a_device = set()
    for step in range(1, 200):
        device = generator.random() < 0.5
        if device:
            on_a_device.add(step)
        for event in events:
            event.over |= generator.random() < 0.2
        queue.put(step, "train", on_device() if device else on_host())
        named = queue.safe_step(step)
        missing = {s for s in on_a_device if s not in writer.steps}
        assert named == (min(missing) - 1 if missing else step)
    queue.flush()
    assert queue.safe_step(step) == step
    assert writer.steps == set(range(1, 200))


def test_copies_from_two_devices_have_come_when_both_have(queue, writer, monkeypatch):
    events = [Event(), Event()]
    monkeypatch.setattr(transfer, "_recorded", lambda device: events)
    queue.put(1, "train", on_device())
    queue.flush(wait=False)
    events[0].over = True
    queue.put(2, "train", on_host())
    assert queue.safe_step(2) == 0
    assert writer.steps == set()
    events[1].over = True
    queue.put(3, "train", on_host())
    assert queue.safe_step(3) == 3
    assert writer.steps == {1}


def test_a_flush_waits_for_the_device_and_hands_all_rows_over(queue, writer, events):
    histogram = HistogramSketch()
    histogram.update(torch.tensor([0.5, 0.5, 2.0]))
    queue.put(1, "train", [*on_device(3.5), Record("layer", 0, "histogram", histogram)])
    queue.flush()
    assert [row.value for row in writer.scalars] == [3.5]
    assert [row.counts.tolist() for row in writer.histograms] == [[2, 1]]
    assert queue.safe_step(1) == 1
    assert writer.flushes == 1


def test_a_flush_that_is_not_due_does_nothing(queue, writer, events):
    queue.put(1, "train", on_host())
    queue.flush(due_only=True)
    assert (writer.flushes, writer.steps) == (0, set())
    writer.due = True
    queue.put(2, "train", on_device())
    queue.flush(due_only=True)
    assert (writer.flushes, writer.steps) == (1, {1})
    assert not events[0].over  # nobody waited
    assert queue.safe_step(2) == 1


def test_rows_of_the_host_settle_many_at_a_time(queue, writer, monkeypatch):
    monkeypatch.setattr(transfer, "SETTLED_BATCHES", 3)
    for step in (1, 2):
        queue.put(step, "train", on_host())
        assert writer.steps == set()
    queue.put(3, "train", on_host())
    assert writer.steps == {1, 2, 3}


def test_what_the_disk_refused_is_reported_once(writer):
    reported = []
    queue = TransferQueue(writer, reported.append)
    writer.failure = OSError("full")
    queue.report_failure()
    queue.report_failure()
    assert [str(error) for error in reported] == ["full"]
