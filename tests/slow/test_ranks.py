"""The large matrix of ways to spread a model, and how far a training's numbers are apart on other numbers of ranks."""

from __future__ import annotations

import warnings

import pytest

import dropdiag as dd
from tests.recording.ranks.checks import Numbers, check, check_no_effect, check_passes
from tests.recording.ranks.launch import torchrun
from tests.recording.ranks.trainings import TRAININGS
from tests.recording.ranks.worlds import WORLDS, apart, bare_flow, recorded_flow

JOB = "tests.recording.ranks.job"
TWO = (
    "ddp_compiled", "fsdp_transformer", "fsdp_checkpointed", "ddp_inside_reentrant", "fsdp_compiled", "fsdp_first_original",
    "tensor_compiled", "tensor_autocast",
)  # fmt: skip
FOUR = "ddp", "ddp_cnn", "ddp_transformer", "ddp_uneven", "ddp_accumulated", "fsdp", "fsdp_accumulated", "fsdp_mixed"
TEN = "ten_plain", "ten_accumulated", "ten_autocast", "ten_compiled", "ten_cnn", "ten_transformer"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("world", "names"), [(2, TWO), (4, FOUR)], ids=["two", "four"])
def test_the_matrix(tmp_path, world, names):
    torchrun(world, JOB, tmp_path, *names)
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check(dd.load(tmp_path / name), tmp_path, name, world)


def test_a_divisor_that_no_rank_knows_leaves_the_flow_missing(tmp_path):
    name = "ddp_joined_by_rest"
    torchrun(2, JOB, tmp_path, name)
    check_no_effect(tmp_path, name, 2)
    run = dd.load(tmp_path / name)
    numbers = Numbers(run)
    assert run.select("net_grad_abs_mean")["value"].isna().all()
    assert numbers.scalar("weight_grad_abs_mean", "fc1", 1) > 0
    assert any("join(divide_by_initial_world_size=False)" in sentence for sentence in run.meta["warnings"])


def test_a_reentrant_checkpoint_hides_gradients_before_clipping_and_says_so(tmp_path):
    name = "fsdp_reentrant"
    torchrun(2, JOB, tmp_path, name)
    check_no_effect(tmp_path, name, 2)
    run = dd.load(tmp_path / name)
    check_passes(run, tmp_path, name, 2)
    assert set(run.select("raw_weight_grad_abs_mean")["layer"]) == {"fc2", "out"}
    said = {row.layer: row.sampled for row in run.coverage() if row.kind == "weight"}
    assert "gradient before clipping not seen" in said["fc1"]
    assert "not seen" not in said["fc2"]


def test_ten_steps_are_as_far_apart_as_they_are_without_a_recorder(tmp_path):
    for world in WORLDS:
        (tmp_path / str(world)).mkdir()
        torchrun(world, JOB, tmp_path / str(world), *TEN)
    for name in TEN:
        one, shown = tmp_path / "1", []
        for world in WORLDS[1:]:
            other = tmp_path / str(world)
            bare = apart(bare_flow(one, name, 1), bare_flow(other, name, world))
            found = apart(recorded_flow(one, name), recorded_flow(other, name))
            shown.append(f"{name}, {world} ranks: {bare:.1e} without, {found:.1e} recorded")
            assert found <= 3 * bare + 1e-6, shown
            assert len(recorded_flow(other, name)) == len(bare_flow(other, name, world)) > TRAININGS[name].n_steps
        print("\n".join(shown))  # noqa: T201 - with -s, what docs/distributed.md states
