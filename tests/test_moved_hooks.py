"""Torch moves hooks without asking how they were registered: ours do no harm wherever they end."""

import copy

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import fuse_modules, fuse_modules_qat
from torch.nn.utils.fusion import fuse_conv_bn_eval

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


def prepared_for_training(model):
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(fused(model.train(), fuse_modules_qat), inplace=True)


def converted(model):
    wrapped = quantization.QuantWrapper(model.eval())
    wrapped.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(wrapped, inplace=True)(torch.ones(4, 1, 8, 8))
    return quantization.convert(wrapped)


def quantized_dynamically(model):
    return quantization.quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)


def fused_by_hand(model):
    model.eval()
    model[0], model[1] = fuse_conv_bn_eval(model[0], model[1]), nn.Identity()
    return model


def copied_with_its_children(model):
    copied = copy.copy(model)
    copied._modules = {name: copy.copy(child) for name, child in model._modules.items()}
    return copied


def with_tables_given_on(model):
    new = nn.ReLU()  # without the tables that say how the hooks were registered
    new._forward_pre_hooks, new._forward_hooks = model[2]._forward_pre_hooks, model[2]._forward_hooks
    model[2] = new
    return model


def with_hooks_given_on(model):
    for hook in list(model[2]._forward_hooks.values()):
        model[0].register_forward_hook(hook)
        model[4].register_forward_hook(hook, with_kwargs=True)
    for hook in list(model[2]._forward_pre_hooks.values()):
        model[0].register_forward_pre_hook(hook)
        model[5].register_forward_pre_hook(hook, with_kwargs=True)
    return model


def converted_by(setting):
    def convert(model):
        setting(True)
        try:
            return model.double().float()
        finally:
            setting(False)

    return convert


def emptied(model):
    state = copy.deepcopy(model.state_dict())
    model.to_empty(device="cpu").load_state_dict(state)
    return model


MOVES = [
    prepared_for_training, converted, quantized_dynamically, fused_by_hand, copied_with_its_children,
    with_tables_given_on, with_hooks_given_on, emptied, copy.copy, copy.deepcopy, torch.fx.symbolic_trace,
    converted_by(torch.__future__.set_swap_module_params_on_conversion),
    converted_by(torch.__future__.set_overwrite_module_params_on_conversion),
    lambda model: model.share_memory(),
    lambda model: model.apply(lambda module: module.requires_grad_(True)),
]  # fmt: skip


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.filterwarnings("ignore::dropdiag.errors.DropdiagWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_hooks_do_no_harm_wherever_they_are_moved(tmp_path, move):
    x = torch.randn(4, 1, 8, 8)
    bare, model = network(), network()
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full") as rec:
        moved, expected = move(model), move(bare)
        for _ in range(2):
            run(moved, expected, x)
            rec.step()
    router = rec._session.router
    passes, following = router.passes.copy(), dict(router._next)
    run(moved, expected, x)
    assert (router.passes, dict(router._next)) == (passes, following)


def run(model, expected, x):
    ours, theirs = model(x), expected(x)
    assert torch.equal(ours, theirs)
    if theirs.requires_grad:
        for output, network in ((ours, model), (theirs, expected)):
            network.zero_grad()
            output.sum().backward()
        gradients = zip(model.parameters(), expected.parameters(), strict=True)
        assert all(a.grad is b.grad is None or torch.equal(a.grad, b.grad) for a, b in gradients)


def test_the_gradient_of_a_weight_whose_contents_were_swapped_is_recorded(tmp_path):
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh())
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full", strict=True) as rec:
        converted_by(torch.__future__.set_swap_module_params_on_conversion)(model)
        model(torch.randn(5, 6)).sum().backward()
        rec.step()
    raw = dd.load(tmp_path / "run").scalars.query("quantity == 'raw_weight_grad_abs_mean'")["value"]
    assert raw.tolist() == [pytest.approx(float(model[0].weight.grad.abs().mean()))]
