"""Ranks of one training know that they are: each has a run, and together they count once."""

import multiprocessing
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.recording.process_group import agreed, rank_of_training


def record(path, seed):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    with dd.Recorder(model, path, config={"condition": "DDP", "seed": seed}) as recorder:
        model(torch.randn(4, 3)).sum().backward()
        recorder.step()


def test_ranks_agree_in_whatever_order_they_ask():
    store = dist.HashStore()
    first = [agreed(store, rank) for rank in (2, 0, 1)]
    second = [agreed(store, rank) for rank in (0, 1, 2)]
    assert len({*first}) == len({*second}) == 1
    assert first[0] != second[0]


def test_a_process_alone_is_a_rank_of_nothing(tmp_path):
    assert rank_of_training() is None
    record(tmp_path / "alone", 0)
    assert dd.load(tmp_path / "alone").meta["ranks"] is None


def test_a_store_that_cannot_be_asked_is_told_as_not_known(monkeypatch):
    def gone():
        raise RuntimeError("Connection reset by peer")

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", gone)
    assert rank_of_training() == {"rank": 1, "world_size": 2, "training": None}


def train(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for number in range(2):
        record(f"{folder}/run-{number}-rank-{rank}", seed=10 * number + rank)
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="gloo's file store")
def test_two_processes_record_one_replicate_a_training(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=train, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with pytest.warns(DropdiagWarning, match=r"are ranks 1 and 0 of one training: they are counted once") as caught:
        runs = dd.load([str(tmp_path / "run-*")])
    assert [run.name for run in runs] == ["run-0-rank-0", "run-1-rank-0"]
    assert len(caught) == 2
