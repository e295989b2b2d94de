"""Hooks of others that replace what enters an activation or what leaves it: what the function saw is recorded."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as every_module

import dropdiag as dd

pytestmark = pytest.mark.usefixtures("fresh_compiler")


class Sees(nn.Tanh):
    """Keeps what its function is given and gives."""

    def forward(self, z):
        h = super().forward(z)
        z.retain_grad()
        self.seen = z, h
        return h


def network(activation=Sees):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2))


def shifted(*args):
    """Replace the tensor that a pre-hook or forward hook is given last."""
    value = args[-1] if isinstance(args[-1], torch.Tensor) else args[-1][0]
    return value * 0.5 + 3


def assert_seen(run, step, module):
    z, h = (tensor.detach().numpy() for tensor in module.seen)
    assert run.histogram("net_value", "1", step, "train") == dd.Histogram.from_values(z)
    assert run.histogram("node_value", "1", step, "train") == dd.Histogram.from_values(h)
    flow = run.scalars.query("quantity == 'net_grad_abs_mean' and step == @step")["value"].item()
    np.testing.assert_allclose(flow, module.seen[0].grad.double().abs().mean().item(), rtol=1e-6)


def trained(rec, model, parts=False):
    x = torch.randn(5, 3)
    out = model[2](model[1](model[0](x))) if parts else model(x)
    out.square().sum().backward()
    rec.step()


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("at", ["before", "later"])
@pytest.mark.filterwarnings("ignore:parts of the model were called")
@pytest.mark.parametrize("parts", [False, True])
def test_what_the_function_is_given_and_gives_is_recorded_whoever_replaces_it(tmp_path, prepend, at, parts):
    model = network()

    def register():
        model[1].register_forward_pre_hook(shifted, prepend=prepend)
        model[1].register_forward_hook(shifted, prepend=prepend)

    if at == "before":
        register()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        trained(rec, model, parts)
        if at == "later":
            register()
        seen = model[1].seen
        for _ in range(2):
            trained(rec, model, parts)
    assert seen[0].mean().abs() < 3
    run = dd.load(tmp_path / "run")
    assert_seen(run, 3, model[1])
    assert run.histogram("net_value", "1", 2, "train").n == 20


def test_the_first_pass_under_a_new_hook_is_right_already(tmp_path):
    model = network()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        model[1].register_forward_pre_hook(shifted)
        trained(rec, model)
    assert_seen(dd.load(tmp_path / "run"), 1, model[1])


@pytest.mark.filterwarnings("ignore:parts of the model were called")
def test_a_hook_that_always_moves_itself_to_the_end_is_followed(tmp_path):
    model = network()

    class Last:
        def __call__(self, module, args):
            module._forward_pre_hooks.move_to_end(self.number)
            return shifted(args)

    last = Last()
    last.number = model[1].register_forward_pre_hook(last).id
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        for parts in (False, True, True):
            trained(rec, model, parts)
    assert_seen(dd.load(tmp_path / "run"), 3, model[1])


def test_hooks_on_every_module_run_before_ours(tmp_path):
    model = network()
    handles = [
        every_module.register_module_forward_pre_hook(lambda m, args: shifted(args) if m is model[1] else None),
        every_module.register_module_forward_hook(lambda m, args, out: None),
    ]
    try:
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
            trained(rec, model)
    finally:
        for handle in handles:
            handle.remove()
    assert_seen(dd.load(tmp_path / "run"), 1, model[1])


def test_an_activation_that_works_in_place_is_right_from_the_models_next_pass_on(tmp_path):
    model, given = network(lambda: nn.ReLU(inplace=True)), []
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        model[1].register_forward_pre_hook(lambda module, args: given.append(z := args[0] * 2 - 0.1) or (z,))
        model[1].register_forward_pre_hook(lambda module, args: given.append(args[0].detach().clone()))
        trained(rec, model)
    z = given[1].numpy()
    assert dd.load(tmp_path / "run").histogram("net_value", "1", 1, "train") == dd.Histogram.from_values(z)


def test_the_model_may_be_an_activation_itself(tmp_path):
    model = Sees()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        model.register_forward_pre_hook(shifted)
        model(torch.randn(5, 4).requires_grad_()).sum().backward()
        rec.step()
    z = model.seen[0].detach().numpy()
    assert dd.load(tmp_path / "run").histogram("net_value", "(model)", 1, "train") == dd.Histogram.from_values(z)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore::dropdiag.errors.DropdiagWarning")
def test_a_hook_that_comes_later_is_followed_in_a_compiled_graph(tmp_path):
    model, x = network(nn.Tanh), torch.randn(5, 3)
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        model[1].register_forward_pre_hook(shifted)
        torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
        rec.step()
    z = shifted(model[0](x)).detach().numpy()
    found = dd.load(tmp_path / "run").histogram("net_value", "1", 1, "train")
    assert found == dd.Histogram.from_values(z)
