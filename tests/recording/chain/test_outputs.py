"""The top of the chain: what a network gives, however it gives it."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropdiag as dd
from tests.recording.chain.reading import after, flow, read, recorded, row, size

X = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randint(3, (8,), generator=torch.Generator().manual_seed(2))

Named = namedtuple("Named", ["logits", "features"])


@dataclass
class Held:
    logits: Tensor
    features: Tensor


class Network(nn.Module):
    def __init__(self, give=lambda logits, features: logits):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.phi, self.give = nn.Linear(5, 6), nn.Linear(6, 3), nn.Tanh(), give
        self.kept = {}
        self.double()

    def forward(self, x):
        h = self.phi(self.a(x))
        logits = self.b(h)
        self.kept = {"logits": logits, "features": h}
        for tensor in self.kept.values():
            if tensor.requires_grad:
                tensor.retain_grad()
        return self.give(logits, h)


def of(run):
    return {layer: value for (kind, layer, _), value in read(run).items() if kind == "output"}


@pytest.mark.parametrize(
    ("give", "logits_of", "name"),
    [
        (lambda a, _: a, lambda o: o, "(output)"),
        (lambda a, _: {"logits": a}, lambda o: o["logits"], "(output).logits"),
        (lambda a, _: (a, None), lambda o: o[0], "(output).0"),
        (lambda a, _: {"out": [1, a]}, lambda o: o["out"][1], "(output).out.1"),
        (lambda a, h: Named(a, h.detach()), lambda o: o.logits, "(output).logits"),
        (lambda a, h: Held(a, h.detach()), lambda o: o.logits, "(output).logits"),
        (lambda a, _: F.log_softmax(a, -1), lambda o: o, "(output)"),
        (lambda a, _: a.softmax(-1).unsqueeze(1), lambda o: o.squeeze(1), "(output)"),
        (lambda a, _: a.argmax(-1), None, None),
    ],
    ids=["tensor", "dict", "tuple", "nested", "named tuple", "dataclass", "log_softmax", "softmax", "integers"],
)
def test_the_output_is_found_and_named(tmp_path, give, logits_of, name):
    model = Network(give)

    def train(model):
        output = model(X)
        if logits_of is None:
            model.kept["logits"].square().sum().backward()
        else:
            (logits_of(output) * torch.arange(3.0, dtype=torch.float64)).square().sum().backward()

    run = recorded(tmp_path / "run", model, train)
    if name is None:
        assert of(run) == {}
        assert "no floating tensor" in row(run, "output", "(output)")["why"]
        assert read(run)["path", "phi", 0] is None
        return
    # of what a softmax gives, what enters it is meant
    assert of(run) == {name: pytest.approx(size(model.kept["logits"].grad), rel=1e-12)}
    assert flow(run, "phi") == pytest.approx(read(run)["net", "phi", 0], rel=1e-12)


def test_what_is_given_beside_the_logits_is_read_and_lies_on_the_way(tmp_path):
    model = Network(lambda a, h: {"logits": a, "features": h})

    def train(model):
        output = model(X)
        (output["logits"].square().sum() + output["features"].pow(4).sum()).backward()

    run = recorded(tmp_path / "run", model, train)
    values = read(run)
    by_logits = model.kept["features"].grad - 4 * model.kept["features"].detach() ** 3
    features = size(model.kept["features"].grad)
    assert of(run) == pytest.approx(
        {"(output).logits": size(model.kept["logits"].grad), "(output).features": features}, rel=1e-12
    )
    assert after(run, "node", "phi") == ("output", "(output).features", 0)
    assert after(run, "output", "(output).features") == ("output", "(output).logits", 0)
    assert values["path", "(output).features", 0] == pytest.approx(size(by_logits), rel=1e-12)
    assert flow(run, "phi") == pytest.approx(values["net", "phi", 0], rel=1e-12)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.phi = nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 2), nn.Tanh()
        self.double()

    def forward(self, x):
        h = self.phi(self.a(x))
        return {"first": self.b(h), "second": self.c(h)}


@pytest.mark.parametrize("used", ["first", "second", "both"])
def test_of_two_heads_the_first_that_gets_a_gradient_counts(tmp_path, used):
    names = ["first", "second"] if used == "both" else [used]
    model = Heads()

    def train(model):
        output = model(X)
        sum(output[name].square().sum() for name in names).backward()

    run = recorded(tmp_path / "run", model, train)
    output, values = model(X), read(run)
    h = 2 * output[names[0]] @ (model.b if names[0] == "first" else model.c).weight
    assert after(run, "node", "phi") == ("output", f"(output).{names[0]}", 0)
    assert {layer for layer, value in of(run).items() if value is not None} == {f"(output).{n}" for n in names}
    assert set(of(run)) == {"(output).first", "(output).second"}
    if used == "both":
        assert values["path", "phi", 0] == pytest.approx(size(h), rel=1e-12)
    else:
        assert ("path", "phi", 0) not in values
    assert row(run, "node", "phi")["why"] is None
    assert flow(run, "phi") == pytest.approx(values["net", "phi", 0], rel=1e-12)


class Loss(Network):
    """Computes its loss itself, as networks of transformers do that are given labels."""

    def forward(self, x):
        logits = super().forward(x)
        return self.loss(logits)


@pytest.mark.parametrize("kind", ["cross entropy", "squares", "both"])
def test_a_loss_that_the_network_computes_itself(tmp_path, kind):
    model = Loss()
    model.loss = {
        "cross entropy": lambda a: {"loss": 0.5 * F.cross_entropy(a, Y)},
        "squares": lambda a: a.square().mean(),
        "both": lambda a: (F.cross_entropy(a, Y), a),
    }[kind]
    first = lambda o: o["loss"] if isinstance(o, dict) else o[0] if isinstance(o, tuple) else o  # noqa: E731
    run = recorded(tmp_path / "run", model, lambda m: first(m(X)).backward())
    if kind == "squares":
        assert of(run) == {}
        assert row(run, "output", "(output)")["why"]
        return
    name = "(output).1" if kind == "both" else "(output)"
    assert of(run) == {name: pytest.approx(size(model.kept["logits"].grad), rel=1e-12)}
    assert flow(run, "phi") == pytest.approx(read(run)["net", "phi", 0], rel=1e-12)


def test_a_network_that_ends_in_an_activation(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid()).double()
    run = recorded(tmp_path / "run", model, lambda m: F.mse_loss(m(X), torch.zeros(8, 4).double()).backward())
    values = read(run)
    assert values["output", "(output)", 0] == values["node", "1", 0]
    assert row(run, "node", "1")["same"]
    assert flow(run, "1") == pytest.approx(values["net", "1", 0], rel=1e-12)


def test_a_classifier_with_an_lstm(tmp_path):
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inside, self.phi, self.lstm = nn.Linear(5, 6), nn.Tanh(), nn.LSTM(6, 4, batch_first=True)
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)
            self.kept = {}

        def forward(self, x):
            h = self.phi(self.inside(x))
            state = self.lstm(h)[0][:, -1]
            dropped = self.drop(state)
            self.kept = {("node", "phi", 0): h, ("mask_input", "drop", 0): state, ("mask_output", "drop", 0): dropped}
            for tensor in self.kept.values():
                tensor.retain_grad()
            return self.head(dropped)

    model = Classifier().double()
    x = torch.randn(8, 7, 5, dtype=torch.float64)
    run = recorded(tmp_path / "run", model, lambda m: F.cross_entropy(m(x), Y).backward())
    values = read(run)
    expected = {key: size(tensor.grad) for key, tensor in model.kept.items()}
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert after(run, "node", "phi") == ("mask_input", "drop", 0)
    assert not [key for key in values if "path" in key[0]]
    assert flow(run, "phi") == pytest.approx(values["net", "phi", 0], rel=1e-12)


class Hidden(nn.Module):
    """Gives its hidden values beside the logits, and is trained on both."""

    def __init__(self):
        super().__init__()
        self.a, self.phi, self.b = nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)

    def forward(self, x):
        h = self.phi(self.a(x))
        return {"hidden": h, "logits": self.b(h)}


def test_what_an_output_gets_beside_the_one_that_it_leads_to_is_another_path(tmp_path):
    torch.manual_seed(0)
    model = Hidden().double()
    x = torch.randn(8, 6, dtype=torch.float64)

    def step(model):
        output = model(x)
        (output["logits"].square().sum() + output["hidden"].abs().sum()).backward()

    run = recorded(tmp_path / "run", model, step)
    output = model(x)
    path, logits = torch.autograd.grad(output["logits"].square().sum(), [output["hidden"], output["logits"]])
    whole = path + output["hidden"].sign()
    terms = dd.analysis.flow_decomposition.per_run(run)
    factors = {(row.term, row.name): row.factor for row in terms.itertuples() if row.term != "slope"}
    assert factors == {
        ("output error", "(output).logits"): pytest.approx(size(logits), rel=1e-12),
        ("transport", "b"): pytest.approx(size(path) / size(logits), rel=1e-12),
        ("other paths", "(output).hidden"): pytest.approx(size(whole) / size(path), rel=1e-12),
        ("transport", ""): 1.0,
    }
