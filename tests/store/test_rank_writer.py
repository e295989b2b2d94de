"""What each rank of a run writes: its own segments and rank.json, counts of scalars, states, quantities' merges."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from dropdiag.errors import ArgumentError, RunError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow, StateRow
from dropdiag.store.schema import QUANTITIES, Quantity, quantities_of
from dropdiag.store.segments import list_segments, rank_folder
from dropdiag.store.writer import FLUSH_STATES, RunWriter
from tests.described import write_meta
from tests.store.test_run_folder import META, histogram, scalar

SESSION = {"id": "first", "world_size": 2}


def begin(path, rank, **options):
    ranks = {"rank": rank, "world_size": 2, "training": None, "recorded": "zero"}
    made = {**META, "id": "run", "ranks": ranks, "disabled_probes": [], "warnings": []}
    return RunWriter(path, made, rank=rank, **{"session": SESSION, "counts": True, **options})


def state(step, values, layer="a", quantity="own_state"):
    return StateRow(step, "train", layer, 0, quantity, len(values), 1, np.asarray(values, np.float64))


def table(path, rank, name):
    (segment,) = list_segments(rank_folder(path, rank), name)
    return pq.read_table(segment.path)


def test_a_rank_has_a_folder_and_a_file_of_its_own(tmp_path):
    path = tmp_path / "run"
    writers = [begin(path, rank) for rank in (0, 1)]
    before = (path / "run.json").read_bytes()
    writers[1].add_scalars([scalar(1, 2.0)])
    assert writers[1].close("completed") is None
    assert (path / "run.json").read_bytes() == before
    told = json.loads((path / "rank-1" / "rank.json").read_text())
    assert (told["format"], told["id"], told["ranks"]["rank"], told["state"]) == ("dropdiag-run", "run", 1, "completed")
    (session,) = told["sessions"]
    assert {**SESSION, "from_step": 0, "first_segment": 1}.items() <= session.items()
    assert sorted(p.name.split(".")[0] for p in (path / "rank-1").iterdir()) == [
        "rank", "scalars-000001", "session-000001"
    ]  # fmt: skip
    assert [p.name.split(".")[0] for p in (path / "rank-0").iterdir()] == ["session-000001"]
    writers[0].close("completed")


def test_a_rank_that_was_killed_as_it_began_says_what_it_has_not_recorded(tmp_path):
    path, steps = tmp_path / "run", "steps 1 to 2 are not recorded by this rank"
    for start in (None, 2):
        session = {"id": f"from {start}", "world_size": 2}
        writers = [begin(path, rank, resume_from=start, session=session) for rank in (0, 1)]
        writers[0].add_scalars([scalar((start or 0) + 1, 2.0)])
        writers[0].meta["steps"] = 2
        writers[0].close("interrupted")
        if start is None:  # of the other rank nothing is there but the file of its session
            writers[1].background.drain()
            (path / "rank-1" / "rank.json").unlink()
    writers[1].close("completed")
    told = json.loads((path / "rank-1" / "rank.json").read_text())
    assert len(told["sessions"]) == 2
    assert steps in " ".join(told["warnings"])
    assert any(steps in warning for warning in load(path).meta["warnings"])


def test_counts_are_a_column_after_the_values_where_they_are_asked_for(tmp_path):
    rows = [scalar(1, 2.0)._replace(count=5.0), scalar(2, None)._replace(count=0.0), scalar(3, 1.0)]
    for name, counts in (("with", True), ("without", False)):
        writer = begin(tmp_path / name, 0, counts=counts)
        writer.add_scalars(rows)
        writer.close("completed")
    found = table(tmp_path / "with", 0, "scalars")
    assert found.column_names == ["step", "phase", "layer", "call", "quantity", "value", "count"]
    assert (found["count"].to_pylist(), found["value"].to_pylist()) == ([5.0, 0.0, None], [2.0, None, 1.0])
    assert table(tmp_path / "without", 0, "scalars").equals(found.drop_columns("count"))
    assert load(tmp_path / "with").scalars.equals(load(tmp_path / "without").scalars)
    assert ScalarRow(1, "train", "a", 0, "q", 1.0).count is None


def test_states_are_written_bit_for_bit_and_compacted(tmp_path, rng):
    writer, made = begin(tmp_path / "run", 0), []
    for step in (1, 2, 3):
        made.append(state(step, rng.normal(size=step) * 1e-300))
        writer.add_states(made[-1:])
        assert writer.waiting() == (1, {step})
        writer.flush()
        writer.drain()
    assert len(list_segments(rank_folder(tmp_path / "run"), "states")) == 3
    writer.close("completed")
    found = table(tmp_path / "run", 0, "states")
    names = ["step", "phase", "layer", "call", "quantity", "count", "nodes", "state"]
    assert (found.column_names, found["count"].to_pylist()) == (names, [1, 2, 3])
    assert [str(found.schema.field(name).type) for name in names[-3:]] == ["int64", "int32", "list<element: double>"]
    for row, kept in zip(made, found["state"].to_pylist(), strict=True):
        assert np.array(kept).tobytes() == row.state.tobytes()


def test_states_of_each_quantity_are_a_row_group_also_when_compacted(tmp_path, rng):
    path = tmp_path / "run"
    writer = begin(path, 0)
    for step in (1, 2):
        large = state(step, rng.normal(size=4), quantity="node_correlation")
        writer.add_states([state(step, [1.0]), large, state(step, [2.0], "b")])
        writer.flush()
        writer.drain()
    for segment in list_segments(rank_folder(path), "states"):
        assert pq.ParquetFile(segment.path).num_row_groups == 2
    writer.close("completed")
    (segment,) = list_segments(rank_folder(path), "states")
    file = pq.ParquetFile(segment.path)
    groups = [file.read_row_group(group)["quantity"].to_pylist() for group in range(file.num_row_groups)]
    assert groups == [["own_state"] * 2, ["node_correlation"]] * 2


def test_many_states_make_a_flush_due(tmp_path):
    writer = begin(tmp_path / "run", 0)
    writer.add_states([state(1, np.zeros(FLUSH_STATES - 1))])
    assert not writer.due
    writer.add_states([state(1, [0.0], "b")])
    assert writer.due
    writer.close("completed")


def test_compaction_leaves_sessions_with_and_without_counts_apart(tmp_path):
    path = tmp_path / "run"
    for counts, start in ((False, None), (True, 2), (False, 4)):
        writer = begin(path, 0, counts=counts, resume_from=start, session={**SESSION, "id": f"from {start}"})
        for step in (1, 2):
            writer.add_scalars([scalar((start or 0) + step, float(step))])
            writer.flush()
            writer.drain()
        writer.save_meta(steps=(start or 0) + 2)
        writer.close("completed")
    segments = [pq.read_schema(segment.path).names for segment in list_segments(rank_folder(path), "scalars")]
    assert ["count" in names for names in segments] == [False, True, False]
    assert load(path).scalars["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert load(path).scalars["value"].tolist() == [1.0, 2.0] * 3


def test_a_rank_begins_only_where_nothing_of_it_is(tmp_path):
    path = tmp_path / "run"
    begin(path, 0).close("completed")
    begin(path, 1).close("completed")
    with pytest.raises(RunError, match="rank-1 holds a run already and nothing is ever overwritten"):
        begin(path, 1)
    (path / "rank-2").mkdir()
    (path / "rank-2" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="rank-2 is not empty"):
        begin(path, 2)
    with pytest.raises(ArgumentError, match="rank 3 of .* is not told the run's id"):
        RunWriter(path, META, rank=3)


def test_a_rank_goes_on_or_begins_in_a_later_session(tmp_path):
    path = tmp_path / "run"
    for rank in (0, 1):
        writer = begin(path, rank)
        writer.add_scalars([scalar(1, 1.0)])
        writer.save_meta(steps=3 - rank)
        writer.close("completed")
    second = {"id": "second", "world_size": 3}
    for rank in (0, 1, 2):
        begin(path, rank, resume_from=3, session=second).close("completed")
    files = [path / "run.json", *(path / f"rank-{rank}" / "rank.json" for rank in (1, 2))]
    told = [json.loads(file.read_text()) for file in files]
    assert [[session["id"] for session in one["sessions"]] for one in told] == [["first", "second"]] * 2 + [["second"]]
    assert [[session["first_segment"] for session in one["sessions"]] for one in told] == [[1, 2], [1, 2], [1]]
    assert [one["sessions"][-1]["from_step"] for one in told] == [3, 3, 3]
    gap = "steps 3 to 3 are not recorded by this rank: it was resumed beyond its last flushed step"
    assert [one["warnings"] for one in told] == [[], [gap], []]


def test_a_rank_of_another_run_is_not_gone_on_with(tmp_path):
    path = tmp_path / "run"
    begin(path, 0).close("completed")
    begin(path, 1).close("completed")
    file = path / "rank-1" / "rank.json"
    write_meta(file, {**json.loads(file.read_text()), "id": "other"})
    with pytest.raises(RunError, match="rank-1 is of another run: its id is 'other', and that of the run is 'run'"):
        begin(path, 1, resume_from=0)


def test_a_rank_that_is_discarded_takes_its_own_folder_alone(tmp_path):
    path = tmp_path / "run"
    writers = [begin(path, rank) for rank in (0, 1)]
    writers[0].add_histograms([histogram(1, [1.0])])
    writers[0].flush()
    writers[1].discard()
    assert not (path / "rank-1").exists()
    writers[0].close("completed")
    assert load(path).histogram("net_value", "a").n == 1


def test_quantities_say_how_ranks_merge():
    plain, summed = Quantity("q", "scalar", "1", "q"), Quantity("s", "scalar", "1", "s", merge="sum")
    assert "merge" not in plain.described()
    assert quantities_of({"quantities": {"s": summed.described(), "q": plain.described()}})["s"] == summed
    merges = {name: QUANTITIES[name].merge for name in QUANTITIES if QUANTITIES[name].merge != "mean"}
    assert merges == {
        "node_correlation_samples": "sum",
        "node_correlation_items": "sum",
        **{f"{of}_{end}": end for of in ("weight", "net_value") for end in ("minimum", "maximum")},
    }
    with pytest.raises(ArgumentError, match="quantity 'q': merge is one of mean, sum, minimum, maximum, got 'median'"):
        Quantity("q", "scalar", "1", "q", merge="median")
    with pytest.raises(ArgumentError, match="histograms of several ranks always add up; leave out merge='sum'"):
        Quantity("q", "histogram", "1", "q", merge="sum")
