"""What a rank counts of a tensor that is spread over ranks, and what gradients are divided by."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.recording.parts import PARTIAL, is_spread, part_of
from dropdiag.recording.ranks.averaging import check_averaged_over
from dropdiag.recording.ranks.pipeline import PipelinePass

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch is built without torch.distributed"
)


def test_a_part_is_told_from_the_whole_by_its_placement(mesh):
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    local = torch.arange(6.0).view(2, 3)
    shard, replica, partial = (DTensor.from_local(local, mesh, [p]) for p in (Shard(0), Replicate(), Partial()))
    assert all(map(is_spread, (shard, replica, partial)))
    assert not is_spread(local)
    assert part_of(shard).tensor.data_ptr() == local.data_ptr()
    assert part_of(shard).sharded
    assert not part_of(replica).sharded
    assert part_of(partial) == (None, False, PARTIAL)


def test_terms_of_sums_are_never_passed_off_as_values(tmp_path, mesh):
    from torch.distributed.tensor import DTensor, Partial

    model = nn.Sequential(nn.Identity(), nn.Tanh(), nn.Linear(3, 2))
    model[2].requires_grad_(False)

    def to_local(module, args, output):
        return output.full_tensor() if isinstance(output, DTensor) else output

    model[1].register_forward_hook(to_local)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.Recorder(model, tmp_path / "run", every=1) as recorder:
            model(DTensor.from_local(torch.randn(4, 3), mesh, [Partial()]))
            recorder.step()
    assert any("Partial" in str(warning.message) for warning in caught)
    run = dd.load(tmp_path / "run")
    assert run.phases("net_value") == []
    assert any("Partial" in (row.skipped or "") for row in run.coverage() if row.layer == "1")


@pytest.mark.parametrize("wrong", [0, -2, True, "2", float("nan"), float("inf")])
def test_a_number_of_ranks_that_is_none_is_refused(wrong):
    with pytest.raises(ArgumentError, match="averaged_over= takes the number of ranks"):
        check_averaged_over(wrong)


def test_flow_is_divided_by_the_ranks_that_the_user_names(tmp_path):
    torch.manual_seed(0)
    x, flows = torch.randn(8, 3), []
    for over in (None, 1, 4):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        with dd.Recorder(model, tmp_path / f"run-{over}", averaged_over=over) as recorder:
            model(x).square().mean().backward()
            recorder.step()
        flows.append(dd.load(tmp_path / f"run-{over}").select("net_grad_abs_mean")["value"].item())
    assert flows[0] == flows[1] == pytest.approx(4 * flows[2], rel=1e-7)


def test_outside_of_a_pipeline_no_pass_is_of_one():
    assert PipelinePass.running() is None


def test_a_process_that_does_not_know_the_other_ranks_yet_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
    with pytest.warns(DropdiagWarning, match="Open the Recorder after init_process_group"):
        dd.Recorder(model, tmp_path / "run").close()
    with pytest.raises(RunError, match="holds a run already.*rank 1 of 2.*after init_process_group"):
        dd.Recorder(model, tmp_path / "run")
