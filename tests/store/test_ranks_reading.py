"""Everything that reads a run reads one of several ranks, and opens no more files than it needs."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import dropdiag as dd
from dropdiag.errors import DropdiagWarning, NotRecordedError
from dropdiag.integrations.csv import to_csv
from dropdiag.report.cache import RunCache, state
from dropdiag.store import batches, lists, reading
from dropdiag.store.folder import evaluated_phases
from dropdiag.store.ranks import gathering
from dropdiag.store.ranks import reading as merged
from dropdiag.store.reader import Runs, load
from tests.described import write_meta
from tests.openings import openings
from tests.ranks import add, close, correlation_rows, histogram, moment_rows, scalar, writer

W = 3
STEPS = range(1, 7)


@pytest.fixture
def path(tmp_path, rng):
    return record(tmp_path / "run", rng)


def record(path, rng, seed=1, flush=True, state="interrupted"):
    """Three ranks that each write six steps in as many segments."""
    for rank in range(W):
        one = writer(path, rank, W, config={"condition": "Dropout", "seed": seed}, id=f"run {seed}")
        for step in STEPS:
            x = rng.normal(size=(8 + rank, 5))
            scalars, states = moment_rows(step, "net_value", x)
            add(one, scalars, states, histogram(step, "net_value", x), *correlation_rows(step, x),
                [scalar(step, "loss", float(10 * step + rank), layer=None)])  # fmt: skip
            if flush:
                one.flush()
                one.drain()
        close(one, STEPS[-1], state)
    return path


def names(counted):
    return {name.split("/")[1].split("-")[0] for name in counted}


def test_states_are_read_where_what_they_give_is_wanted_alone(path):
    run = load(path)
    with openings(path) as counted:
        assert len(run.select(["loss"])) == 6
    assert names(counted) == {"scalars"}
    assert set(counted.values()) == {1}
    with openings(path) as counted:
        run.histograms("net_value", "all")
    assert names(counted) == {"histograms"}
    with openings(path) as counted:
        run.select("net_value_sd", steps=3)
    assert names(counted) == {"scalars", "states"}
    with openings(path) as counted:
        run.histograms("node_correlation", 3)
    # the scalars say which evaluations all ranks repeat: asked once a run, and of one that is recorded each time
    assert names(counted) == {"histograms", "states", "scalars"}
    assert set(counted.values()) == {1}
    with openings(path) as counted, pytest.raises(NotRecordedError, match="did you mean 'loss'"):
        run.select("los")
    assert names(counted) == {"scalars"}


def test_runs_keep_scalars_for_the_next_question_and_read_no_states_for_it(tmp_path, rng):
    for seed in (1, 2):
        record(tmp_path / f"run-{seed}", rng, seed, state="completed")
    runs = load({"All": str(tmp_path / "run-*")})
    each = {name: [run.select(name)["value"].tolist() for run in runs] for name in ("loss", "net_value_sd")}
    with openings(tmp_path) as counted:
        assert runs.select("loss")["value"].tolist() == [*each["loss"][0], *each["loss"][1]]
    assert {name.split("/")[2].split("-")[0] for name in counted} == {"scalars"}
    with openings(tmp_path) as counted:
        runs.select("loss", steps=3)
    assert not counted
    with openings(tmp_path) as counted:
        assert runs.select("net_value_sd")["value"].tolist() == [*each["net_value_sd"][0], *each["net_value_sd"][1]]
    assert {name.split("/")[2].split("-")[0] for name in counted} == {"scalars", "states"}
    with openings(tmp_path) as counted:
        runs.select(["net_value_sd", "loss"])
        list(runs.batches("node_correlation_abs_mean"))
    assert not counted


def test_large_files_many_segments_and_little_memory_give_the_same_rows(path, monkeypatch):
    run = load(path)
    expected = run.scalars, run.histograms(["net_value", "node_correlation"], "all")
    whole = pa.concat_tables(run.tables.stream("scalars")), pa.concat_tables(run.tables.stream("histograms"))
    monkeypatch.setattr(reading, "WHOLE_BYTES", 0)
    monkeypatch.setattr(reading, "WHOLE_ROWS", 0)
    monkeypatch.setattr(lists, "OPEN_FILES", 1)
    monkeypatch.setattr(gathering, "STATES_AT_ONCE", 1)
    monkeypatch.setattr(merged, "STREAM_ROWS", {"scalars": 1, "histograms": 1})
    monkeypatch.setattr(batches, "CACHED_FILES", 0)
    run = load(path)
    assert run.scalars.equals(expected[0])
    assert run.histograms(["net_value", "node_correlation"], "all").equals(expected[1])
    assert Runs([run]).select().drop(columns=["condition", "seed", "run"]).equals(expected[0])
    for name, table in zip(("scalars", "histograms"), whole, strict=True):
        parts = list(run.tables.stream(name))
        assert [part["step"].unique().to_pylist() for part in parts] == [[step] for step in STEPS]
        assert reading.decoded(pa.concat_tables(parts)).equals(reading.decoded(table))


def test_compacted_ranks_read_the_same(tmp_path, rng):
    seeds = np.random.default_rng(3), np.random.default_rng(3)
    parts, whole = (load(record(tmp_path / name, own, state=state)) for name, own, state in
                    zip(("parts", "whole"), seeds, ("interrupted", "completed"), strict=True))  # fmt: skip
    assert len(list(whole.path.glob("rank-*/states-*"))) == W
    assert len(list(parts.path.glob("rank-*/states-*"))) == W * len(STEPS)
    assert parts.scalars.equals(whole.scalars)
    assert parts.histograms("node_correlation", "all").equals(whole.histograms("node_correlation", "all"))


def test_a_rank_that_is_compacted_while_it_is_read_is_read_whole(path, monkeypatch):
    from dropdiag.store.files import compact

    run = load(path)
    expected = run.scalars
    real = lists.visible_segments

    def then_compacted(part, table, problems=None):
        found = real(part, table, problems)
        monkeypatch.setattr(lists, "visible_segments", real)
        compact(part, "f" * 16)
        return found

    monkeypatch.setattr(lists, "visible_segments", then_compacted)
    assert run.scalars.equals(expected)


def test_exports_have_the_merged_rows(path, tmp_path):
    run = load(path)
    scalars, histograms, _ = to_csv(run, tmp_path / "out")
    frame = pd.read_csv(scalars)
    assert frame["value"].to_numpy() == pytest.approx(run.scalars["value"].to_numpy(), nan_ok=True)
    assert frame["quantity"].tolist() == run.scalars["quantity"].tolist()
    with histograms.open() as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "net_value" and row["step"] == "6"]
    assert sum(int(row["count"]) for row in rows) == run.histogram("net_value", "act", 6).n == 5 * (8 + 9 + 10)


def test_event_files_have_the_merged_rows(path, tmp_path):
    pytest.importorskip("tensorboard")
    from dropdiag.integrations.tensorboard import to_tensorboard

    assert all(file.stat().st_size for file in to_tensorboard(load(path), tmp_path / "out"))


def test_exports_name_what_is_missing_once(path, tmp_path):
    import shutil

    shutil.rmtree(path / "rank-1")
    with pytest.warns(DropdiagWarning) as warned:
        to_csv(load(path), tmp_path / "out")
    assert len({str(one.message) for one in warned}) == 1
    assert "is read from 2 of 3 ranks" in str(warned[0].message)


def test_a_page_that_follows_sees_any_rank_grow(path):
    cache, made = RunCache(), []

    def look():
        cache.look(state(path))
        return cache.recall(path, "x", None, lambda: made.append(1) or len(made))

    assert (look(), look()) == (1, 1)
    segment = sorted((path / "rank-2").glob("scalars-*"))[-1]
    segment.write_bytes(segment.read_bytes()[:50])
    assert (look(), look()) == (2, 2)
    file = path / "rank-1" / "rank.json"
    write_meta(file, {**json.loads(file.read_text()), "steps": 5})
    assert (look(), look()) == (3, 3)


def test_a_run_of_which_a_rank_still_records_is_not_kept(tmp_path, rng):
    path = record(tmp_path / "run", rng)
    one = writer(path, 3, 4, id="run 1")
    add(one, [scalar(1, "loss", 5.0, layer=None)])
    one.save_meta(steps=6)
    one.flush()
    one.drain()
    for file in path.rglob("r*.json"):
        told = json.loads(file.read_text())
        told["sessions"][0]["world_size"] = told["ranks"]["world_size"] = 4
        write_meta(file, told)
    runs = Runs([load(path)])
    assert runs[0].is_growing
    assert runs.select("loss", steps=1)["value"].tolist() == [9.5]
    add(one, [scalar(1, "own", 1.0)])
    one.flush()
    one.drain()
    assert runs.select("own")["value"].tolist() == [1.0]
    one.close("completed")
    assert not load(path).is_growing


def test_each_rank_knows_what_it_has_evaluated(tmp_path):
    path = tmp_path / "run"
    for rank in range(2):
        one = writer(path, rank, 2)
        add(one, [scalar(2, "accuracy", 0.5, phase=f"held-out-{rank}")])
        close(one, 2)
    assert [evaluated_phases(path, 2, rank) for rank in (0, 1, 2)] == [{"held-out-0"}, {"held-out-1"}, set()]
    assert evaluated_phases(path, 1, 1) == set()


def test_comparisons_and_reports_take_runs_of_several_ranks(tmp_path, rng):
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            for rank in range(2):
                one = writer(tmp_path / f"{condition}-{seed}", rank, 2, config={"condition": condition, "seed": seed},
                             id=f"{condition}-{seed}")  # fmt: skip
                for step in STEPS:
                    x = rng.normal(size=(20, 6)) * (1 + seed)
                    scalars, states = moment_rows(step, "net_value", x)
                    add(one, scalars, states, histogram(step, "net_value", x, phase="eval"), *correlation_rows(step, x),
                        [scalar(step, "net_grad_abs_mean", float(np.abs(x).mean()), 120.0),
                         scalar(step, "loss", float(rng.normal()), layer=None)])  # fmt: skip
                close(one, STEPS[-1])
    runs = load({name: str(tmp_path / f"{name}-*") for name in ("No dropout", "Dropout")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of so little data
        table = dd.compare(runs, baseline="No dropout").table
        dd.report(runs, tmp_path / "report.html")
    assert len(table)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2 ranks" in page
