"""The run folder under kills, torn files and readers that come too early."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError, RunError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store import segments
from dropdiag.store.files import compact
from dropdiag.store.reader import Run, Runs, as_runs, load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter

META = {
    "config": {"condition": "Dropout", "seed": 3},
    "steps": 0,
    "versions": {},
    "layers": [{"layer": name, "call": 0, "kind": "activation"} for name in "ba"],
    "activations": {},
}


def meta(**config):
    return {**META, "config": {**META["config"], **config}}


def scalar(step, value, layer="a", quantity="net_grad_abs_mean"):
    return ScalarRow(step, "train", layer, 0, quantity, value)


def histogram(step, values, layer="a", quantity="net_value", phase="train"):
    h = Histogram.from_values(np.asarray(values, np.float32))
    return HistogramRow(step, phase, layer, 0, quantity, h.bins, h.counts)


def write(path, steps=4, flush_each=True, close=True, **config):
    writer = RunWriter(path, meta(**config))
    for step in range(1, steps + 1):
        writer.add_scalars([scalar(step, step / 2), scalar(step, None, "b")])
        writer.add_histograms([histogram(step, [step, step, -1, 0.5]), histogram(step, [step], "b")])
        if flush_each:
            writer.flush()
            writer.drain()
    if close:
        writer.close("completed")
    return writer


def segment(run, name):
    """Return the one segment of the first rank whose name begins so."""
    (found,) = (run / "rank-0").glob(f"{name}*.parquet")
    return found


def files(path):
    return sorted(p.name for p in (path / "rank-0").glob("*.parquet"))


def test_round_trip(tmp_path):
    write(tmp_path / "run")
    run = load(tmp_path / "run")
    assert (run.condition, run.seed, run.name) == ("Dropout", 3, "run")
    frame = run.scalars
    assert list(frame.columns) == ["step", "phase", "layer", "call", "quantity", "value"]
    assert frame.query("layer == 'a'")["value"].tolist() == [0.5, 1.0, 1.5, 2.0]
    assert frame.query("layer == 'b'")["value"].isna().all()
    for step in (1, 2, 3, 4):
        assert run.histogram("net_value", "a", step) == Histogram.from_values(np.float32([step, step, -1, 0.5]))
    assert run.histogram("net_value", "a") == run.histogram("net_value", "a", step=4)


def test_histograms_come_by_step_in_network_order(tmp_path):
    write(tmp_path / "run", steps=2)
    frame = load(tmp_path / "run").histograms("net_value", "all")
    assert frame[["step", "layer"]].values.tolist() == [[1, "b"], [1, "a"], [2, "b"], [2, "a"]]


def test_a_run_that_ended_well_is_compacted_to_the_same_numbers(tmp_path):
    write(tmp_path / "parts", close=False).save_meta(state="interrupted")
    write(tmp_path / "whole")
    assert len(files(tmp_path / "parts")) == 8
    assert [name.split(".")[0] for name in files(tmp_path / "whole")] == [
        "histograms-000002-000008", "scalars-000001-000007"
    ]  # fmt: skip
    parts, whole = load(tmp_path / "parts"), load(tmp_path / "whole")
    assert parts.scalars.equals(whole.scalars)
    assert parts.histograms("net_value", "all").equals(whole.histograms("net_value", "all"))


def test_compaction_joins_the_row_groups_of_scalars_and_keeps_those_of_histograms(tmp_path):
    write(tmp_path / "run")
    files = {p.name.split("-")[0]: pq.ParquetFile(p) for p in (tmp_path / "run").glob("rank-0/*-*-*")}
    assert {name: file.num_row_groups for name, file in files.items()} == {"scalars": 1, "histograms": 4}
    assert {str(file.schema_arrow.field("layer").type) for file in files.values()} == {"string"}


def test_a_kill_between_compaction_and_removal_doubles_nothing(tmp_path, monkeypatch):
    write(tmp_path / "run", close=False)
    before = load(tmp_path / "run").scalars
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compact(load(tmp_path / "run")._own_part, "f" * 16)
    assert len(files(tmp_path / "run")) == 9
    assert load(tmp_path / "run").scalars.equals(before)


def test_a_segment_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path):
    write(tmp_path / "run", close=False)
    torn = segment(tmp_path / "run", "scalars-000003")
    torn.write_bytes(torn.read_bytes()[:100])
    run = load(tmp_path / "run")
    with pytest.warns(
        DropdiagWarning, match="scalars-000003.*parquet cannot be read: .*it is left out, the rest of the run is read"
    ):
        frame = run.scalars
    assert sorted(frame["step"].unique()) == [1, 3, 4]


def test_torn_histograms_are_named_by_every_question_even_where_nothing_is_found(tmp_path):
    write(tmp_path / "run", close=False)
    torn = segment(tmp_path / "run", "histograms-000004")
    torn.write_bytes(torn.read_bytes()[:100])
    run = load(tmp_path / "run")
    named = pytest.warns(DropdiagWarning, match="histograms-000004.*parquet cannot be read")
    with named:
        assert run.histograms("net_value", "all")["step"].unique().tolist() == [1, 3, 4]
    with named:
        assert run.histogram("net_value", "a").n == 4
    with named:
        assert run.steps("net_value", "train") == [1, 3, 4]
    with named, pytest.raises(NotRecordedError):
        run.histograms("weight")


def test_a_torn_segment_is_left_as_it_is_by_compaction(tmp_path):
    writer = write(tmp_path / "run", close=False)
    torn = segment(tmp_path / "run", "scalars-000003")
    content = torn.read_bytes()[:100]
    torn.write_bytes(content)
    with pytest.warns(DropdiagWarning, match="cannot be read"):
        writer.close("completed")
    assert torn.read_bytes() == content
    assert segment(tmp_path / "run", "scalars-000001").name in files(tmp_path / "run")


def test_a_run_whose_compaction_fails_is_completed_and_loses_no_row(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = write(tmp_path / "run", close=False)
    before = load(tmp_path / "run").scalars
    with monkeypatch.context() as patch:
        patch.setattr("dropdiag.store.files.write_segment", full)
        failure = writer.close("completed")
    assert isinstance(failure, OSError)
    run = load(tmp_path / "run")
    assert run.meta["state"] == "completed"
    assert run.meta["ended"] is not None
    assert "could not be compacted ([Errno 28] No space left on device); it is complete" in run.meta["warnings"][-1]
    assert run.scalars.equals(before)


@pytest.mark.parametrize(("config", "condition", "seed"), [
    ({"condition": 0, "seed": 0}, "0", 0),
    ({"condition": 0.0, "seed": 0}, "0.0", 0),
    ({"condition": False, "seed": 0}, "False", 0),
    ({"condition": "", "seed": None}, "", None),
    ({"condition": None, "seed": None}, "run", None),
])  # fmt: skip
def test_a_condition_or_seed_that_python_takes_for_false_is_one(tmp_path, config, condition, seed):
    RunWriter(tmp_path / "run", meta(**config)).close("completed")
    run = load(tmp_path / "run")
    assert (run.condition, run.seed) == (condition, seed)
    assert load({0: tmp_path / "run"}).conditions == ["0"]
    assert Run(tmp_path / "run", 0).condition == "0"


def test_foreign_and_temporary_files_are_passed_over(tmp_path):
    write(tmp_path / "run")
    for name in ("scalars-000099.tmp", "notes.txt", "scalars.parquet"):
        (tmp_path / "run" / "rank-0" / name).write_text("no table")
    assert len(load(tmp_path / "run").scalars) == 8


def test_a_run_is_readable_while_it_is_written(tmp_path):
    writer = write(tmp_path / "run", steps=2, close=False)
    assert len(load(tmp_path / "run").scalars) == 4
    writer.add_scalars([scalar(3, 1.0)])
    assert len(load(tmp_path / "run").scalars) == 4
    writer.flush()
    writer.drain()
    assert len(load(tmp_path / "run").scalars) == 5


KILLED = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.store.test_run_folder import meta, scalar, histogram
    from dropdiag.store.writer import RunWriter
    writer = RunWriter(Path({path!r}), meta())
    step = 0
    while True:
        step += 1
        writer.add_scalars([scalar(step, float(step))] * 3)
        writer.add_histograms([histogram(step, range(step % 50))])
        writer.flush()
        writer.drain()
        print(step, flush=True)
"""


@pytest.mark.parametrize("after", [3, 8, 21])
def test_kill_at_any_moment_loses_nothing_that_was_flushed(tmp_path, after):
    path = tmp_path / "run"
    root = str(Path(__file__).parents[2])
    code = textwrap.dedent(KILLED.format(root=root, path=str(path)))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    flushed = 0
    for line in process.stdout:
        flushed = int(line)
        if flushed >= after:
            break
    os.kill(process.pid, signal.SIGKILL)
    flushed = int(([str(flushed), *process.stdout.read().split()])[-1])
    process.wait()
    process.stdout.close()
    run = load(path)
    assert run.meta["state"] == "running"
    counts = run.scalars.groupby("step").size()
    assert counts.index[:flushed].tolist() == list(range(1, flushed + 1))
    assert (counts == 3).all()
    assert run.histogram("net_value", "a", flushed).n == flushed % 50 or flushed % 50 == 0


def test_nothing_is_written_where_the_config_is_not_json(tmp_path):
    with pytest.raises(ArgumentError, match="only what JSON knows"):
        RunWriter(tmp_path / "run", meta(when={1, 2}))
    assert not (tmp_path / "run").exists()


# Loading -----------------------------------------------------------------------------------------------------


def test_load_many(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"base-{seed}", condition="No dropout", seed=seed)
        write(tmp_path / f"drop-{seed}", seed=seed)
    runs = load({"Base": str(tmp_path / "base-*"), "Dropout": [tmp_path / "drop-0", tmp_path / "drop-1"]})
    assert runs.conditions == ["Base", "Dropout"]
    assert [r.seed for r in runs] == [0, 1, 0, 1]
    frame = runs.scalars
    assert list(frame.columns[:3]) == ["condition", "seed", "run"]
    assert len(frame) == 4 * 8
    assert frame["condition"].unique().tolist() == ["Base", "Dropout"]
    assert runs.histograms("net_value").groupby("condition").size().tolist() == [4, 4]
    assert load([tmp_path / "base-0", tmp_path / "drop-1"]).conditions == ["No dropout", "Dropout"]
    assert isinstance(load([tmp_path / "base-0"]), Runs)
    assert isinstance(runs[0], Run)
    assert len(runs[1:]) == 3
    assert len(as_runs(runs[0])) == 1


def test_runs_of_one_name_are_told_apart_and_a_run_may_be_used_twice(tmp_path):
    for folder in ("x", "y"):
        write(tmp_path / folder / "run", seed=0)
    runs = load([tmp_path / "x" / "run", tmp_path / "y" / "run"])
    assert runs.scalars["run"].nunique() == 2
    assert len(runs[:1].scalars) == len(as_runs(runs[0]).scalars) == 8


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    write(tmp_path / "run")
    run = load(tmp_path / "run")
    with pytest.raises(NotRecordedError, match=r"no 'weight' in phase 'train'; it has net_value \(train\)"):
        run.histogram("weight", "a")
    with pytest.raises(NotRecordedError, match=r"of layer 'c', call 0; recorded are \[\('a', 0\), \('b', 0\)\]"):
        run.histogram("net_value", "c")
    with pytest.raises(NotRecordedError, match="at step 9"):
        run.histogram("net_value", "a", step=9)
    with pytest.raises(NotRecordedError, match="has no activation 'Tanh'"):
        run.derivative("Tanh")
    run.meta["activations"]["Tanh"] = {}
    with pytest.raises(NotRecordedError, match="lacks the derivative of 'Tanh': it ended before"):
        run.derivative("Tanh")
    with pytest.raises(RunError, match="no run matches"):
        load({"x": str(tmp_path / "nothing-*")})
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"is not a run: it has no run\.json"):
        load(tmp_path / "folder")
    with pytest.raises(ArgumentError, match="no runs were given"):
        load([])
    with pytest.raises(ArgumentError, match="takes a path, a list of paths or a dict"):
        load(3)
    with pytest.raises(ArgumentError, match=r"load\(\) it first"):
        as_runs("runs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "its format is 'list'"),
        ('{"format": "other"}', "its format is 'other'"),
        (
            json.dumps({"format": "dropdiag-run", "schema": 99, "versions": {"dropdiag": "9.0"}}),
            "schema 99 .* reads 1, 2, 3; .* 9.0",
        ),
    ],
)
def test_foreign_run_files_are_refused(tmp_path, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load(tmp_path)


def test_a_folder_that_is_no_rank_of_the_run_is_named_and_the_rest_is_read(tmp_path):
    write(tmp_path / "run")
    expected = load(tmp_path / "run").scalars
    (tmp_path / "run" / "rank-1").mkdir()
    (tmp_path / "run" / "rank-x").mkdir()
    run = load(tmp_path / "run")
    with pytest.warns(DropdiagWarning) as warned:
        assert run.scalars.equals(expected)
    said = sorted(str(one.message) for one in warned)
    assert len(said) == 2
    assert "rank-1 is not a rank of a run: it has no rank.json; it is left out, the rest of the run is read" in said[0]
    assert "rank-x is no rank's folder; it is left out, the rest of the run is read" in said[1]


def test_segment_names(tmp_path):
    session, digest = "0123456789abcdef", "f" * 32
    one = tmp_path / segments.segment_name("scalars", 7, 7, session, digest)
    many = tmp_path / segments.segment_name("scalars", 1, 9, session, digest)
    beside = tmp_path / segments.segment_name("scalars", 7, 7, "a" * 16, digest)
    assert one.name == f"scalars-000007.{session}.{digest}.parquet"
    assert many.name == f"scalars-000001-000009.{session}.{digest}.parquet"
    for path in (one, many, beside, tmp_path / "scalars-000007.parquet", tmp_path / f"scalars-7.{session}.parquet"):
        path.touch()
    found = segments.list_segments(tmp_path)
    assert {s.path for s in found} == {many, beside, tmp_path / "scalars-000007.parquet"}
    assert {(s.session, s.digest) for s in found} == {(session, digest), ("a" * 16, digest), ("", "")}


def test_any_parquet_reader_reads_it_as_it_is(tmp_path):
    import pandas as pd

    write(tmp_path / "run")
    frame = pd.read_parquet(next((tmp_path / "run" / "rank-0").glob("histograms-*")))
    assert list(frame.columns) == ["step", "phase", "layer", "call", "quantity", "n", "bins", "counts"]
    assert [sum(c) for c in frame["counts"]] == frame["n"].tolist()


def test_a_run_counts_once_and_belongs_to_one_condition(tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"base-{seed}", seed=seed)
    assert len(load([tmp_path / "base-0", str(tmp_path / "base-*")])) == 2
    with pytest.raises(ArgumentError, match="is given as 'A' and as 'B'"):
        load({"A": tmp_path / "base-0", "B": str(tmp_path / "base-*")})


def test_the_one_held_out_set_is_the_default_and_several_are_asked_for(tmp_path):
    writer = RunWriter(tmp_path / "run", meta())
    writer.add_histograms([histogram(1, [1.0]), histogram(1, [2.0, 3.0], phase="test")])
    writer.flush()
    writer.drain()
    assert load(tmp_path / "run").histogram("net_value", "a").n == 2
    writer.add_histograms([histogram(1, [4.0], phase="valid")])
    writer.close("completed")
    with pytest.raises(ArgumentError, match="in several held-out phases, 'test', 'valid'; choose one with phase="):
        load(tmp_path / "run").histogram("net_value", "a")
    assert load(tmp_path / "run").histogram("net_value", "a", phase="valid").n == 1


def test_a_run_that_is_gone_is_an_error_and_no_empty_frame(tmp_path):
    import shutil

    write(tmp_path / "run")
    run = load(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match="is gone"):
        run.scalars  # noqa: B018


def test_a_condition_of_none_is_the_runs_name(tmp_path):
    write(tmp_path / "run", condition=None)
    assert load(tmp_path / "run").condition == "run"
