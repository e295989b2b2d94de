"""Which backward passes count: mean |dL/dz| against gradients that a twin without dropdiag keeps by itself."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import DropdiagWarning


def network(width=2, activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 1))


class Twin:
    """Keeps dL/dz by hand: the gradient of a zero that is added to z, in `.grad`, which only `backward()` fills."""

    def __init__(self, model):
        self.zeros = {}
        for name, module in model.named_modules():
            if isinstance(module, (nn.Tanh, nn.ReLU)):
                module.register_forward_pre_hook(self.adds(name))

    def adds(self, name):
        def add(module, args):
            zero = torch.zeros_like(args[0]).requires_grad_() if torch.is_grad_enabled() else None
            if zero is None:
                return None
            self.zeros.setdefault(name, []).append(zero)
            return (args[0] + zero,)

        return add

    def flow(self):
        """Return mean |dL/dz| by layer, over the forward passes that a backward pass reached."""
        found = {}
        for name, zeros in self.zeros.items():
            grads = [zero.grad.double().abs().flatten() for zero in zeros if zero.grad is not None]
            found[name] = torch.cat(grads).mean().item() if grads else None
        self.zeros.clear()
        return found


def trained_twice(tmp_path, train, build=network, steps=2, **options):
    """Return the flow of each step as recorded and as the twin has it, and the warnings."""
    model = build()
    twin = copy.deepcopy(model)
    keeps, expected = Twin(twin), []
    for step in range(steps):
        torch.manual_seed(step)
        train(twin)
        expected.append(keeps.flow())
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True, **options) as rec:
        for step in range(steps):
            torch.manual_seed(step)
            train(model)
            rec.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    run = dd.load(tmp_path / "run")
    flow = run.scalars.query("quantity == 'net_grad_abs_mean'").pivot_table(
        index="step", columns="layer", values="value", aggfunc=list, dropna=False
    )
    return run, flow, expected


def assert_same(flow, expected):
    for (_, row), by_layer in zip(flow.iterrows(), expected, strict=True):
        assert set(by_layer) == set(row.index)
        for layer, value in by_layer.items():
            np.testing.assert_allclose(row[layer], [value], rtol=1e-5, err_msg=layer)


def update(model):
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
                p.grad = None


def physics_informed(model):
    """u'' + u = 0: two derivatives by autograd.grad, whose passes go through the activations like the loss's."""
    x = torch.linspace(-1, 1, 7).repeat(2, 1).T.clone().requires_grad_()
    u = model(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    ((ddu[:, :1] + u) ** 2).mean().backward()
    update(model)


def gradient_penalty(model):
    """WGAN-GP: real and fake, and a penalty on the gradient between them, in one loss."""
    real, fake = torch.randn(6, 2), torch.randn(6, 2)
    between = (real + torch.rand(6, 1) * (fake - real)).requires_grad_()
    (slope,) = torch.autograd.grad(model(between).sum(), between, create_graph=True)
    penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
    (model(fake).mean() - model(real).mean() + 10 * penalty).backward()
    update(model)


def attacked(model):
    """PGD: three steps of an attack by autograd.grad, then the loss of what it found."""
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    found = x.clone()
    for _ in range(3):
        found = found.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.mse_loss(model(found), y), found)
        found = found + 0.1 * slope.sign()
    F.mse_loss(model(found.detach()), y).backward()
    update(model)


def attacked_by_backward(model):
    """The same, by backward(inputs=): it adds to the input's gradient and to no parameter's."""
    x, y = torch.randn(6, 2).requires_grad_(), torch.randn(6, 1)
    F.mse_loss(model(x), y).backward(inputs=[x])
    F.mse_loss(model((x + 0.1 * x.grad.sign()).detach()), y).backward()
    update(model)


def learning_to_learn(model):
    """MAML: two inner steps on fast weights, and the outer loss through them."""
    fast = dict(model.named_parameters())
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    for _ in range(2):
        loss = F.mse_loss(torch.func.functional_call(model, fast, x), y)
        slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
        fast = {name: w - 0.1 * g for (name, w), g in zip(fast.items(), slopes, strict=True)}
    F.mse_loss(torch.func.functional_call(model, fast, x + 1), y).backward()
    update(model)


def curvature(model):
    """AdaHessian: the outer pass has create_graph, a Hessian product comes by autograd.grad after it."""
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    F.mse_loss(model(x), y).backward(create_graph=True)
    grads = [p.grad for p in model.parameters()]
    signs = [torch.randint_like(g, 2) * 2 - 1 for g in grads]
    torch.autograd.grad(grads, list(model.parameters()), grad_outputs=signs)
    for p in model.parameters():
        p.grad = p.grad.detach()
    update(model)


def accumulated(model):
    """Two losses with a forward pass each, as gradient accumulation has."""
    for _ in range(2):
        F.mse_loss(model(torch.randn(6, 2)), torch.randn(6, 1)).backward()
    update(model)


def one_parameter_alone(model):
    x = torch.randn(6, 2)
    model(x).square().mean().backward(inputs=[model[0].bias])
    update(model)


def retained(model):
    """The graph is kept and never used again."""
    model(torch.randn(6, 2)).square().mean().backward(retain_graph=True)
    update(model)


@pytest.mark.parametrize(
    "train",
    [
        physics_informed, gradient_penalty, attacked, attacked_by_backward, curvature, accumulated,
        one_parameter_alone, retained,
    ],
)  # fmt: skip
def test_the_gradient_of_the_loss_is_recorded_and_no_other(tmp_path, train):
    run, flow, expected = trained_twice(tmp_path, train)
    assert_same(flow, expected)
    assert not run.meta["warnings"]


def test_the_inner_passes_of_maml_have_the_outer_losss_gradient(tmp_path):
    class Wide(Twin):
        pass

    run, flow, expected = trained_twice(tmp_path, learning_to_learn)
    assert_same(flow, expected)
    assert not run.meta["warnings"]
