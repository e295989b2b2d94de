"""Several ranks record one run: real processes, and numbers counted from what each of them saved."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

import dropdiag as dd
from tests.recording.ranks.checks import (
    check,
    check_correlation,
    check_dead_nodes,
    check_no_effect,
    check_weights,
)
from tests.recording.ranks.launch import torchrun
from tests.recording.ranks.worlds import COMPARED, WORLDS, apart, recorded

JOB = "tests.recording.ranks.job"

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
    pytest.mark.skipif(sys.platform != "linux", reason="gloo's processes are started as on Linux"),
]


def checked(tmp_path, world, *names, also=()):
    """Train in real processes, and check all that was recorded; ``also``: trainings that are checked otherwise."""
    torchrun(world, JOB, tmp_path, *names, *also)
    _check(tmp_path, world, names)


def _check(tmp_path, world, names):
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = dd.load(tmp_path / name)
            assert len(run.ranks) == world
            check(run, tmp_path, name, world)


def test_data_parallel_ranks_record_what_one_process_would(tmp_path):
    checked(
        tmp_path, 2, "ddp", "ddp_cnn", "ddp_transformer", "ddp_uneven", "ddp_accumulated", "ddp_hook", "ddp_static",
        "ddp_autocast", "ddp_joined", "ddp_checkpointed", "ddp_reentrant", "by_hand", "ddp_late", "ddp_parts", "ddp_branched",
    )  # fmt: skip
    check_correlation(dd.load(tmp_path / "ddp_uneven"), tmp_path, "ddp_uneven", 2)
    check_dead_nodes(dd.load(tmp_path / "ddp_uneven"), tmp_path, "ddp_uneven", 2)


def test_sharded_ranks_record_each_what_it_holds(tmp_path):
    checked(
        tmp_path, 2, "fsdp", "fsdp_accumulated", "fsdp_mixed", "fsdp_offloaded", "fsdp_first", "fsdp_late",
        "fsdp_layers", "tensor", "tensor_spread", "tensor_late", "pipeline", "pipeline_of_two",
        also=("fsdp_alone", "fsdp_few"),
    )  # fmt: skip
    check_correlation(dd.load(tmp_path / "fsdp"), tmp_path, "fsdp", 2)
    for name in ("fsdp", "tensor", "pipeline"):
        check_dead_nodes(dd.load(tmp_path / name), tmp_path, name, 2)
    _check_pairs(dd.load(tmp_path / "tensor"))
    _check_one_alone(tmp_path)
    check_no_effect(tmp_path, "fsdp_few", 2)
    check_weights(dd.load(tmp_path / "fsdp_few"), tmp_path, "fsdp_few", 2)


def _check_pairs(run):
    """Of layers whose nodes ranks share, coverage says which pairs are correlated."""
    said = {row.layer: row.sampled for row in run.coverage()}
    assert said["act1"] == "correlations of pairs within a rank, 47% of all pairs"  # 2 * 28 of 120
    assert said["act2"] is None
    assert said["fc1"] == "a part of it on each rank"


def _check_one_alone(folder):
    """One rank alone can record all that there is, and nobody waits for it."""
    check_no_effect(folder, "fsdp_alone", 2)
    with pytest.warns(dd.DropdiagWarning, match="1 of 2 ranks"):
        weights = dd.load(folder / "fsdp_alone").histogram("weight", "fc1")
    assert weights.n == 16 * 12 // 2  # what this rank holds, and no more


def test_one_step_gives_the_same_numbers_on_one_two_and_four_ranks(tmp_path):
    names, of_four = ("ddp", "ddp_cnn", "ddp_transformer"), ("tensor_and_data", "fsdp_hybrid")
    for world in WORLDS:
        (tmp_path / str(world)).mkdir()
        torchrun(world, JOB, tmp_path / str(world), *names, *(of_four if world == 4 else ()))
    _check(tmp_path / "4", 4, of_four)
    for name in names:
        alone = recorded(tmp_path / "1", name, [1])
        assert set(COMPARED) <= set(alone.index.get_level_values("quantity"))
        for world in WORLDS[1:]:
            shared = recorded(tmp_path / str(world), name, [1])
            assert list(shared.index) == list(alone.index)
            assert apart(alone, shared) < 1e-9, name
