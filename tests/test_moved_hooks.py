"""Torch moves hooks without asking how they were registered: ours do no harm wherever they end."""

import copy

import pytest
import torch
from torch import nn
from torch.ao.quantization import fuse_modules, fuse_modules_qat

import dropdiag as dd
from dropdiag.model.hook_base import DropdiagHook
from dropdiag.recording.hooks import NESTED, _NetValue

pytestmark = pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3), nn.ReLU())


def fused(model, fuse):
    return fuse(model, [["0", "1", "2"], ["4", "5"]], inplace=True)


def ours(model):
    tables = [table for m in model.modules() for table in (m._forward_pre_hooks, m._forward_hooks)]
    return [hook for table in tables for hook in table.values() if isinstance(hook, DropdiagHook)]


@pytest.mark.parametrize(("fuse", "training"), [(fuse_modules_qat, True), (fuse_modules, False)])
@pytest.mark.filterwarnings("ignore::dropdiag.errors.DropdiagWarning")
def test_a_model_whose_hooks_were_moved_by_fusing_runs_as_without_them(tmp_path, fuse, training):
    x = torch.randn(4, 1, 8, 8)
    bare, model = network().train(training), network().train(training)
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    fused(bare, fuse)
    fused(model, fuse)
    assert torch.equal(model(x), bare(x))
    assert torch.equal(model(x), bare(x))
    rec.step()
    rec.close()
    router = copy.copy(rec._session.router.__dict__)
    passes = rec._session.router.passes.copy()
    assert torch.equal(model(x), bare(x))
    assert rec._session.router.__dict__ == router
    assert rec._session.router.passes == passes


@pytest.mark.filterwarnings("ignore::dropdiag.errors.DropdiagWarning")
def test_a_model_with_hooks_left_behind_can_be_recorded_anew(tmp_path):
    model = network()
    rec = dd.Recorder(model, tmp_path / "first", every=1)
    fused(model, fuse_modules_qat)
    rec.close()
    assert ours(model)
    assert all(hook.closed for hook in ours(model))
    with dd.Recorder(model, tmp_path / "second", every=1) as rec:
        model(torch.randn(4, 1, 8, 8)).sum().backward()
        rec.step()
    assert len(dd.load(tmp_path / "second").scalars)


def test_every_hook_takes_any_arguments_and_gives_nothing(tmp_path):
    model = network()
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full") as rec:
        hooks = ours(model)
        model(torch.randn(4, 1, 8, 8)).sum().backward()
        for hook in hooks:
            assert [hook(*(None,) * n) for n in range(7) if n != hook.n_args] == [None] * 6
        rec.step()
    assert [hook(*(None,) * n) for hook in hooks for n in range(7)] == [None] * 7 * len(hooks)


@pytest.mark.filterwarnings("ignore::dropdiag.errors.DropdiagWarning")
def test_calls_whose_end_is_never_told_do_not_pile_up(tmp_path):
    model = network()
    with dd.Recorder(model, tmp_path / "run", every=1):
        (begins, *_) = [hook for hook in ours(model[5]) if isinstance(hook, _NetValue)]
        model[5]._forward_hooks.clear()
        for _ in range(2 * NESTED):
            model(torch.randn(2, 1, 8, 8))
        assert len(begins.pending) == NESTED
