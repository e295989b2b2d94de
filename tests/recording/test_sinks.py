"""What is recorded goes to sinks as well, and none of them can do anything to the training or the run folder."""

import copy
import gc
import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest
import torch

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.recording.watching import open_runs
from dropdiag.store import sending
from tests.networks import mlp, train


class Fake:
    """Keeps what it is sent, and who calls it."""

    def __init__(self):
        self.calls, self.rows, self.recorded, self.threads = [], [], [], set()

    def open(self, meta):
        self.meta = dict(meta)
        self.opened_by = threading.current_thread()
        self.calls.append("open")

    def scalars(self, rows):
        self.threads.add(threading.current_thread().name)
        self.rows += rows

    def histograms(self, rows):
        self.recorded += rows

    def close(self, state):
        self.calls.append(state)


class Failing(Fake):
    """Fails at one of its calls."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _may(self, name):
        if self.at == name:
            raise OSError("no network")

    def open(self, meta):
        self._may("open")
        super().open(meta)

    def scalars(self, rows):
        self._may("scalars")
        super().scalars(rows)

    def histograms(self, rows):
        self._may("histograms")
        super().histograms(rows)

    def close(self, state):
        self.calls.append(state)
        self._may("close")


class Stuck(Fake):
    """Takes nothing until it is let go on."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def scalars(self, rows):
        self.begun.set()
        self.go_on.wait()
        super().scalars(rows)


def warnings_of(path):
    return dd.load(path).meta["warnings"]


def expected(path):
    """The finite scalars and all histograms of a run folder, in any order."""
    run = dd.load(path)
    scalars = {
        (r.step, r.phase, r.layer if isinstance(r.layer, str) else None, r.call, r.quantity, r.value)
        for r in run.scalars.itertuples()
        if np.isfinite(r.value)
    }
    histograms = {
        (r["step"], r["phase"], r["layer"], r["call"], r["quantity"]): (tuple(r["bins"]), tuple(r["counts"]))
        for table in run.tables.stream("histograms")
        for r in table.to_pylist()
    }
    return scalars, histograms


def sent(sink):
    scalars = {tuple(row)[:6] for row in sink.rows}
    assert len(scalars) == len(sink.rows)
    return scalars, {tuple(row)[:5]: (tuple(row.histogram.bins), tuple(row.histogram.counts)) for row in sink.recorded}


@pytest.mark.parametrize("often", [True, False])
def test_a_sink_gets_the_rows_of_the_run_folder(tmp_path, often):
    sink, model = Fake(), mlp()
    with dd.Recorder(model, tmp_path / "run", every=3, to=sink, config={"lr": 0.5}) as rec:
        train(model, 10, rec, after_step=rec.flush if often else None)
        rec.log(accuracy=0.5, broken=float("nan"), endless=float("inf"))
        with rec.evaluation("held-out"):
            model.eval()
            model(torch.randn(5, 12))
            model.train()
    assert sent(sink) == expected(tmp_path / "run")
    assert {"accuracy"} == {row.quantity for row in sink.rows} & {"accuracy", "broken", "endless"}
    assert {row.phase for row in sink.recorded} == {"train", "held-out"}
    assert (sink.calls, sink.opened_by) == (["open", "completed"], threading.main_thread())
    assert sink.threads == {"dropdiag-sink-test_sinks.Fake"}
    assert sink.meta["path"] == tmp_path / "run"
    assert (sink.meta["name"], sink.meta["config"]) == ("run", {"lr": 0.5})
    assert warnings_of(tmp_path / "run") == []


def test_training_is_bit_identical_with_and_without(tmp_path):
    bare = mlp()
    losses = train(bare, 12)
    state = torch.get_rng_state()
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=2, to=[Fake(), Fake()], strict=True) as rec:
        got = train(model, 12, rec, after_step=rec.flush)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip([*losses, *bare.parameters()], [*got, *model.parameters()], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("tb", r"to= takes sinks, such as dd.integrations.tensorboard.Sink\('tb'\); got 'tb', which has no open\(\)"),
        ([Fake], "got the class Fake, make one of it"),
        ([Fake(), object()], r"which has no open\(\), scalars\(\), histograms\(\), close\(\)"),
        ([Fake()] * 2, "holds one sink twice, a test_sinks.Fake"),
        ({"tb": Fake()}, "which has no open"),
    ],
)
def test_what_is_no_sink_is_refused_before_anything_is_written(tmp_path, to, message):
    with pytest.raises(ArgumentError, match=message):
        dd.Recorder(mlp(), tmp_path / "run", to=to)
    assert not (tmp_path / "run").exists()


def test_no_sink_is_fine(tmp_path):
    for place, to in enumerate(([], (), None)):
        dd.Recorder(mlp(), tmp_path / str(place), to=to).close()


@pytest.mark.parametrize("at", ["open", "scalars", "histograms", "close"])
def test_a_sink_that_fails_is_told_of_once_and_the_run_is_complete(tmp_path, at):
    broken, other, model = Failing(at), Fake(), mlp()
    with pytest.warns(DropdiagWarning) as caught:
        with dd.Recorder(model, tmp_path / "run", every=2, to=[broken, other]) as rec:
            train(model, 10, rec, after_step=rec.flush)
    told = [str(one.message) for one in caught if "sink" in str(one.message)]
    (failed,) = told
    assert failed.startswith("the sink test_sinks.Failing failed and is sent nothing more, training goes on")
    assert failed.endswith("OSError('no network')")
    assert told == [one for one in warnings_of(tmp_path / "run") if "sink" in one]
    assert sent(other) == expected(tmp_path / "run")
    run = dd.load(tmp_path / "run")
    assert (run.state, run.meta["steps"], run.meta["error"]) == ("completed", 10, None)
    assert broken.calls == {"open": [], "close": ["open", "completed"]}.get(at, ["open", "failed"])


def test_many_rows_are_sent_in_parts_in_their_order(tmp_path, monkeypatch):
    class Counting(Fake):
        most = 0

        def scalars(self, rows):
            self.most = max(self.most, len(rows))
            super().scalars(rows)

        def histograms(self, rows):
            self.most = max(self.most, len(rows))
            super().histograms(rows)

    monkeypatch.setattr(sending, "TOGETHER", 3)
    sink, model = Counting(), mlp()
    with dd.Recorder(model, tmp_path / "run", every=1, to=sink) as rec:
        train(model, 10, rec)
    assert sink.most == 3
    assert sent(sink) == expected(tmp_path / "run")
    steps = [row.step for row in sink.recorded]
    assert steps == sorted(steps)


class Panic(BaseException):
    """What libraries written in Rust raise, which is no Exception."""


@pytest.mark.parametrize("at", ["scalars", "close"])
def test_what_is_raised_beside_exceptions_ends_the_sink_alone(tmp_path, at):
    class Panicking(Failing):
        def _may(self, name):
            if self.at == name:
                raise Panic("index out of bounds")

    broken, model = Panicking(at), mlp()
    with pytest.warns(DropdiagWarning, match=r"Panicking failed .* Panic\('index out of bounds'\)$"):
        with dd.Recorder(model, tmp_path / "run", every=2, to=broken) as rec:
            train(model, 6, rec, after_step=rec.flush)
    assert broken.calls == ["open", "completed" if at == "close" else "failed"]
    assert dd.load(tmp_path / "run").state == "completed"


def test_a_file_that_a_sink_cannot_open_is_named(tmp_path):
    class Writes(Fake):
        def open(self, meta):
            (tmp_path / "none" / "tb").mkdir()

    with pytest.warns(DropdiagWarning, match=r"none/tb"):
        dd.Recorder(mlp(), tmp_path / "run", to=Writes()).close()


def test_strict_raises_what_a_sink_raises(tmp_path):
    with pytest.raises(OSError, match="no network"):
        dd.Recorder(mlp(), tmp_path / "a", to=Failing("open"), strict=True)
    assert not (tmp_path / "a").exists()
    assert not open_runs._runs, "nothing is left to be ended"
    model = mlp()
    with pytest.raises(OSError, match="no network"):
        with dd.Recorder(model, tmp_path / "b", to=Failing("close"), strict=True) as rec:
            train(model, 2, rec)
    assert dd.load(tmp_path / "b").state == "completed"


def test_a_slow_sink_misses_rows_which_are_counted_and_training_does_not_wait(tmp_path, monkeypatch):
    """It takes nothing while the training runs to its end."""
    monkeypatch.setattr(sending, "WAITING_BYTES", 20_000)
    slow, other, model = Stuck(), Fake(), mlp()
    with pytest.warns(DropdiagWarning) as caught:
        rec = dd.Recorder(model, tmp_path / "run", every=5, to=[slow, other])
        train(model, 40, rec, after_step=rec.flush)
        assert rec.completed == 40
        slow.begun.wait()
        slow.go_on.set()
        rec.close()
    told = [str(one.message) for one in caught if "sink" in str(one.message)]
    assert told[0].startswith("the sink test_sinks.Stuck is slower than the training: rows are left out of it")
    assert [one for one in warnings_of(tmp_path / "run") if "sink" in one] == told
    scalars, histograms = expected(tmp_path / "run")
    got = sent(slow)
    missing = len(scalars) + len(histograms) - len(got[0]) - len(got[1])
    assert missing > 0
    assert f"was not sent {missing:,} rows" in told[1]
    assert got[0] < scalars
    assert sent(other)[0] == scalars, "the others miss nothing"


def test_memory_for_a_slow_sink_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "WAITING_BYTES", 100_000)
    slow, model, held = Stuck(), mlp(), []
    with pytest.warns(DropdiagWarning) as caught:
        rec = dd.Recorder(model, tmp_path / "run", every=5, to=slow)
        (sender,) = rec._session.writer.sinks._senders

        def after_step():
            rec.flush()
            held.append([batch.bytes for batch in tuple(sender._waiting)])

        train(model, 20, rec, after_step=after_step)
        slow.go_on.set()
        rec.close()
    assert all(sum(waiting) <= 100_000 or len(waiting) == 1 for waiting in held)
    assert max(map(len, held)) > 1
    assert str(caught[0].message).startswith("the sink test_sinks.Stuck is slower than the training")


def test_a_sink_that_does_not_end_holds_nobody_up_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    stuck, model = Stuck(), mlp()
    with pytest.warns(DropdiagWarning) as caught:
        with dd.Recorder(model, tmp_path / "run", to=stuck) as rec:
            train(model, 3, rec)
    stuck.go_on.set()
    run = dd.load(tmp_path / "run")
    assert run.state == "completed"
    told = [str(one.message) for one in caught]
    assert told[0].startswith("the sink test_sinks.Stuck did not end: the Recorder has waited 0 s for it in vain")
    assert told[1].startswith("the sink test_sinks.Stuck was not sent ")
    assert run.meta["warnings"] == told


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_sink_is_told_how_the_run_ended(tmp_path, error):
    sink, model = Fake(), mlp()
    with pytest.raises(type(error)):
        with dd.Recorder(model, tmp_path / "run", to=sink) as rec:
            train(model, 3, rec)
            raise error
    assert (
        sink.calls[-1]
        == dd.load(tmp_path / "run").state
        == ("failed" if isinstance(error, ValueError) else "interrupted")
    )
    assert sent(sink) == expected(tmp_path / "run")


@pytest.mark.parametrize("lose", [True, False])
def test_a_lost_recorder_ends_its_sinks(tmp_path, lose):
    sink, model = Fake(), mlp()
    rec = dd.Recorder(model, tmp_path / "run", to=sink)
    train(model, 3, rec)
    if lose:
        del rec
        gc.collect()
    dd.detach(model)
    for thread in threading.enumerate():  # the one that ends lost runs may be at it; it ends as no run is open
        if thread.name == "dropdiag-closer" and not open_runs._runs:
            thread.join()
    assert sink.calls == ["open", "interrupted"]
    assert sent(sink) == expected(tmp_path / "run")


def test_a_run_that_is_continued_says_from_where(tmp_path):
    first, again, model = Fake(), Fake(), mlp()
    with dd.Recorder(model, tmp_path / "run", every=2, to=first) as rec:
        train(model, 6, rec)
    with dd.Recorder(model, tmp_path / "run", every=2, to=again, resume=4) as rec:
        train(model, 4, rec)
    assert len(first.meta["sessions"]) == 1
    assert again.meta["sessions"][-1]["from_step"] == 4
    assert min(row.step for row in again.rows) == 5
    scalars, histograms = expected(tmp_path / "run")
    until = {row for row in sent(first)[0] if row[0] <= 4} | sent(again)[0]
    assert until == scalars
    kept = {key: value for key, value in sent(first)[1].items() if key[0] <= 4} | sent(again)[1]
    assert kept == histograms


def test_a_run_that_cannot_begin_opens_no_sink(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("x")
    sink = Fake()
    with pytest.raises(dd.DropdiagError):
        dd.Recorder(mlp(), tmp_path / "run", to=sink)
    assert sink.calls == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_sends_nothing(tmp_path):
    sink, model = Fake(), mlp()
    with dd.Recorder(model, tmp_path / "run", every=2, to=sink) as rec:
        train(model, 4, rec)
        child = multiprocessing.get_context("fork").Process(target=lambda: model(torch.ones(2, 12)).sum().backward())
        child.start()
        child.join()
        assert child.exitcode == 0
        train(model, 2, rec)
    assert sent(sink) == expected(tmp_path / "run")


def test_models_are_copied_and_pickled_as_before(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", to=Fake()) as rec:
        train(model, 2, rec)
        copy.deepcopy(model)(torch.ones(2, 12)).sum().backward()
        pickle.loads(pickle.dumps(model))  # noqa: S301
        train(model, 2, rec)
    assert dd.load(tmp_path / "run").meta["steps"] == 4


def test_rows_are_handed_over_once_whatever_interrupts():
    class Sleeping:
        def open(self, meta):
            pass

    sender = sending.Sender(Sleeping())
    batch = sending.Batch.of([], [])
    sender.put(batch)
    sender.put(batch)
    assert len(sender._waiting) == 1
