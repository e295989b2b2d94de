"""GAAF in the place of functions that forward methods call, against models of the same weights with GAAF modules."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.gaaf import GAAF, fit, replace


class Net(nn.Module):
    """Two layers and an activation between; what is called comes in."""

    def __init__(self, function, *, checkpoints=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)
        self.function, self.checkpoints = function, checkpoints

    def forward(self, x):
        return self.last(self.function(3 * self.first(x)))


X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


def outcome(net, x=X):
    """Return value, gradient of the weights, and of the input."""
    x = x.clone().requires_grad_()
    y = net(x)
    gradients = torch.autograd.grad(y.square().sum(), [x, *net.parameters()])
    return [y.detach(), *gradients]


def same(ours, theirs, exactly=True):
    for one, other in zip(outcome(ours), outcome(theirs), strict=True):
        assert torch.equal(one, other) if exactly else torch.allclose(one, other, rtol=1e-5, atol=1e-6)


def in_place(x):
    h = x.clone()
    h.relu_()  # nobody takes what it returns
    return h


SPELLINGS = {
    "relu": (F.relu, torch.relu, lambda x: x.relu(), torch.ops.aten.relu, lambda x: F.relu(input=x)),
    "relu, in place": (in_place, lambda x: torch.relu_(x.clone()), lambda x: F.relu(x.clone(), True), lambda x: F.relu_(x.clone())),
    "tanh": (torch.tanh, F.tanh, lambda x: x.tanh(), lambda x: x.clone().tanh_()),
    "sigmoid": (torch.sigmoid, F.sigmoid, lambda x: x.sigmoid(), torch.special.expit),
    "gelu": (F.gelu, lambda x: F.gelu(x, approximate="none")),
    "silu": (F.silu, lambda x: F.silu(x.clone(), inplace=True)),
    "leaky_relu": (F.leaky_relu, lambda x: F.leaky_relu(x, 0.01)),
    "hardtanh": (F.hardtanh, lambda x: F.hardtanh(x, -1, 1)),
}  # fmt: skip
WITH_SETTINGS = {
    "leaky_relu(0.2)": (lambda x: F.leaky_relu(x, 0.2), lambda: GAAF(nn.LeakyReLU(0.2))),
    "gelu(approximate='tanh')": (lambda x: F.gelu(x, approximate="tanh"), lambda: GAAF(nn.GELU("tanh"))),
    "hardtanh(-2, 2)": (lambda x: F.hardtanh(x, -2.0, 2.0), lambda: GAAF(nn.Hardtanh(-2, 2))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_gaaf_of_its_name(name):
    for function in SPELLINGS[name]:
        net, phi = Net(function), name.partition(",")[0]
        with replace(net, {phi: GAAF(phi)}) as done:
            same(net, Net(GAAF(phi)))
            assert [*done.functions] == [f"first:{phi}"]
        assert not net._forward_hooks


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_settings_of_a_call_are_those_of_phi(name):
    function, module = WITH_SETTINGS[name]
    net = Net(function)
    done = replace(net, {name.partition("(")[0]: lambda phi: GAAF(phi, shape=module().shape)})
    same(net, Net(module()), exactly=False)
    assert [*done.functions] == [f"first:{name}"]


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.act = nn.Tanh()

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.c(self.act(self.b(h)) + torch.sigmoid(h))


class MixedByHand(Mixed):
    def __init__(self):
        super().__init__()
        self.act, self.relu, self.sigmoid = GAAF(nn.Tanh()), GAAF("relu"), GAAF("sigmoid")

    def forward(self, x):
        h = self.relu(self.a(x))
        return self.c(self.act(self.b(h)) + self.sigmoid(h))


def test_modules_and_functions_of_one_model_and_back():
    net, before = Mixed(), outcome(Mixed())
    state = net.state_dict()
    done = replace(net)
    assert ([*done.modules], done.functions) == (["act"], {})
    assert "none of which was seen so far" in repr(done)
    same(net, MixedByHand())
    assert [*done.functions] == ["a:relu", "a:sigmoid"]
    assert repr(done) == "GAAF in the place of act; a:relu, a:sigmoid"
    assert [*net.state_dict()] == [*state]
    assert all(torch.equal(net.state_dict()[name], state[name]) for name in state)
    done.restore()
    done.restore()
    for one, other in zip(outcome(net), before, strict=True):
        assert torch.equal(one, other)
    assert _get_current_function_mode_stack() == []


def test_classes_alone_leave_functions_and_names_alone_leave_modules():
    net = Mixed()
    with replace(net, {nn.Tanh: GAAF("tanh")}) as done:
        net(X)
        assert done.functions == {}
    with replace(net, {"relu": GAAF("relu", height=0.5)}) as done:
        net(X)
        assert isinstance(net.act, nn.Tanh)
        assert [*done.functions] == ["a:relu"]
        assert done.functions["a:relu"].height == 0.5


def test_evaluation_and_no_gradients_are_gaaf_too():
    net, other = Mixed(), MixedByHand()
    replace(net)
    for mode in (net.train, net.eval):
        mode()
        with torch.no_grad():
            assert torch.equal(net(X), other(X))


def test_nothing_outside_of_the_model_is_touched():
    net = Net(F.relu)
    replace(net)
    x = torch.linspace(-1, 1, 9, requires_grad=True)
    seen = []
    net.last.register_forward_hook(lambda *_: seen.append(F.relu(x)))
    net(X)
    seen.append(F.relu(x))
    other = Net(F.relu)(X)
    assert torch.equal(seen[1], torch.relu(x))
    assert torch.autograd.grad(seen[1].sum(), x)[0].tolist() == [0.0] * 5 + [1.0] * 4
    assert torch.equal(other, Net(F.relu)(X))


def test_an_exception_leaves_nothing_behind():
    def fails(x):
        F.relu(x)
        raise ValueError("no")

    net = Net(fails)
    replace(net, {"relu": GAAF("relu")})
    with pytest.raises(ValueError, match="no"):
        net(X)
    assert _get_current_function_mode_stack() == []

    def stops(x):
        raise KeyboardInterrupt

    net = Net(stops)
    replace(net, {"relu": GAAF("relu")})
    with pytest.raises(KeyboardInterrupt):
        net(X)
    net.function = F.relu
    same(net, Net(GAAF("relu")))
    assert _get_current_function_mode_stack() == []  # that of the interrupted pass is gone, too


def test_copies_and_pickles_stay_replaced_and_restoring_leaves_them():
    net = Mixed()
    done = replace(net, {"relu": GAAF("relu", height=0.3), "sigmoid": GAAF("sigmoid")})
    early = copy.deepcopy(net)
    by_hand = Mixed()
    replace(by_hand, {"relu": GAAF("relu", height=0.3), "sigmoid": GAAF("sigmoid")})
    net(X)
    twins = [early, copy.deepcopy(net), pickle.loads(pickle.dumps(net))]  # noqa: S301
    done.functions["a:relu"].height = 0.9
    done.restore()
    same(net, Mixed())
    for twin in twins:
        same(twin, by_hand)
        assert not torch.equal(twin(X), net(X))


def test_each_site_has_a_gaaf_of_its_own():
    net = Net(lambda x: F.relu(x - 1) + torch.tanh(F.relu(net.last(torch.tanh(x)))).sum(-1, keepdim=True))
    done = replace(net, {"relu": GAAF("relu"), "tanh": GAAF("tanh")})
    net(X)
    assert sorted(done.functions) == ["first:relu", "first:tanh", "last:relu", "last:tanh"]
    assert len({id(gaaf) for gaaf in done.functions.values()}) == 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(7, 7), nn.Linear(7, 7)

    def forward(self, x):
        return torch.tanh(x + self.outer(F.relu(self.inner(F.relu(x)))))

    def run(self, x):
        return self(x)


class Blocks(nn.Module):
    def __init__(self, how=None):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.how = nn.Linear(5, 7), how
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x) if self.how is None else self.how(block, x)
        return x


CHECKPOINTS = {
    "reentrant": lambda block, x: checkpoint(block, x, use_reentrant=True),
    "not reentrant": lambda block, x: checkpoint(block, x, use_reentrant=False),
    "a module in a method": lambda block, x: checkpoint(block.run, x, use_reentrant=True),
}


@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.parametrize("recorded", [False, True])
def test_checkpoints_run_gaaf_again(how, recorded, tmp_path):
    net, plain = Blocks(CHECKPOINTS[how]), Blocks()
    done, without = replace(net), replace(plain)
    plain(X), net(X)
    assert [*done.functions] == [*without.functions]
    for i, layer in enumerate(done.functions):  # each site another derivative: they are not to be mixed up
        done.functions[layer].height = without.functions[layer].height = 0.1 + i / 4
    with dd.Recorder(net, tmp_path / "run", every=1) if recorded else contextlib.nullcontext() as rec:
        net(X).square().sum().backward()
        if recorded:
            rec.step()
    plain(X).square().sum().backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_a_checkpoint_runs_outside_of_a_module_is_refused(reentrant):
    for how in (
        lambda block, x: checkpoint(block.forward, x, use_reentrant=reentrant),
        lambda block, x: checkpoint(lambda v: block.outer(F.relu(v)), x, use_reentrant=reentrant),
    ):
        net = Blocks(how)
        replace(net)
        with pytest.raises(ArgumentError, match="first:relu is called in what torch.utils.checkpoint runs, outside"):
            net(X)
        assert _get_current_function_mode_stack() == []


def test_sites_that_a_checkpoint_cannot_tell_apart():
    net, plain = Blocks(CHECKPOINTS["not reentrant"]), Blocks()
    for model in (net, plain):
        model.blocks = nn.ModuleList([model.blocks[0]] * 2)  # what enters it comes from a layer, and from a sum
    done = replace(net, {"relu": GAAF("relu")})
    replace(plain, {"relu": GAAF("relu")})
    same(net, plain)
    assert [*done.functions] == ["first:relu", "blocks.0.inner:relu", "blocks.0:relu"]
    done.functions["blocks.0.inner:relu"].height = 0.5
    net(X).sum().backward()
    done.functions["first:relu"].height = 0.5
    with pytest.raises(ArgumentError, match="it cannot be told which one a part of the model calls"):
        net(X).sum().backward()


def test_a_part_that_is_called_alone_is_gaaf_with_the_sites_of_the_whole():
    net, block, h = Blocks(), Blocks().blocks[0], torch.randn(4, 7)
    done = replace(net)
    net(X)
    sites = set(done.functions)
    replace(block)
    found, expected = (torch.autograd.grad(part(h).sum(), [*part.parameters()]) for part in (net.blocks[0], block))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert set(done.functions) == sites
    never_run = replace(alone := Blocks())
    found = torch.autograd.grad(alone.blocks[0](h).sum(), [*alone.blocks[0].parameters()])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert never_run.functions


@pytest.mark.parametrize("before", [True, False])
def test_a_recorder_sees_the_same_sites_judged_by_phi(before, tmp_path):
    nets = {"functions": Mixed(), "plain": Mixed()}
    runs = {}
    for name, net in nets.items():
        recorder = dd.Recorder(net, tmp_path / name, every=1, strict=True) if before else None
        done = replace(net, {"relu": GAAF("relu"), "sigmoid": GAAF("sigmoid")}) if name == "functions" else None
        recorder = recorder or dd.Recorder(net, tmp_path / name, every=1, strict=True)
        with recorder as rec:
            net(X).square().sum().backward()
            rec.step()
        sites = {row.layer for row in rec.coverage() if row.functional and row.fired}
        assert sites == {"a:relu", "a:sigmoid"}
        assert done is None or set(done.functions) == sites
        runs[name] = dd.load(tmp_path / name)
    assert runs["functions"].meta["activations"].keys() == runs["plain"].meta["activations"].keys()
    gaaf, plain = (run.scalars.set_index(["quantity", "layer"])["value"] for run in runs.values())
    assert gaaf["saturation_share_left", "a:relu"] == plain["saturation_share_left", "a:relu"]
    # the gradient flow is GAAF's: what autograd gives for the net values of a model with GAAF modules
    z = []
    other = MixedByHand()
    other.act = nn.Tanh()
    other.relu.register_forward_pre_hook(lambda _m, args: z.append(args[0]))
    y = other(X)
    (gradient,) = torch.autograd.grad(y.square().sum(), z)
    assert gaaf["net_grad_abs_mean", "a:relu"] == pytest.approx(gradient.abs().mean().item(), rel=1e-6)
    assert plain["net_grad_abs_mean", "a:relu"] != pytest.approx(gradient.abs().mean().item(), rel=1e-3)


def test_under_autocast_the_value_is_phi_s_and_the_derivative_gaaf_s():
    net, other = Mixed(), MixedByHand()
    replace(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(net, other)


def test_per_sample_gradients():
    net, other = Mixed(), MixedByHand()
    replace(net)

    def loss(parameters, model, x):
        return torch.func.functional_call(model, parameters, (x[None],)).square().sum()

    def per_sample(model):
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, None, 0))(parameters, model, X)

    ours, theirs = per_sample(net), per_sample(other)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def test_a_double_backward_pass():
    def penalty(net):
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [net.first.weight, net.last.weight])

    net = Net(torch.tanh)
    replace(net, {"tanh": GAAF("tanh")})
    for one, other in zip(penalty(net), penalty(Net(GAAF("tanh"))), strict=True):
        assert torch.equal(one, other)


def test_other_threads_and_a_default_device():
    net, expected = Net(F.relu), outcome(Net(GAAF("relu")))
    replace(net, {"relu": GAAF("relu")})
    found = []
    threads = [threading.Thread(target=lambda: found.append(outcome(net))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    with torch.device("cpu"):
        found.append(outcome(net))
        assert len(_get_current_function_mode_stack()) == 1
    assert all(torch.equal(one, other) for each in found for one, other in zip(each, expected, strict=True))


def test_a_surrogate_in_the_place_of_functions():
    net = Net(F.relu)
    replace(net, {"relu": GAAF("relu", surrogate="b-silu")})
    assert torch.equal(net(X), Net(F.relu)(X))
    same(net, Net(GAAF("relu", surrogate="b-silu")))


def test_torch_s_encoder_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    other = copy.deepcopy(layer)
    other.activation = GAAF("relu")
    done = replace(layer)
    x = torch.randn(2, 3, 8)
    for mode in (True, False):
        layer.train(mode), other.train(mode)
        assert torch.equal(layer(x), other(x))
    assert [*done.functions] == ["linear1:relu"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_torch_compile_refuses_and_never_runs_the_plain_function():
    torch._dynamo.reset()
    net, like = Net(F.relu), Net(F.relu)
    compiled = torch.compile(net, backend="aot_eager")
    plain = compiled(X)
    before = torch._dynamo.config.skip_nnmodule_hook_guards  # what else is open in this process may have set it
    done = replace(net, {"relu": GAAF("relu")})
    torch.compile(like, backend="aot_eager")(X)  # the graph of which is not to be used for it
    with pytest.raises(Exception, match="GAAF takes the place of functions by intercepting their calls"):
        compiled(X)
    assert torch._dynamo.config.skip_nnmodule_hook_guards is False
    done.restore()
    assert torch._dynamo.config.skip_nnmodule_hook_guards is before
    assert torch.equal(compiled(X), plain)
    replace(net, {"relu": GAAF("relu")})
    with pytest.raises(ArgumentError, match="a graph of torch.compile or torch.export does not make"):
        torch.export.export(net, (X,), strict=False)
    part = nn.Sequential(Net(F.relu))
    part[0].compile(backend="aot_eager")
    replace(part, {"relu": GAAF("relu")})
    with pytest.raises(Exception, match="GAAF takes the place of functions by intercepting their calls"):
        part(X)


def test_what_cannot_be_replaced_is_refused():
    net = Net(F.relu)
    for mapping, message in (
        ({"softmax": GAAF("relu")}, "GAAF cannot take the place of softmax, which mixes net values"),
        ({"prelu": GAAF("relu")}, "has slopes that are learned"),
        ({"softplus": 3}, "'softplus' must be given a GAAF, or a function of phi that makes one; got 3"),
        ({"rulu": GAAF("relu")}, "'rulu' is no activation function that is known; those are atan, celu"),
    ):
        with pytest.raises(ArgumentError, match=message):
            replace(net, mapping)
    with pytest.raises(ArgumentError, match="is an nn.DataParallel"):
        replace(nn.DataParallel(Mixed()), {"relu": GAAF("relu")})
    with pytest.raises(ArgumentError, match="the code of its forward methods calls none of tanh"):
        replace(nn.Sequential(nn.Linear(2, 2)))
    replace(net, {"relu": GAAF("relu")})
    with pytest.raises(ArgumentError, match="replaced already: restore"):
        replace(net, {"tanh": GAAF("tanh")})
    with pytest.raises(ArgumentError, match="runs with the hooks by which GAAF"):
        copy.copy(net)(X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (GAAF("tanh"), "first:relu is a call of relu, but the GAAF for it is over another function"),
        (lambda phi: phi, "first:relu must be replaced by a GAAF, got function"),
        (GAAF(nn.PReLU(), shape="constant"), "has parameters, which no optimiser of the model would train"),
    ],
)
def test_a_gaaf_that_does_not_fit_is_told_where_it_is_called(given, message):
    net = Net(F.relu)
    replace(net, {"relu": given})
    with pytest.raises(ArgumentError, match=message):
        net(X)
    assert _get_current_function_mode_stack() == []


def test_functions_that_are_never_called_are_told_once():
    net = Net(F.relu)
    replace(net, {"relu": GAAF("relu"), "silu": GAAF("silu")})
    with pytest.warns(DropdiagWarning, match="no call of silu was seen in the model's first forward pass"):
        net(X)
    net(X)


def test_a_model_that_calls_modules_by_the_names_of_functions_is_left_to_its_modules():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.fc = nn.ReLU(), nn.Linear(5, 3)

        def forward(self, x):
            return self.relu(self.fc(x))

    net = Named()
    done = replace(net)
    assert done.calls is None
    assert not net._forward_pre_hooks
    assert [*done.modules] == ["relu"]


def test_a_registered_function_of_one_s_own():
    @dd.register_activation
    def doubled(x, by=2.0):
        return torch.tanh(by * x)

    net = Net(lambda x: doubled(x, by=3.0))
    done = replace(net, {"doubled": lambda phi: GAAF(phi, shape="gaussian")})
    same(net, Net(GAAF(lambda x: torch.tanh(3.0 * x), shape="gaussian")))
    assert [*done.functions] == ["first:doubled(by=3)"]


def test_fitted_as_modules_are():
    class Deep(nn.Module):
        def __init__(self, functional):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.drop, self.b, self.functional = nn.Linear(5, 20), nn.Dropout(), nn.Linear(20, 20), functional
            self.tanh, self.relu = nn.Tanh(), nn.ReLU()

        def forward(self, x):
            if self.functional:
                return F.relu(3 * self.b(self.drop(torch.tanh(self.a(x)))))
            return self.relu(3 * self.b(self.drop(self.tanh(self.a(x)))))

    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(3))
    functional, modules = Deep(functional=True), Deep(functional=False)
    done, there = replace(functional), replace(modules, {nn.Tanh: GAAF("tanh"), nn.ReLU: GAAF("relu")})
    ours, theirs = fit(functional, x, 0.5, masks=8), fit(modules, x, 0.5, masks=8)
    assert [layer.layer for layer in ours] == ["a:tanh", "b:relu"]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.height, one.width, one.net_variance) == (other.height, other.width, other.net_variance)
    # applied to GAAFs that no forward pass of the user's had seen
    assert done.functions["b:relu"].height == there.modules["relu"].height > 0
