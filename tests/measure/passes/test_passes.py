"""The passes that measurements are made of: what they give, and that they leave no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.passes import Passes
from tests.measure.test_no_trace import KINDS, data
from tests.measure.traces import check_training_goes_on


def gradients_by_hand(model, x, y):
    twin = copy.deepcopy(model)
    loss = F.cross_entropy(twin(x), y)
    return loss.detach(), torch.autograd.grad(loss, list(twin.parameters()))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def test_loss_and_gradients_are_those_of_plain_autograd():
    model, (x, y) = network(), data()
    loss, expected = gradients_by_hand(copy.deepcopy(model).eval(), x, y)
    passes = Passes(model, x, targets=y)
    with torch.no_grad(), passes.ready(0, gradients=True), passes.switched(False):
        value = passes.loss()
        found = passes.backward(value)
        assert list(passes.parameters) == [name for name, _ in model.named_parameters()]
    assert torch.equal(value.detach(), loss)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert str(passes.count) == "1 forward and 1 backward passes"


def test_gradients_of_net_values_are_handed_over():
    model, (x, y) = network(), data()
    kept = {}
    for layer in ("1", "4"):
        model.eval()[int(layer)].register_forward_pre_hook(
            lambda _m, args, layer=layer: kept.setdefault(layer, args[0]).retain_grad()
        )
    F.cross_entropy(model(x), y).backward()
    expected = {(layer, 0): z.grad for layer, z in kept.items()}
    model[1]._forward_pre_hooks.clear()
    model[4]._forward_pre_hooks.clear()
    found, nets = {}, {}
    passes = Passes(model, (x, y), F.cross_entropy)
    with passes.ready(0, gradients=True), passes.on_activations(nets.__setitem__, on_gradient=found.__setitem__):
        passes.backward(passes.loss())
    assert found.keys() == expected.keys() == nets.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert all(torch.equal(nets[layer, 0], z) for layer, z in kept.items())


@pytest.mark.parametrize("kind", KINDS)
def test_backward_passes_leave_everything_as_it_was_and_training_goes_on(kind):
    def measure(model):
        x, y = data()
        passes = Passes(model, x, targets=y)
        with passes.ready(3, gradients=True, norms="given"):
            for k in range(3):
                passes.seed(k)
                passes.backward(passes.loss())
            with torch.no_grad():
                next(iter(passes.parameters.values())).zero_()

    check_training_goes_on(kind, measure)


def test_a_pass_is_of_its_seed_and_number_alone():
    model, (x, _) = network(), data()
    passes = Passes(model, x)
    with passes.ready(5):
        found = []
        for k in (0, 1, 0):
            passes.seed(k)
            found.append(passes.forward())
    torch.manual_seed(99)
    again = Passes(model, x)
    with again.ready(5), torch.autocast("cpu", enabled=False):
        again.seed(1)
        found.append(again.forward())
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


class Remembering(nn.Module):
    """Changes its state in place at each pass: a buffer, and a tensor that is none."""

    def __init__(self):
        super().__init__()
        self.linear, self.tensor = nn.Linear(6, 3), torch.zeros(3)
        self.register_buffer("buffer", torch.zeros(3))

    def forward(self, x):
        self.buffer += 1
        self.tensor.add_(2)
        return self.linear(x) + self.buffer + self.tensor


def test_every_pass_starts_from_the_state_at_first():
    model, (x, _) = Remembering(), data()
    passes = Passes(model, x)
    with passes.ready(0):
        outputs = [passes.forward() for _ in range(3)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(model(x), outputs[0])


class Functional(nn.Module):
    """Calls its dropouts as functions: by an attribute, by a number, in attention."""

    def __init__(self):
        super().__init__()
        self.p, self.attention_dropout, self.linear = 0.4, 0.3, nn.Linear(6, 6)

    def forward(self, x):
        h = F.dropout(self.linear(x), self.p, self.training)
        h = h + F.dropout1d(h.unsqueeze(0), 0.25, training=self.training)[0]
        q = h[None, None]
        rate = self.attention_dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, q, q, dropout_p=rate)[0, 0]


class Borrowing(nn.Module):
    """Hands the rate of a dropout module over to a function, as timm's attention does."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.4), nn.Linear(6, 6)

    def forward(self, x):
        q = self.linear(x)[None, None]
        return F.scaled_dot_product_attention(q, q, q, dropout_p=self.drop.p if self.training else 0.0)[0, 0]


class Layers(nn.Module):
    """Dropouts inside layers, and one that was inserted."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, dropout=0.3, batch_first=True)
        self.attn, self.act = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True), nn.Tanh()

    def forward(self, x):
        h, _ = self.lstm(x[None])
        return self.act(self.attn(h, h, h)[0])


def inserted():
    model = Layers()
    dd.interventions.insert(model, "act", 0.5)
    return model


MODELS = {"modules": network, "functions": Functional, "borrowing": Borrowing, "layers": inserted}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_dropouts_alone_are_switched(make, training):
    torch.manual_seed(0)
    model, (x, _) = make().train(training), data()
    expected = copy.deepcopy(model).eval()(x).detach()
    passes = Passes(model, x)
    names = [site.name for site in passes.dropouts]
    with passes.ready(0):
        with passes.switched(False):
            for k in (0, 1):
                passes.seed(k)
                torch.testing.assert_close(passes.forward(), expected)
        with passes.switched(True) as switches:
            outputs = []
            for k in (0, 1, 0):
                passes.seed(k)
                outputs.append(passes.forward())
        assert switches.drawn == set(names)
        assert torch.equal(outputs[0], outputs[2])
        assert not torch.equal(outputs[0], outputs[1])
        for name in names:  # each alone does something, and what it does is another thing than all of them
            passes.seed(0)
            with passes.switched({name: True}) as switches:
                alone = passes.forward()
            assert switches.drawn == {name}
            assert not torch.allclose(alone, expected)
    assert [m.training for m in model.modules()] == [training] * len(list(model.modules()))
    assert len(names) == {network: 1, Functional: 3, Borrowing: 1, inserted: 3}[make]


def test_a_dropout_has_the_same_mask_alone_as_with_others():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    passes = Passes(model, torch.ones(40, 40))
    with passes.ready(0):
        passes.seed(4)
        with passes.switched(True):
            both = passes.forward()
        with passes.switched({"0": True}):
            first = passes.forward()
        with passes.switched({"1": True}):
            second = passes.forward()
    assert torch.equal(both, first * second)
    assert not torch.equal(first, second)


def test_a_function_that_a_checkpoint_runs_again_is_refused():
    class Checkpointed(Functional):
        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.inner, self.linear(x), use_reentrant=False)

        def inner(self, h):
            return self.sub(h)

    model = Checkpointed()
    model.sub = Functional()
    passes = Passes(model, data()[0], lambda out: out.mean())
    with (
        passes.ready(0, gradients=True),
        passes.switched(True),
        pytest.raises(ArgumentError, match=r"sub.p is called inside torch.utils.checkpoint"),
    ):
        passes.backward(passes.loss())


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_a_checkpoint_runs_again_has_the_mask_that_it_had(reentrant):
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            def inner(h):
                return self[4](self[3](self[2](self[1](h))))

            return self[5](torch.utils.checkpoint.checkpoint(inner, self[0](x), use_reentrant=reentrant))

    plain_model = network()
    model = Checkpointed(*plain_model)
    x, y = data()
    found = []
    for one in (plain_model, model):
        gradients = {}
        passes = Passes(one, x, targets=y)
        with passes.ready(0, gradients=True), passes.on_activations(on_gradient=gradients.__setitem__):
            passes.seed(2)
            with passes.switched(True):
                passes.backward(passes.loss())
        found.append(gradients)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[1])


def dropped(x):
    return F.dropout(x, 0.3)


class Hidden(nn.Module):
    """Its dropout is not to be seen in its forward method."""

    def forward(self, x):
        return dropped(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, _: Passes("model", x), "model must be an nn.Module, got str"),
        (lambda x, _: Passes(nn.LazyLinear(3), x), "lazy modules without values"),
        (lambda x, _: Passes(network(), x.to("meta")), r"batch is on meta and the model on cpu: move it with .to\('cpu'\)"),
        (lambda x, y: Passes(network(), x, targets=y.to("meta")), "targets is on meta"),
        (lambda x, y: Passes(network(), x, targets=y[:5]), r"targets of shape \(5,\) do not fit a batch of shape \(8, 6\)"),
        (lambda x, _: Passes(network(), x, F.cross_entropy), "give targets=, or a batch that is the pair"),
        (lambda x, _: Passes(network(), x, "mse"), "loss_fn must be a function, got str"),
        (lambda x, _: Passes(network(), x, lambda a, b, c: a), r"takes neither one argument nor two"),
        (lambda x, _: Passes(network(), x, needs_loss=True), "there is no loss: give loss_fn="),
        (lambda x, _: run(Passes(network(), x)), "there is no loss"),
        (lambda x, _: run(Passes(network(), x, lambda out: out)), r"one floating-point number .* got a Tensor of shape"),
        (lambda x, _: run(Passes(network(), x, lambda out: 1.0)), "got a float: take its mean"),
        (lambda x, y: run(Passes(network(), x, targets=y + 7)), "targets are class numbers from 0 to 2 .* got 7 to 9"),
        (lambda x, _: run(Passes(nn.Tanh(), x, torch.Tensor.mean), gradients=True), "loss_fn=.*cannot be read|no parameter"),
        (lambda x, _: run(Passes(nn.Tanh(), x, lambda o: o.mean()), gradients=True), "no parameter with requires_grad"),
        (lambda x, _: run(Passes(network(), x, lambda o: o.mean()), on={"drop": True}), "'drop' is no dropout .* are 2"),
        (lambda x, _: run(Passes(nn.Sequential(Hidden(), Functional()), x, lambda o: o.mean()), on=True), "call of dropout in the forward method of"),
        (lambda x, _: run(Passes(network(), x, lambda o: o.mean()), seed=0.5), "seed must be a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(*data())


def run(passes, *, on=None, seed=0, **options):
    with passes.ready(seed, **options), passes.switched(on):
        passes.loss()


def test_curvature_can_be_had_of_attention_and_recurrent_layers():
    torch.manual_seed(0)
    model, (x, _) = Layers().eval(), data()
    passes = Passes(model, x, lambda out: out.square().mean())
    with passes.ready(0, evaluation=True, double_backward=True):
        loss = passes.loss()
        parameters = list(passes.parameters.values())
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        second = torch.autograd.grad(sum(g.sum() for g in first), parameters, materialize_grads=True)
    assert all(torch.isfinite(g).all() for g in second)
    assert any(g.any() for g in second)


def test_targets_and_outputs_in_their_forms():
    (x, y), model = data(), network().eval()
    expected = F.cross_entropy(model(x), y).item()
    for passes in (
        Passes(model, x, targets=y),
        Passes(model, (x, y), F.cross_entropy),
        Passes(model, (x, y), nn.CrossEntropyLoss()),
        Passes(model, (x, y), needs_loss=True),
        Passes(model, x, lambda output: F.cross_entropy(output, y)),
        Passes(model, {"input": x}, F.cross_entropy, y),
    ):
        with passes.ready(0):
            assert passes.loss().item() == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def group():
    """A process group of one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_model_in_ddp_is_measured_as_the_one_inside_and_one_in_shards_is_refused():
    model, (x, y) = network(), data()
    expected = dd.measure.masks_by_weights(model, x, targets=y, masks=3)
    wrapped = nn.parallel.DistributedDataParallel(model)
    found = dd.measure.masks_by_weights(wrapped, x, targets=y, masks=3)
    assert list(found.values()) == list(expected.values())
    F.cross_entropy(wrapped(x), y).backward()
    assert all(p.grad is not None for p in model.parameters())
    sharded = network()
    torch.distributed.fsdp.fully_shard(sharded)
    with pytest.raises(ArgumentError, match="distributed over processes .*measure the model before it is distributed"):
        dd.measure.masks_by_weights(sharded, x, targets=y, masks=3)
