"""How runs of several ranks begin, go on and end: real processes, one of which is killed."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.recording.ranks.launch import ranks, torchrun
from tests.recording.ranks.saved import binned, flow, load, passes

LIVES, TRAINERS = "tests.recording.ranks.lives", "tests.recording.ranks.trainers"

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
    pytest.mark.skipif(sys.platform != "linux", reason="gloo's processes are started as on Linux"),
]


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """The folder of two ranks that opened one Recorder after the other, and what each was told."""
    folder = tmp_path_factory.mktemp("together")
    for said, code in ranks(2, LIVES, folder, "together"):
        assert code == 0, said
    return folder, [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2)]


def test_ranks_that_give_one_path_record_one_run(lived):
    folder, told = lived
    assert told[0]["auto"] == told[1]["auto"] == ["dropout-s3", "dropout-s3-2"]
    for name in told[0]["auto"]:
        run = dd.load(folder / "auto" / name)
        assert [rank.meta["ranks"]["rank"] for rank in run.ranks] == [0, 1]
        assert run.meta["steps"] == 2
        flow_of = run.select("net_grad_abs_mean")
        apart = [rank.select("net_grad_abs_mean")["value"].to_numpy() for rank in run.ranks]
        # both ranks have five samples a step: the mean of all is the mean of both
        assert flow_of["value"].to_numpy() == pytest.approx((apart[0] + apart[1]) / 2, rel=1e-12)
        assert run.ranks.spread("loss")["ranks"].tolist() == [2, 2]


def test_ranks_that_give_other_paths_record_runs_of_their_own_that_count_once(lived):
    folder, _ = lived
    with pytest.warns(DropdiagWarning, match="1 of 2 ranks"):
        first = dd.load(folder / "own-0")
        first.select()
    second = dd.load(folder / "own-1")
    assert first.meta["ranks"]["training"] == second.meta["ranks"]["training"] is not None
    assert any("give all ranks one path" in w for w in second.meta["warnings"])


def test_a_run_that_rank_0_opened_by_itself_before_keeps_nobody_from_the_next(lived):
    folder, _ = lived
    assert len(dd.load(folder / "after").ranks) == 2
    assert len(list((folder / "by-itself").glob("rank-*"))) == 1


def test_rank_zero_alone_records_where_that_is_asked_for(lived):
    folder, told = lived
    assert told[0]["zero"] == [3, 5]
    assert told[1]["zero"] == [3, 0]
    run = dd.load(folder / "zero")  # warns of nobody
    assert len(run.ranks) == 1
    assert run.select("accuracy")["value"].tolist() == [0.5]
    assert sorted(path.name for path in (folder / "zero").iterdir()) == ["rank-0", "run.json"]


def test_errors_say_what_to_do_on_each_rank(lived):
    _, told = lived
    for one in told:
        assert "is closed" in one["closed"]
        assert "budget= is for one process" in one["budget"]
        assert 'ranks= takes "all"' in one["ranks"]
        assert "holds a run already" in one["taken"]
    assert told[0]["shared"] == "no error"
    assert "holds a run already" in told[1]["shared"]
    assert "a path that no other rank has" in told[1]["shared"]
    assert told[1]["taken"].startswith("RunError: rank 0 could not open the run, so rank 1 does not either")
    assert "waited 1 s for rank 0 to open a Recorder" in told[1]["alone"]


def test_data_that_all_ranks_evaluate_counts_once(lived):
    folder, _ = lived
    for name, of in (("same", 1), ("parts", 2)):
        run = dd.load(folder / name)
        assert run.histogram("net_value", "1", phase="test").n == of * 12 * 6
        numbers = run.select(["node_correlation_samples", "node_correlation_items", "constant_nodes"], phase="test")
        assert numbers["value"].tolist() == [of * 12, of * 12, 0]
        assert "evaluation_digest" not in set(run.select()["quantity"])
        assert "evaluation_digest" in set(run.ranks[1].select()["quantity"])


def test_what_a_sampler_repeats_and_what_is_averaged_by_nothing_known_is_told(lived):
    folder, told = lived
    for one in told:
        assert any("gives 1 of 7 items to two ranks" in sentence for sentence in one["repeated"])
    repeated = dd.load(folder / "repeated")
    assert repeated.select("repeated_items", phase="test")["value"].tolist() == [1.0]
    silent = dd.load(folder / "silent")
    assert any("averaged_over=2" in sentence for sentence in silent.meta["warnings"])


def test_a_rank_that_is_killed_takes_nobody_along_and_fewer_ranks_go_on(tmp_path):
    ends = ranks(3, LIVES, tmp_path, "killed")
    assert [code for _, code in ends] == [0, 0, -9], ends
    run = dd.load(tmp_path / "run")
    with pytest.warns(DropdiagWarning, match="2 of 3 ranks: rank 2"):
        losses, spread = run.select("loss"), run.ranks.spread("loss")
    assert losses["step"].tolist() == [1, 2, 3, 4, 5]
    assert spread["ranks"].tolist() == [3, 3, 3, 2, 2]
    assert "rank 2 recorded up to step 3 of 5" in repr(run.ranks)
    with pytest.warns(DropdiagWarning, match="2 of 3 ranks"):
        before = run.histogram("net_value", "1", step=2, phase="train")
    assert before.n == 3 * 5 * 6

    assert [code for _, code in ranks(2, LIVES, tmp_path, "resumed")] == [0, 0]
    again = dd.load(tmp_path / "run")
    spread = again.ranks.spread("loss")
    assert spread["step"].tolist() == [1, 2, 3, 4]
    assert spread["ranks"].tolist() == [3, 3, 2, 2]  # each session with the ranks that it had
    assert again.histogram("net_value", "1", step=2, phase="train") == before
    assert again.histogram("net_value", "1", step=3, phase="train").n == 2 * 5 * 6


def test_accelerate_and_lightning_spread_the_model_themselves(tmp_path):
    pytest.importorskip("accelerate")
    pytest.importorskip("lightning_utilities")
    torchrun(2, TRAINERS, tmp_path, "accelerate", "lightning")
    for name in ("accelerate", "lightning"):
        run = dd.load(tmp_path / name)
        assert run.meta["warnings"] == []
        saved = load(tmp_path, name, "bare", 2)
        flows = run.select("net_grad_abs_mean").set_index(["step", "layer"])["value"]
        for step in range(3):
            for layer, rows in passes(saved, step).items():
                histogram = run.histogram("net_value", layer, step + 1, "train")
                counts = dict(zip(histogram.bins.tolist(), histogram.counts.tolist(), strict=True))
                assert counts == binned(z for z, _ in rows)
                assert flows[step + 1, layer] == pytest.approx(flow(rows, 2), rel=1e-6)


def test_sinks_are_sent_rank_zeros_own_share_and_that_is_said(tmp_path):
    for said, code in ranks(2, LIVES, tmp_path, "sent"):
        assert code == 0, said
    first, second = (json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2))
    for recorded in ("all", "zero"):
        assert second[recorded] == {"calls": [], "losses": {}, "ranks": None, "said": []}
        own = first[recorded]
        assert (own["calls"], own["ranks"]) == (["open", "completed"], 2)
        (said,) = own["said"]
        assert said.startswith("sinks are sent what rank 0 of 2 has seen itself")
        assert any(one.endswith(said) for one in dd.load(tmp_path / recorded).meta["warnings"])
    rows = dd.load(tmp_path / "all").ranks[0].select("loss")
    assert first["all"]["losses"] == {str(step): value for step, value in zip(rows["step"], rows["value"], strict=True)}
