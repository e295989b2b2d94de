"""After a measurement everything is what it was, bit for bit, and a training goes on as if there had been none."""

from __future__ import annotations

import collections
import copy
import random
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF, fit
from dropdiag.measure.net_variance import net_variance

CALLS = 0
SHARED = torch.Generator().manual_seed(5)
TOTALS = {"calls": [0]}


def inverted(x, keep, p):
    return torch.where(keep, x / (1 - p), torch.zeros_like(x))


class Torch(nn.Dropout):
    """A generator of torch's of its own."""

    def __init__(self, p=0.4):
        super().__init__(p)
        self.generator = torch.Generator().manual_seed(7)

    def keep(self, x):
        return torch.rand(x.shape, generator=self.generator) >= self.p

    def forward(self, x):
        return inverted(x, self.keep(x), self.p) if self.training else x


class Numpy(Torch):
    def __init__(self, p=0.4):
        super().__init__(p)
        self.state = {"rng": [np.random.default_rng(3)]}

    def keep(self, x):
        return torch.from_numpy(self.state["rng"][0].random(x.shape) >= self.p)


class Legacy(Numpy):
    def __init__(self, p=0.4):
        super().__init__(p)
        self.draw = np.random.RandomState(4).random_sample  # a method of a generator that nothing else holds

    def keep(self, x):
        return torch.from_numpy(self.draw(x.shape) >= self.p)


class Python(Torch):
    def __init__(self, p=0.4):
        super().__init__(p)
        self.holder = types.SimpleNamespace(rng=random.Random(3))

    def keep(self, x):
        return torch.tensor([self.holder.rng.random() >= self.p for _ in range(x.numel())]).view(x.shape)


class GlobalNumpy(Torch):
    def keep(self, x):
        return torch.from_numpy(np.random.random_sample(x.shape) >= self.p)  # noqa: NPY002 - what users do


class GlobalPython(Torch):
    def keep(self, x):
        return torch.tensor([random.random() >= self.p for _ in range(x.numel())]).view(x.shape)


class ModuleLevel(Torch):
    """Draws from a generator that only its Python module holds, and counts there and on its class."""

    count = 0
    history = [0]  # noqa: RUF012 - what users do

    def keep(self, x):
        global CALLS  # noqa: PLW0603 - what users do
        CALLS += 1
        TOTALS["calls"][0] += 1
        type(self).count += 1
        self.history[0] += 1
        return torch.rand(x.shape, generator=SHARED) >= self.p


class Counters(Torch):
    """Counts in every way there is."""

    def __init__(self, p=0.4):
        super().__init__(p)
        self.calls, self.seen, self.by_size = 0, collections.deque([0], maxlen=3), {"n": {8: 0}}
        self.table, self.total, self.last = np.zeros(2), torch.zeros(()), None
        self.register_buffer("late", None, persistent=False)
        self.ids = set()

    def keep(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.by_size["n"][8] += 1
        self.table[0] += 1
        self.total += 1
        self.ids.add(self.calls)
        self.late = torch.full((2,), float(self.calls)) if self.late is None else self.late + 1
        self.last, self.newly_made = x.detach().clone(), self.calls
        return torch.rand(x.shape) >= self.p


class InAGraph(Torch):
    """Keeps a tensor that is part of a graph, which Python's deepcopy refuses."""

    kept = None

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


class Locked(Torch):
    """One mask for all steps until it is reset: drawn when there is none."""

    mask = None

    def keep(self, x):
        if self.mask is None:
            self.mask = torch.rand(x.shape[-1], generator=self.generator) >= self.p
        return self.mask.expand_as(x)


class Closure(nn.Module):
    """Drops in a hook, whose counter and generator live in its closure."""

    def __init__(self, p=0.4):
        super().__init__()
        self.inner = nn.Identity()
        calls, rng = 0, np.random.default_rng(11)

        def drop(_module, _args, x):
            nonlocal calls
            calls += 1
            return inverted(x, torch.from_numpy(rng.random(x.shape) >= p * min(calls, 3) / 3), p)

        self.inner.register_forward_hook(drop)
        self.calls = lambda: calls

    def forward(self, x):
        return self.inner(x)


class Hidden(nn.Module):
    """A dropout in a plain list, of which the model does not know."""

    def __init__(self, p=0.4):
        super().__init__()
        self.parts = [Counters(p)]

    def forward(self, x):
        return self.parts[0](x)


KINDS = [Torch, Numpy, Legacy, Python, GlobalNumpy, GlobalPython, ModuleLevel, Counters, InAGraph, Closure, Hidden]


class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.first, self.act, self.norm = nn.Linear(6, 16), GAAF("tanh"), nn.BatchNorm1d(16)
        self.drop = dropout
        self.second = parametrizations.spectral_norm(nn.Linear(16, 16))
        self.third = nn.utils.spectral_norm(nn.Linear(16, 16))
        self.more, self.last = nn.Dropout(0.3), nn.Linear(16, 3)

    def forward(self, x):
        h = self.drop(self.norm(self.act(self.first(x))))
        return self.last(self.more(self.act(self.third(self.act(self.second(h))))))


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=generator), torch.arange(8) % 3


def seed_everything():
    global CALLS
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    SHARED.manual_seed(5)
    CALLS, TOTALS["calls"][0], ModuleLevel.count, ModuleLevel.history[0] = 0, 0, 0, 0


def plain(item, seen=None):  # noqa: C901 - one line a kind
    """Everything an object holds as nested tuples of plain values: a slow and simple reader of its own."""
    seen = set() if seen is None else seen
    if isinstance(item, torch.Tensor):
        grad = None if item.grad_fn is not None or item.grad is None else item.grad.numpy().tobytes()
        return type(item).__name__, tuple(item.shape), item.detach().numpy().tobytes(), item.requires_grad, grad
    if isinstance(item, np.ndarray):
        return item.tobytes()
    if isinstance(item, torch.Generator):
        return item.get_state().numpy().tobytes()
    if isinstance(item, np.random.Generator):
        return repr(item.bit_generator.state)
    if isinstance(item, np.random.RandomState):
        return repr(item.get_state(legacy=False))
    if isinstance(item, random.Random):
        return item.getstate()
    if isinstance(item, (int, float, str, bytes, type(None), type, torch.dtype, torch.device)):
        return item
    if id(item) in seen:
        return "seen"
    seen.add(id(item))
    if isinstance(item, dict):
        # hooks are numbered through all models of a process
        return tuple((key if isinstance(key, str) else "", plain(value, seen)) for key, value in item.items())
    if isinstance(item, (list, tuple, set, collections.deque)):
        return tuple(plain(value, seen) for value in item)
    if isinstance(item, types.FunctionType):
        return tuple(plain(cell.cell_contents, seen) for cell in item.__closure__ or ())
    if isinstance(item, types.BuiltinMethodType):
        return plain(item.__self__, seen)
    return type(item).__name__, plain(getattr(item, "__dict__", {}), seen)


def surroundings():
    states = torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state(legacy=False)), random.getstate()  # noqa: NPY002
    return *states, plain(SHARED), CALLS, repr(TOTALS), ModuleLevel.count, repr(ModuleLevel.history)


def steps(model, n, optimizer=None):
    x, y = data()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(n):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_what_it_was_and_training_goes_on_as_if_there_had_been_no_measurement(kind):
    results = []
    for measured in (False, True):
        seed_everything()
        model = Net(kind())
        _, optimizer = steps(model, 3)
        if measured:
            before = plain(model), surroundings(), {n: id(t) for n, t in model.state_dict(keep_vars=True).items()}
            versions = [t._version for t in model.state_dict(keep_vars=True).values()]
            net_variance(model, data()[0], 5)
            if kind is not Closure:  # which p= does not reach
                fit(model, data()[0], 0.5, masks=4, apply=False)
            after = plain(model), surroundings(), {n: id(t) for n, t in model.state_dict(keep_vars=True).items()}
            assert after == before
            assert [t._version for t in model.state_dict(keep_vars=True).values()] == versions
        losses, _ = steps(model, 3, optimizer)
        results.append((losses, plain(model), surroundings()))
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", [Torch, Numpy, Legacy, Python, GlobalNumpy, GlobalPython, ModuleLevel, Counters])
def test_masks_of_every_origin_give_the_variance_of_theory(kind):
    seed_everything()
    model = nn.Sequential(kind(), nn.Linear(24, 16), nn.Tanh())
    x = torch.randn(16, 24)
    first, again = net_variance(model, x, 200)[0], net_variance(model, x, 200)[0]
    formula = 0.4 / 0.6 * (x.double() ** 2 @ (model[1].weight.detach().double() ** 2).T).numpy()
    assert abs((first.variance / formula).mean() - 1) < 5 * np.sqrt(2 / 199 / 16)
    np.testing.assert_array_equal(first.variance, again.variance)


class Remembering(nn.Module):
    """Carries its state from one forward pass to the next, as a stateful recurrent network does."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.act, self.h = nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh(), torch.zeros(8, 6)

    def forward(self, x):
        self.h = self.act(self.linear(self.drop(x)) + self.h)
        return self.h


def test_every_pass_starts_from_the_state_that_the_model_has():
    torch.manual_seed(0)
    model, x = Remembering(), data()[0]
    model(x)
    found = net_variance(model, x, 400)[0]
    formula = (x.double() ** 2 @ (model.linear.weight.detach().double() ** 2).T).numpy()
    assert abs((found.variance / formula).mean() - 1) < 5 * np.sqrt(2 / 399 / 8)


def two_parts():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 16), nn.Tanh())
    head = nn.Sequential(nn.Dropout(0.3), nn.Linear(16, 8), nn.Tanh())
    return nn.ModuleDict({"backbone": backbone, "head": head})


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = two_parts()

    def forward(self, x):
        return self.parts["head"](self.parts["backbone"](x))


@pytest.mark.parametrize("p", [None, 0.3])
def test_a_part_that_is_kept_in_evaluation_mode_draws_no_masks(p):
    model, x = Frozen(), data()[0]
    model.parts["backbone"].eval()
    found = net_variance(model, x, 300, p=p)
    assert not found["parts.backbone.1"].variance.any()
    assert not found["parts.backbone.4"].variance.any()
    with torch.no_grad():
        h = model.parts["backbone"](x).double()
    formula = (0.3 / 0.7 * h**2 @ (model.parts["head"][1].weight.detach().double() ** 2).T).numpy()
    layer = found["parts.head.2"]
    np.testing.assert_allclose(layer.closed_form, formula, rtol=1e-5)
    assert abs((layer.variance / formula).mean() - 1) < 5 * np.sqrt(2 / 299 / 8)
    assert [m.training for m in (model, model.parts["backbone"][2], model.parts["head"][0])] == [True, False, True]


@pytest.mark.parametrize("p", [None, 0.3])
def test_a_model_in_evaluation_mode_is_refused_and_one_whose_dropouts_are_not_is_measured(p):
    model, x = Frozen().eval(), data()[0]
    with pytest.raises(ArgumentError, match=r"in evaluation mode and draws no masks: call model.train\(\) before"):
        net_variance(model, x, 4, p=p)
    model.parts["head"][0].train()
    found = net_variance(model, x, 4, p=p)
    assert [bool(layer.variance.any()) for layer in found] == [False, False, True]


def test_dropouts_are_placed_where_the_model_is_in_training_mode():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    model[1].eval()
    found = net_variance(model, data()[0], 4, p=0.5)
    assert [bool(layer.variance.any()) for layer in found] == [False, False, True]
    assert net_variance(model.eval(), data()[0], 4, p=0.5)["3"].variance.any()


def test_surroundings_of_the_call_do_not_matter():
    seed_everything()
    model, x = Net(nn.Dropout()), data()[0].requires_grad_()
    expected = net_variance(model, x, 6)["act"].variance
    with torch.inference_mode():
        np.testing.assert_array_equal(net_variance(model, x, 6)["act"].variance, expected)
    with torch.device("meta"):
        np.testing.assert_array_equal(net_variance(model, x, 6)["act"].variance, expected)
    with parametrize.cached():
        np.testing.assert_array_equal(net_variance(model, x, 6)["act"].variance, expected)
        model(x).sum().backward()
    assert x.grad is not None
    assert model.second.parametrizations.weight.original.grad.any()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).sum()
        model.zero_grad()
        net_variance(model, x, 6)
        (loss + model(x).sum()).backward()
    assert model.first.weight.grad.any()


def test_a_graph_that_is_alive_keeps_its_gradients():
    gradients = []
    for measured in (False, True):
        seed_everything()
        model, (x, _) = Net(Counters()), data()
        loss = model(x).square().sum()
        if measured:
            net_variance(model, x, 5)
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class Patched(nn.Module):
    """Its forward is a closure over itself, as some libraries patch it in; one hook counts, one holds a file."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.act, self.calls = nn.Linear(6, 6), nn.Dropout(), nn.Tanh(), [0]

        def forward(x):
            self.calls[0] += 1
            return self.act(self.linear(self.drop(x)))

        self.forward = forward


def test_a_patched_forward_works_on_the_copies_as_well():
    model = Patched()
    net_variance(model, data()[0], 4)
    assert model.calls == [0]
    twin = copy.deepcopy(model)
    assert twin.calls == [0]


def test_what_cannot_be_put_back_is_refused_with_its_name(tmp_path):
    model = nn.Sequential(nn.Dropout(), nn.Linear(6, 6), nn.Tanh())
    with (tmp_path / "log").open("w") as file:
        model[1].log = file
        with pytest.raises(
            ArgumentError, match=r"attribute 'log' of 1 \(of type TextIOWrapper\) could not be put back"
        ):
            net_variance(model, data()[0], 4)
        del model[1].log
        handle = model[1].register_forward_hook(lambda *_: file.write("called"))
        with pytest.raises(ArgumentError, match=r"variable 'file' of the function .*lambda"):
            net_variance(model, data()[0], 4)
        handle.remove()
        file.flush()
    assert (tmp_path / "log").read_text() == ""
    net_variance(model, data()[0], 4)


class Building(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.act = None, nn.Dropout(), nn.Tanh()

    def forward(self, x):
        self.linear = self.linear or nn.Linear(6, 6)
        return self.act(self.linear(self.drop(x)))


def test_a_model_that_builds_itself_while_it_runs_is_to_be_run_before():
    model, x = Building(), data()[0]
    state = torch.get_rng_state()
    with pytest.raises(ArgumentError, match="builds modules in its forward pass: run it once"):
        net_variance(model, x, 4)
    assert model.linear is None
    assert torch.equal(torch.get_rng_state(), state)
    model(x)
    assert net_variance(model, x, 4)[0].variance.any()


class AlwaysThree(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, 0.3, self.training)


class Kept(nn.Dropout):
    """Worked its rate out when it was made."""

    def __init__(self, p):
        super().__init__(p)
        self.keep = 1 - p

    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, self.keep)) / self.keep


class NoRescale(Torch):
    def forward(self, x):
        return x * self.keep(x)


class Half(nn.Dropout):
    """Drops half as much as it is told to."""

    def forward(self, x):
        return F.dropout(x, self.p / 2, self.training)


class Never(nn.Dropout):
    def forward(self, x):
        return x.clone()


class Rows(nn.Dropout):
    """Drops whole samples."""

    def forward(self, x):
        return inverted(x, torch.rand(len(x), 1) >= self.p, self.p)


class Everything(nn.Dropout):
    """Drops all or nothing."""

    def forward(self, x):
        return inverted(x, torch.rand(()) >= self.p, self.p)


class Runs(nn.Dropout):
    """Drops runs of eight neighbours, sixteen to a sample."""

    def forward(self, x):
        return inverted(x, (torch.rand(len(x), 16) >= self.p).repeat_interleave(8, 1), self.p)


class MyDropout(nn.Module):
    """No subclass of torch's, with its rate in `p` and a generator of its own."""

    def __init__(self, p):
        super().__init__()
        self.p, self.rng = p, np.random.default_rng(0)

    def forward(self, x):
        return inverted(x, torch.from_numpy(self.rng.random(x.shape) >= self.p), self.p)


@pytest.mark.parametrize(
    ("kind", "inverted"),
    [
        *((kind, True) for kind in (nn.Dropout, Torch, Numpy, GlobalNumpy, MyDropout)),
        *((kind, False) for kind in (nn.AlphaDropout, Locked, NoRescale, Rows, Everything, Runs)),
    ],
)
@pytest.mark.parametrize("p", [0.05, 0.6])
def test_a_rate_that_reaches_is_accepted(kind, inverted, p):
    seed_everything()
    model, x = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), kind(0.4), nn.Linear(128, 8), nn.Tanh()), net_input()
    variance = net_variance(model, x, 64, p=p)["4"].variance
    assert variance.any()
    if inverted:
        with torch.no_grad():
            h = model[:2](x).double()
        formula = (p / (1 - p) * h**2 @ (model[3].weight.detach().double() ** 2).T).numpy()
        # the masks of a small rate are far from normal: their fourth moment is about 1/p times that
        assert abs((variance / formula).mean() - 1) < 5 * np.sqrt((2 + 0.1 / p) / 63 / 16)


def net_input():
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (AlwaysThree, r"at rate 0 2 \(a AlwaysThree\) does not give what it takes"),
        (Kept, r"at rate 0 2 \(a Kept\) does not give"),
        (Half, r"p=0.5 does not reach 2 \(a Half\): of \d+ units that could be dropped \d+ were, a share of 0\.2"),
        (Never, r"p=0.5 does not reach 2 \(a Never\): of \d+ units that could be dropped 0 were"),
    ],
)
def test_a_rate_that_does_not_reach_is_refused_with_what_was_seen(kind, message):
    seed_everything()
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), kind(0.3), nn.Dropout(), nn.Linear(32, 8), nn.Tanh())
    with pytest.raises(ArgumentError, match=message):
        net_variance(model, net_input(), 4, p=0.5)


def test_a_mask_that_was_drawn_before_is_out_of_reach_and_one_to_be_drawn_is_not():
    seed_everything()
    model = nn.Sequential(Locked(), nn.Linear(24, 16), nn.Tanh())
    x = torch.randn(16, 24)
    assert net_variance(model, x, 8, p=0.3)[0].variance.any()
    model(x)
    with pytest.raises(ArgumentError, match=r"at rate 0 0 \(a Locked\) does not give what it takes"):
        net_variance(model, x, 8, p=0.3)


class Block(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.linear, self.act, self.draw = nn.Linear(16, 16), nn.Tanh(), draw

    def forward(self, x):
        return self.act(self.linear(self.draw(x)))


@pytest.mark.parametrize(
    ("draw", "reached"),
    [
        (lambda x: F.dropout(x, 0.0), True),
        (lambda x: x + 0 * torch.rand_like(x), True),
        (lambda x: F.dropout(x, 0.2), False),
        (lambda x: x * float(random.random() > 0.1), False),
        (lambda x: x * torch.from_numpy(np.random.binomial(1, 0.9, x.shape)), False),  # noqa: NPY002
    ],
)
def test_other_random_numbers_are_judged_by_what_they_do(draw, reached):
    seed_everything()
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(), Block(draw))
    if reached:
        assert net_variance(model, net_input(), 4, p=0.2)["3.act"].variance.any()
        return
    with pytest.raises(
        ArgumentError, match=r"net values of 3.act change from pass to pass, as 3 \(a Block\) draws random"
    ):
        net_variance(model, net_input(), 4, p=0.2)


class Noisy(nn.MultiheadAttention):
    def forward(self, *args, **kwargs):
        output, weights = super().forward(*args, **kwargs)
        return F.dropout(output, 0.1, self.training), weights


@pytest.mark.parametrize("kind", [nn.MultiheadAttention, Noisy])
def test_a_rate_inside_attention(kind):
    seed_everything()

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.linear, self.act = kind(16, 2, dropout=0.3), nn.Linear(16, 4), nn.Tanh()

        def forward(self, x):
            return self.act(self.linear(self.attention(x, x, x)[0]))

    model, x = Attending(), torch.randn(5, 3, 16)
    if kind is nn.MultiheadAttention:
        assert net_variance(model, x, 8, p=0.5)[0].variance.any()
        return
    with pytest.raises(ArgumentError, match=r"at rate 0 attention \(a Noisy\)"):
        net_variance(model, x, 8, p=0.5)
