"""What TensorBoard reads of a run that was sent to it is what the run folder holds, and what the export writes."""

import copy
import os
import pickle
import sys

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagError, DropdiagWarning
from dropdiag.integrations.event_files import buckets
from dropdiag.integrations.tensorboard import Sink, to_tensorboard
from tests.integrations.sinks.runs import histograms, recorded, same_training, scalars
from tests.integrations.test_tensorboard import read

pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'dropdiag[tensorboard]'")


def events(folder):
    """Return what TensorBoard reads: (phase, tag) -> {step: value}, and of histograms {step: (limits, amounts)}."""
    numbers, distributions = {}, {}
    for phase in sorted(folder.iterdir()):
        found = read(phase)
        name = "Held-out" if phase.name.startswith("Held-out") else phase.name
        for tag in found.Tags()["scalars"]:
            numbers[name, tag] = {one.step: one.value for one in found.Scalars(tag)}
            assert len(numbers[name, tag]) == len(found.Scalars(tag))
        for tag in found.Tags()["histograms"]:
            distributions[name, tag] = {
                one.step: (one.histogram_value.bucket_limit, one.histogram_value.bucket)
                for one in found.Histograms(tag)
            }
    return numbers, distributions


def assert_same(folder, run):
    numbers, distributions = events(folder)
    expected = scalars(run)
    assert numbers == {
        key: {step: float(np.float32(value)) for step, value in some.items()} for key, some in expected.items()
    }
    whole = histograms(run)
    assert distributions.keys() == whole.keys()
    for key, some in whole.items():
        assert distributions[key].keys() == some.keys()
        for step, histogram in some.items():
            for got, wanted in zip(distributions[key][step], buckets(histogram.bins, histogram.counts), strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_it_reads_what_the_run_folder_holds(tmp_path):
    recorded(tmp_path / "run", Sink(tmp_path / "tb"))
    assert_same(tmp_path / "tb" / "run", tmp_path / "run")
    to_tensorboard(dd.load(tmp_path / "run"), tmp_path / "exported")
    sent, exported = events(tmp_path / "tb" / "run"), events(tmp_path / "exported")
    assert exported[1] == sent[1]
    lost = ("eval", "lost")
    assert {key: value for key, value in exported[0].items() if key != lost} == sent[0], "but for a number that is NaN"


def test_training_is_bit_identical(tmp_path):
    assert same_training(tmp_path / "run", Sink(tmp_path / "tb"))


def test_all_is_in_the_files_while_the_run_goes_on(tmp_path):
    class Watched(Sink):
        def scalars(self, rows):
            super().scalars(rows)
            if rows[-1].step == 3:
                seen.append(max(one.step for one in read(tmp_path / "tb" / "run" / "train").Scalars("loss")))

    seen = []
    recorded(tmp_path / "run", Watched(tmp_path / "tb"))
    assert seen == [3]


def test_a_run_that_is_continued_is_one_run_without_what_is_hidden(tmp_path):
    model, _ = recorded(tmp_path / "run", Sink(tmp_path / "tb"))
    recorded(tmp_path / "run", Sink(tmp_path / "tb"), model=model, resume=5, steps=2)
    assert len(list((tmp_path / "tb" / "run" / "train").iterdir())) == 2
    assert_same(tmp_path / "tb" / "run", tmp_path / "run")


def test_runs_share_a_folder(tmp_path):
    for name in ("a/run", "b/run", "c"):
        recorded(tmp_path / name, Sink(tmp_path / "tb"), steps=2)
    first, second, other = *sorted(path.name for path in (tmp_path / "tb").iterdir())[1:], "c"
    assert (first, second[:4], len(second)) == ("run", "run-", 12)
    for name, run in ((first, "a/run"), (second, "b/run"), (other, "c")):
        assert_same(tmp_path / "tb" / name, tmp_path / run)


def test_one_sink_for_one_run(tmp_path):
    sink = Sink(tmp_path / "tb")
    recorded(tmp_path / "a", sink, steps=2)
    recorded(tmp_path / "b", sink, steps=2)  # the first is closed
    assert_same(tmp_path / "tb" / "b", tmp_path / "b")
    sink.open({**dd.load(tmp_path / "a").meta, "name": "other", "id": "0" * 32})
    with pytest.warns(DropdiagWarning, match="this sink is open for another run; make one for each Recorder"):
        recorded(tmp_path / "c", sink, steps=1)
    sink.close("completed")
    assert dd.load(tmp_path / "c").state == "completed"


def test_copies_are_not_open(tmp_path):
    sink = Sink(tmp_path / "tb")
    for copied in (copy.deepcopy(sink), pickle.loads(pickle.dumps(sink))):  # noqa: S301
        assert copied.folder == sink.folder
        assert copied._events is None


def test_a_fork_writes_nothing_twice(tmp_path):
    class Forking(Sink):
        def scalars(self, rows):
            super().scalars(rows)
            if hasattr(os, "fork") and (child := os.fork()) == 0:
                os._exit(0)
            else:
                os.waitpid(child, 0)

    if not hasattr(os, "fork") or sys.version_info >= (3, 12):
        pytest.skip("nothing is forked here, or a fork beside threads is a warning")
    recorded(tmp_path / "run", Forking(tmp_path / "tb"), steps=2)
    assert_same(tmp_path / "tb" / "run", tmp_path / "run")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "tb").write_text("in the way")
    with pytest.warns(DropdiagWarning, match="the sink tensorboard.Sink failed.*NotADirectory") as caught:
        recorded(tmp_path / "run", Sink(tmp_path / "tb"), steps=2)
    assert dd.load(tmp_path / "run").meta["warnings"] == [str(one.message) for one in caught]


def test_arguments(monkeypatch):
    with pytest.raises(ArgumentError, match="a Sink of TensorBoard is written to a disk and not to s3:"):
        Sink("s3://bucket/tb")
    for name in ("tensorboard", "tensorboard.compat.proto"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DropdiagError, match=r"needs the package tensorboard.*pip install 'dropdiag\[tensorboard\]'"):
        Sink("tb")
