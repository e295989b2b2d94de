"""Which backward passes count: mean |dL/dz| against gradients that a twin without dropdiag keeps by itself."""

import copy
import warnings
from contextlib import nullcontext

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
        self.zeros, self.model = {}, model
        model.zeros = []
        for name, module in model.named_modules():
            if isinstance(module, (nn.Tanh, nn.ReLU)):
                module.register_forward_pre_hook(self.adds(name))

    def adds(self, name):
        def add(module, args):
            zero = torch.zeros_like(args[0]).requires_grad_() if torch.is_grad_enabled() else None
            if zero is None:
                return None
            self.zeros.setdefault(name, []).append(zero)
            self.model.zeros.append(zero)
            return (args[0] + zero,)

        return add

    def flow(self):
        """Return mean |dL/dz| by layer, over the forward passes that a backward pass reached."""
        found = {}
        for name, zeros in self.zeros.items():
            grads = [zero.grad.double().abs().flatten() for zero in zeros if zero.grad is not None]
            found[name] = torch.cat(grads).mean().item() if grads else np.nan
        self.zeros.clear()
        self.model.zeros.clear()
        return found


def trained_twice(tmp_path, train, build=network, steps=2, warns=None, **options):
    """Return the flow of each step as recorded and as the twin has it, and the warnings."""
    model = build()
    twin = copy.deepcopy(model)
    keeps, expected = Twin(twin), []
    for step in range(steps):
        torch.manual_seed(step)
        twin.zero_grad()
        train(twin)
        expected.append(keeps.flow())
    told = pytest.warns(DropdiagWarning, match=warns) if warns else nullcontext()
    options = {"probes": "full", "every": 1, "strict": True, **options}
    with told, dd.Recorder(model, tmp_path / "run", **options) as rec:
        for step in range(steps):
            torch.manual_seed(step)
            model.zero_grad()
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
    """Take one step of gradient descent."""
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(p.grad, alpha=0.1)


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
    loss, inputs = model(x).square().mean(), [model[0].weight]
    loss.backward(inputs=inputs + getattr(model, "zeros", []))  # which the twin keeps gradients by
    with torch.no_grad():
        model[0].weight -= 0.1 * model[0].weight.grad


def retained(model):
    """The graph is kept and never used again."""
    model(torch.randn(6, 2)).square().mean().backward(retain_graph=True)
    update(model)


TRAININGS = (
    physics_informed, gradient_penalty, attacked, attacked_by_backward, learning_to_learn, curvature, accumulated,
    one_parameter_alone, retained,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize("train", TRAININGS)
def test_the_gradient_of_the_loss_is_recorded_and_no_other(tmp_path, train):
    run, flow, expected = trained_twice(tmp_path, train)
    assert_same(flow, expected)
    assert not run.meta["warnings"]


class Branches(nn.Module):
    """A trunk, and two heads with losses of their own."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 5), nn.Tanh())
        self.left, self.right = (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2))

    def forward(self, x):
        h = self.trunk(x)
        return self.left(h), self.right(h)


def test_two_losses_one_after_the_other_leave_the_gradient_of_what_they_share_missing(tmp_path):
    def train(model):
        left, right = model(torch.randn(6, 2))
        left.square().mean().backward(retain_graph=True)
        right.square().mean().backward()
        update(model)

    torch.manual_seed(0)
    run, flow, expected = trained_twice(tmp_path, train, Branches, warns="add the losses before one backward")
    for step in expected:
        step["trunk.1"] = np.nan  # the twin adds them up, which takes tensors that are kept
    assert_same(flow, expected)
    counted = {row.layer for row in run.histograms("net_grad", "all").itertuples() if row.histogram.n}
    assert counted == {"left.1", "right.1"}


def test_two_losses_that_are_added_are_one(tmp_path):
    def train(model):
        left, right = model(torch.randn(6, 2))
        (left.square().mean() + right.square().mean()).backward()
        update(model)

    _, flow, expected = trained_twice(tmp_path, train, Branches)
    assert_same(flow, expected)


def test_gradients_that_are_only_asked_for_are_missing_and_it_is_said(tmp_path):
    def train(model):
        loss = model(torch.randn(6, 2)).square().mean()
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, slope in zip(model.parameters(), slopes, strict=True):
                p.sub_(slope, alpha=0.1)

    run, flow, _ = trained_twice(tmp_path, train, warns="by torch.autograd.grad alone", probes="paper")
    assert flow.map(np.isnan).map(all).all(axis=None)
    assert len(run.histogram("net_value", "1", step=1, phase="train").counts)


def test_the_parameters_may_be_elsewhere(tmp_path):
    """Tensors of the user's own are trained, which functional_call puts into the model."""

    def train(model):
        own = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        loss = torch.func.functional_call(model, own, torch.randn(6, 2)).square().mean()
        torch.autograd.grad(loss, list(own.values()), retain_graph=True)
        torch.func.functional_call(model, own, torch.randn(6, 2)).square().mean().backward()

    _, flow, expected = trained_twice(tmp_path, train, probes="paper")
    assert_same(flow, expected)


def test_a_frozen_network_passes_the_gradient_of_what_comes_before_it(tmp_path):
    def train(model):
        x = torch.randn(6, 2).requires_grad_()
        model(x).square().mean().backward()

    _, flow, expected = trained_twice(tmp_path, train, lambda: network().requires_grad_(False), probes="paper")
    assert_same(flow, expected)
    assert np.isfinite(np.concatenate(flow.to_numpy().ravel())).all()


class Recomputed(nn.Module):
    """A checkpoint of a block, and one of an activation alone, in which no parameter gets a gradient."""

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block = nn.Linear(2, 5), nn.Sequential(nn.Linear(5, 4), nn.Tanh())
        self.activation, self.last, self.reentrant = nn.Tanh(), nn.Linear(4, 1), reentrant

    def forward(self, x):
        h = checkpoint(self.block, self.first(x), use_reentrant=self.reentrant)
        return self.last(checkpoint(self.activation, h, use_reentrant=self.reentrant))


def once(model):
    model(torch.randn(6, 2)).square().mean().backward()
    update(model)


def twice(model):
    out = model(torch.randn(6, 2))
    out.square().mean().backward(retain_graph=True)
    out.mean().backward()
    update(model)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_take_part_in_the_pass_around_them(tmp_path, reentrant):
    _, flow, expected = trained_twice(tmp_path, once, lambda: Recomputed(reentrant))
    assert_same(flow, expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_two_losses_through_a_checkpoint_are_two_as_well(tmp_path, reentrant):
    _, flow, _ = trained_twice(tmp_path, twice, lambda: Recomputed(reentrant), warns="add the losses", probes="light")
    assert flow.map(np.isnan).map(all).all(axis=None)


class AsksInside(torch.autograd.Function):
    """Asks for a gradient of a graph of its own inside a backward pass."""

    @staticmethod
    def forward(ctx, h, inner):
        ctx.inner = inner
        return h.clone()

    @staticmethod
    def backward(ctx, gradient):
        torch.autograd.grad(*ctx.inner, retain_graph=True)
        return gradient, None


def test_a_pass_inside_another_is_left_out_and_the_outer_one_goes_on(tmp_path):
    def train(model):
        x = torch.randn(6, 2).requires_grad_()
        out = model(x)
        (AsksInside.apply(model(torch.randn(6, 2)), (out.sum(), x)).square().mean() + out.square().mean()).backward()
        update(model)

    _, flow, expected = trained_twice(tmp_path, train)
    assert_same(flow, expected)


def test_a_loss_of_one_step_that_reaches_back_into_another_is_that_of_its_own_passes(tmp_path):
    model, x = network(), torch.randn(6, 2)
    with dd.Recorder(model, tmp_path / "run", probes=["gradient_flow"], strict=True) as rec:
        first = model(x)
        first.square().mean().backward(retain_graph=True)
        rec.step()
        (model(x).square().mean() + first.sum()).backward()
        rec.step()
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")
    one, other = (flow.query("layer == @layer")["value"].tolist() for layer in ("1", "3"))
    assert one[0] == pytest.approx(one[1])
    assert other[0] == pytest.approx(other[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch")
def test_a_compiled_model_is_asked_the_same(tmp_path):
    def compiled(model):
        # The twin's zeros are new tensors in each pass, which a graph cannot hand out: it stays as it is.
        attacked(model if hasattr(model, "zeros") else torch.compile(model, backend="aot_eager"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)  # functional calls are not seen in a compiled graph
        _, flow, expected = trained_twice(tmp_path, compiled, strict=False)
    assert_same(flow, expected)
