"""Ranks that are missing, fell silent, or took part in some sessions alone: named, and the rest is read."""

from __future__ import annotations

import json
import os
import shutil
import warnings

import numpy as np
import pytest

from dropdiag.errors import DropdiagWarning, NotRecordedError, RunError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from dropdiag.store.segments import rank_folder
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.ranks import add, close, histogram, scalar, write, writer

W = 3


def rows(rank, steps):
    """A loss of 10 times the step and the rank, and a value of each step's histogram."""
    return [row for step in steps for row in (
        scalar(step, "loss", 10.0 * step + rank, layer=None), *histogram(step, "net_value", [step, rank + 0.5])
    )]  # fmt: skip


def session(path, world, steps, *, name="first", resume=None, only=None, states=None, until=None):
    """Record a session: ranks of ``until`` stop at a step, those of ``states`` end so."""
    for rank in range(world) if only is None else only:
        one = writer(path, rank, world, session=name, resume=resume)
        mine = [step for step in steps if step <= (until or {}).get(rank, steps[-1])]
        add(one, rows(rank, mine))
        close(one, mine[-1] if mine else (resume or 0), (states or {}).get(rank, "completed"))


def losses(run):
    """Step -> the loss without what the step itself makes of it: the mean number of the ranks that are there."""
    frame = run.select("loss")
    return {step: value - 10.0 * step for step, value in zip(frame["step"], frame["value"], strict=True)}


def without_warnings(run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return losses(run)


def test_all_ranks_are_there(tmp_path):
    session(tmp_path / "run", W, [1, 2])
    run = load(tmp_path / "run")
    assert losses(run) == {1: 1.0, 2: 1.0}
    assert repr(run) == "<Run 'run': Dropout, seed 1, 2 steps, completed, 3 ranks>"
    assert (len(run.ranks), run.ranks.world_size, run.ranks.missing) == (3, 3, {})


def test_rows_come_by_step_as_the_first_rank_has_them(tmp_path):
    path = tmp_path / "run"
    for rank, quantities in enumerate([["b", "a"], ["c", "a", "b"], ["d"]]):
        one = writer(path, rank, W)
        for step in (2, 1) if rank == 0 else (1, 2):  # what is on a device comes later
            add(one, [scalar(step, name, 1.0) for name in quantities])
        close(one, 2)
    frame = load(path).scalars
    assert frame["step"].tolist() == [1] * 4 + [2] * 4
    assert frame["quantity"].tolist() == ["b", "a", "c", "d"] * 2
    assert load(path).select("a")["value"].tolist() == [1.0, 1.0]


def test_a_rank_that_never_began_is_named_when_rows_are_read(tmp_path):
    session(tmp_path / "run", W, [1, 2], only=[0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = load(tmp_path / "run")
        assert repr(run).endswith("completed, 2 of 3 ranks>")
    with pytest.warns(DropdiagWarning) as warned:
        assert losses(run) == {1: 1.0, 2: 1.0}
    assert [str(one.message) for one in warned] == [
        f"{tmp_path / 'run'} is read from 2 of 3 ranks: rank 1: it has no folder rank-1"
    ]
    assert warned[0].filename == __file__
    with pytest.warns(DropdiagWarning, match="is read from 2 of 3 ranks") as warned:
        assert run.histogram("net_value", "act", 1) == Histogram.from_values([1, 0.5, 1, 2.5])
    assert len(warned) == 1
    assert run.ranks.missing == {1: "it has no folder rank-1"}
    with pytest.raises(NotRecordedError, match="has no rank 1: it has no folder rank-1; it has ranks 0 and 2"):
        run.ranks[1]
    with pytest.raises(NotRecordedError, match="has no rank 7; it has ranks 0 and 2"):
        run.ranks[7]


def test_a_rank_that_was_killed_is_read_as_far_as_it_came(tmp_path):
    session(tmp_path / "run", W, range(1, 5), states={1: "killed"}, until={1: 2})
    run = load(tmp_path / "run")
    with pytest.warns(DropdiagWarning) as warned:
        assert losses(run) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}
    assert [str(one.message) for one in warned] == [
        f"{tmp_path / 'run'} is read from 2 of 3 ranks: rank 1: recorded up to step 2 of 4 and is 'running'"
    ]
    assert run.meta["steps"] == 4
    assert (len(run.ranks), run.ranks.missing) == (3, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [run.histogram("net_value", "act", step).n for step in (1, 2, 3, 4)] == [6, 6, 4, 4]
    table = run.ranks.table.set_index("rank")
    assert table["state"].tolist() == ["completed", "running", "completed"]
    assert table["differs"].tolist() == ["", "recorded up to step 2 of 4 and is 'running'", ""]


def test_the_first_rank_may_be_the_one_that_was_killed(tmp_path):
    session(tmp_path / "run", W, range(1, 4), states={0: "killed"}, until={0: 1})
    run = load(tmp_path / "run")
    with pytest.warns(DropdiagWarning, match="2 of 3 ranks: rank 0: recorded up to step 1 of 3 and is 'running'"):
        assert losses(run) == {1: 1.0, 2: 1.5, 3: 1.5}
    assert (run.meta["steps"], run.meta["state"]) == (3, "running")


def test_a_rank_that_failed_is_named_with_its_error(tmp_path):
    path = tmp_path / "run"
    session(path, 2, [1, 2], only=[0])
    one = writer(path, 1, 2)
    add(one, rows(1, [1]))
    one.save_meta(steps=1)
    one.close("failed", "ValueError: no data")
    run = load(path)
    assert run.meta["warnings"] == ["rank 1 ended as 'failed': ValueError: no data"]
    with pytest.warns(DropdiagWarning, match="1 of 2 ranks: rank 1: recorded up to step 1 of 2 and is 'failed'"):
        assert losses(run) == {1: 0.5, 2: 0.0}
    again = tmp_path / "again"
    session(again, 2, [1, 2], only=[0])
    one = writer(again, 1, 2)
    add(one, rows(1, [1, 2]))
    one.save_meta(steps=2)
    one.close("failed", "ValueError: no data")
    assert load(again).group.told == "2 ranks; rank 1 ended as 'failed' at step 2"


def test_a_rank_with_fewer_steps_that_completed_is_not_missing(tmp_path):
    session(tmp_path / "run", W, range(1, 5), until={2: 3})
    run = load(tmp_path / "run")
    assert losses(run) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.5}
    assert run.group.told == "3 ranks; rank 2 ended at step 3"


def test_ranks_that_still_record_lie_a_little_apart(tmp_path):
    path = tmp_path / "run"
    session(path, 2, range(1, 5), states={0: "killed", 1: "killed"}, until={1: 3})
    run = load(path)
    assert sorted(losses(run)) == [1, 2, 3]  # up to the last step that both have written
    assert run.meta["steps"] == 3
    assert run.ranks[0].select("loss")["step"].tolist() == [1, 2, 3, 4]
    # one that wrote a minute before the other does not record any more
    file = path / "rank-1" / "rank.json"
    os.utime(file, (0, (path / "run.json").stat().st_mtime - 61))
    with pytest.warns(DropdiagWarning, match="rank 1: recorded up to step 3 of 4 and is 'running'"):
        losses(load(path))


def test_rank_0_alone_by_the_users_wish_is_no_run_with_gaps(tmp_path):
    one = writer(tmp_path / "run", 0, 4, recorded="zero")
    add(one, rows(0, [1]))
    close(one, 1)
    run = load(tmp_path / "run")
    assert losses(run) == {1: 0.0}
    assert repr(run).endswith(", rank 0 of 4 alone>")
    assert (len(run.ranks), run.ranks.world_size, run.ranks.missing) == (1, 4, {})


def test_a_torn_segment_of_one_rank_is_named_and_the_rest_is_read(tmp_path):
    path = tmp_path / "run"
    for rank in range(W):
        one = writer(path, rank, W)
        for step in (1, 2):
            add(one, rows(rank, [step]))
            one.flush()
            one.drain()
        close(one, 2, "interrupted")
    torn = {
        name: next(rank_folder(path, 1).glob(f"{name}-00000{i}.*")) for name, i in (("scalars", 3), ("histograms", 4))
    }
    for file in torn.values():
        file.write_bytes(file.read_bytes()[:90])
    run = load(path)
    with pytest.warns(DropdiagWarning) as warned:
        assert losses(run) == {1: 1.0, 2: 1.0}
    assert [str(one.message).split(" cannot be read")[0] for one in warned] == [str(torn["scalars"])]
    with pytest.warns(DropdiagWarning) as warned:
        assert run.histograms("net_value", "all")["histogram"].map(lambda one: one.n).tolist() == [6, 4]
    assert [str(one.message).split(" cannot be read")[0] for one in warned] == [str(torn["histograms"])]


def test_a_rank_of_another_run_is_left_out_and_named(tmp_path):
    session(tmp_path / "run", 2, [1])
    file = tmp_path / "run" / "rank-1" / "rank.json"
    write_meta(file, {**json.loads(file.read_text()), "id": "other"})
    run = load(tmp_path / "run")
    expected = (
        "1 of 2 ranks: rank 1: .*rank-1/rank.json is of another run: its id is 'other', and that of the run is 'ffff"
    )
    with pytest.warns(DropdiagWarning, match=expected):
        assert losses(run) == {1: 0.0}
    assert repr(run).endswith(", 1 of 2 ranks>")
    file.write_text("{ half")
    with pytest.warns(DropdiagWarning, match="rank 1: .*rank.json cannot be read"):
        losses(load(tmp_path / "run"))
    file.unlink()
    with pytest.warns(DropdiagWarning, match="rank 1: .*rank-1 is not a rank of a run: it has no rank.json"):
        losses(load(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "rank-0")
    with pytest.raises(RunError, match="holds no rank that can be read"):
        load(tmp_path / "run")


def test_what_is_left_of_a_run_without_the_first_ranks_folder_is_read(tmp_path):
    session(tmp_path / "run", W, [1, 2])
    shutil.rmtree(tmp_path / "run" / "rank-0")
    with pytest.warns(DropdiagWarning, match="is read from 2 of 3 ranks: rank 0: it has no folder rank-0"):
        assert losses(load(tmp_path / "run")) == {1: 1.5, 2: 1.5}


def test_a_session_with_fewer_ranks_goes_on_where_it_resumed(tmp_path):
    path = tmp_path / "run"
    session(path, 4, range(1, 6))
    session(path, 2, range(4, 8), name="second", resume=3)
    run = load(path)
    assert losses(run) == {1: 1.5, 2: 1.5, 3: 1.5, 4: 0.5, 5: 0.5, 6: 0.5, 7: 0.5}
    assert [run.histogram("net_value", "act", step).n for step in range(1, 8)] == [8, 8, 8, 4, 4, 4, 4]
    assert repr(run).endswith("7 steps, completed, 2 ranks (4 before)>")
    assert (len(run.ranks), run.ranks.world_size) == (4, 2)
    assert run.ranks[3].select("loss")["step"].tolist() == [1, 2, 3]
    assert run.ranks[1].select("loss")["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert run.ranks.table["sessions"].tolist() == [2, 2, 1, 1]


def test_a_session_with_more_ranks_and_then_fewer_again(tmp_path):
    path = tmp_path / "run"
    session(path, 2, [1, 2])
    session(path, 3, [3, 4, 5], name="second", resume=2)
    session(path, 2, [5, 6], name="third", resume=4)
    run = load(path)
    assert losses(run) == {1: 0.5, 2: 0.5, 3: 1.0, 4: 1.0, 5: 0.5, 6: 0.5}
    # and once more: rank 2 comes back
    session(path, 3, [6], name="fourth", resume=5)
    run = load(path)
    assert losses(run) == {1: 0.5, 2: 0.5, 3: 1.0, 4: 1.0, 5: 0.5, 6: 1.0}
    assert run.meta["warnings"] == []
    assert run.ranks[2].select("loss")["step"].tolist() == [3, 4, 6]


def test_a_process_alone_goes_on_where_several_were(tmp_path):
    path = tmp_path / "run"
    session(path, 3, range(1, 6))
    meta = json.loads((path / "run.json").read_text())
    one = RunWriter(path, {**meta, "ranks": None}, resume_from=3)  # it says nothing of its session
    add(one, rows(0, [4]))
    close(one, 4)
    run = load(path)
    assert losses(run) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.0}
    assert repr(run).endswith("4 steps, completed, 1 rank (3 before)>")


@pytest.mark.parametrize("later", ["all", "zero"])
def test_sessions_differ_in_whether_all_ranks_recorded(tmp_path, later):
    path = tmp_path / "run"
    earlier = "zero" if later == "all" else "all"
    for recorded, name, steps in ((earlier, "first", [1]), (later, "second", [2])):
        for rank in range(3 if recorded == "all" else 1):
            resume = None if name == "first" else 1
            one = writer(path, rank, 3, session=name, resume=resume, recorded=recorded)
            one.meta["sessions"][-1]["recorded"] = recorded
            add(one, rows(rank, steps))
            close(one, steps[0])
    run = load(path)
    assert losses(run) == {1: 1.0 if earlier == "all" else 0.0, 2: 1.0 if later == "all" else 0.0}
    assert repr(run).endswith("3 ranks>" if later == "all" else "rank 0 of 3 alone>")


def test_what_was_recorded_anew_altogether_is_missed_by_nobody(tmp_path):
    path = tmp_path / "run"
    session(path, 3, [1, 2], only=[0, 1])
    session(path, 2, [1, 2, 3], name="second", resume=0)
    assert losses(load(path)) == {1: 0.5, 2: 0.5, 3: 0.5}


def test_a_rank_that_is_missing_in_one_session_alone_is_named_for_it(tmp_path):
    path = tmp_path / "run"
    session(path, 3, [1, 2])
    session(path, 3, [3, 4], name="second", resume=2, only=[0, 1])
    session(path, 3, [5], name="third", resume=4)
    run = load(path)
    with pytest.warns(DropdiagWarning, match="rank 2: recorded nothing of steps 3 to 4$"):
        assert losses(run) == {1: 1.0, 2: 1.0, 3: 0.5, 4: 0.5, 5: 1.0}


def test_a_session_that_run_json_does_not_know_counts_nothing(tmp_path):
    path = tmp_path / "run"
    session(path, 2, [1, 2])
    one = writer(path, 1, 2, session="unknown", resume=2)
    add(one, rows(1, [3]))
    close(one, 3)
    assert without_warnings(load(path)) == {1: 0.5, 2: 0.5}


def test_a_run_of_one_process_has_one_rank_and_opens_no_more_files(tmp_path):
    one = writer(tmp_path / "run", 0, 1, recorded="all")
    add(one, rows(0, [1]))
    close(one, 1)
    run = load(tmp_path / "run")
    assert run.group is None
    assert repr(run) == "<Run 'run': Dropout, seed 1, 1 steps, completed>"
    assert (len(run.ranks), run.ranks.world_size, run.ranks.missing) == (1, 1, {})
    assert run.ranks[0].scalars.equals(run.scalars)
    assert run.ranks.table[["rank", "state", "steps", "sessions", "differs"]].values.tolist() == [
        [0, "completed", 1, 1, ""]
    ]
    assert run.ranks.spread("loss")[["ranks", "mean"]].values.tolist() == [[1, 10.0]]


def test_ranks_lie_side_by_side(tmp_path):
    path = tmp_path / "run"
    for rank in range(W):
        one = writer(path, rank, W)
        add(one, rows(rank, [1, 2]), [scalar(2, "own", float("nan") if rank else None), scalar(1, "none", None)],
            [scalar(step, "step_seconds", 0.1 * (rank + 1), layer=None) for step in (1, 2)],
            [scalar(step, "recorder_seconds", 0.01, layer=None) for step in (1, 2)])  # fmt: skip
        close(one, 2)
    run = load(path)
    assert [view.rank for view in run.ranks] == [0, 1, 2]
    assert [losses(view) for view in run.ranks] == [{1: rank, 2: rank} for rank in (0.0, 1.0, 2.0)]
    assert run.ranks[2].histogram("net_value", "act") == Histogram.from_values([2, 2.5])
    assert repr(run.ranks[2]) == "<Run 'run/rank-2': Dropout, seed 1, 2 steps, completed>"
    assert run.ranks.table["recorder_share"].tolist() == pytest.approx([0.1, 0.05, 0.1 / 3])
    assert run.ranks.table["step_seconds"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    spread = run.ranks.spread("loss", steps=2).iloc[0]
    expected = np.array([20.0, 21.0, 22.0])
    assert spread[["ranks", "mean", "sd", "minimum", "maximum"]].tolist() == [3, 21.0, expected.std(ddof=1), 20.0, 22.0]
    own = run.ranks.spread(["own", "none"]).set_index("quantity")
    assert own["ranks"].to_dict() == {"none": 0, "own": 2}
    assert own[["mean", "sd", "minimum", "maximum"]].isna().all(axis=None)
    with pytest.raises(NotRecordedError, match="has no scalar 'los'; did you mean 'loss'"):
        run.ranks.spread("los")


def test_ranks_of_one_run_are_no_replicates(tmp_path):
    session(tmp_path / "run", W, [1])
    run = load(tmp_path / "run")
    with pytest.warns(DropdiagWarning, match="rank-1 is a rank of .*run: they are counted once") as warned:
        assert [one.rank for one in load({"A": [run, run.ranks[1]]})] == [None]
    assert len(warned) == 1
    with pytest.warns(DropdiagWarning) as warned:
        assert [one.rank for one in load([*run.ranks])] == [0]
    path = tmp_path / "run"
    assert [str(one.message) for one in warned] == [
        f"{path / name} is a rank of one run with {path / 'rank-0'}: they are counted once."
        for name in ("rank-1", "rank-2")
    ]


def test_copies_of_a_run_of_several_ranks_count_once(tmp_path):
    write(tmp_path / "a", [[scalar(1, "loss", float(rank), layer=None)] for rank in range(W)])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.warns(DropdiagWarning, match="b is a copy of .*a .they have one identifier.: they are counted once"):
        assert len(load([tmp_path / "a", tmp_path / "b"])) == 1
    for file in tmp_path.rglob("*.json"):  # as of runs that began before there was an identifier
        told = json.loads(file.read_text())
        del told["id"]
        told["ranks"]["training"] = None
        write_meta(file, told)
    with pytest.warns(DropdiagWarning, match="their files are the same, byte by byte"):
        assert len(load([tmp_path / "a", tmp_path / "b"])) == 1
    other = next((tmp_path / "b" / "rank-2").glob("scalars*"))
    content = bytearray(other.read_bytes())
    content[20] ^= 1
    other.write_bytes(bytes(content))
    assert len(load([tmp_path / "a", tmp_path / "b"])) == 2
