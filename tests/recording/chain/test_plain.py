"""The chain of networks in which nothing branches, against autograd on kept tensors."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.recording.chain.reading import after, flow, kept, layout, read, recorded, row

X = torch.randn(9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randint(3, (9,), generator=torch.Generator().manual_seed(2))


def loss_of(model):
    return F.cross_entropy(model(X), Y)


def step(model):
    loss_of(model).backward()


def mlp(*layers, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 6), *layers, nn.Linear(6, 3)).double()


def agree(got, expected):
    assert {key: value for key, value in got.items() if key in expected} == pytest.approx(expected, rel=1e-12, abs=0)
    assert not {key for key in got if key[0].endswith("path")}


@pytest.mark.parametrize("inplace", [False, True])
def test_every_tensor_of_an_mlp_with_dropout(tmp_path, inplace):
    model = mlp(nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(inplace), nn.Dropout(0.2))
    sites = {"1": "activation", "2": "dropout", "4": "activation", "5": "dropout"}
    plain = mlp(nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.2))
    plain.load_state_dict(model.state_dict())
    expected = kept(plain, step, sites)
    run = recorded(tmp_path / "run", model, step)
    agree(read(run), expected)
    assert set(read(run)) == set(expected)
    assert layout(run) == [
        ("net", "1", 0), ("node", "1", 0), ("mask_input", "2", 0), ("mask_output", "2", 0),
        ("net", "4", 0), ("node", "4", 0), ("mask_input", "5", 0), ("mask_output", "5", 0), ("output", "(output)", 0),
    ]  # fmt: skip
    assert [r["between"] for r in run.meta["chain"]] == ["tanh", "", "product", "3", "relu", "", "product", "6", ""]
    assert [r["why"] for r in run.meta["chain"]] == [None] * 9
    for layer in ("1", "4"):
        assert flow(run, layer) == pytest.approx(expected["net", layer, 0], rel=1e-12)


def test_a_cnn_with_batch_norm_and_pooling(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.3),
        nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, 3),
    ).double()  # fmt: skip
    x = torch.randn(6, 1, 12, 12, dtype=torch.float64)

    def train(model):
        F.cross_entropy(model(x), torch.tensor([0, 1, 2, 0, 1, 2])).backward()

    expected = kept(model, train, {"2": "activation", "4": "dropout", "7": "activation"})
    run = recorded(tmp_path / "run", model, train)
    agree(read(run), expected)
    assert row(run, "node", "2")["between"] == "max pooling"
    assert row(run, "mask_output", "4")["between"] == "5, batch norm"
    assert row(run, "node", "7")["between"] == "mean, 10"
    assert flow(run, "2") == pytest.approx(expected["net", "2", 0], rel=1e-12)


class Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = F.dropout(torch.tanh(self.a(x)), 0.5, self.training)
        return self.c(F.dropout(F.relu(self.b(x)), 0.2, self.training))


class Modules(Functions):
    def __init__(self):
        super().__init__()
        self.tanh, self.relu, self.drop1, self.drop2 = nn.Tanh(), nn.ReLU(), nn.Dropout(0.5), nn.Dropout(0.2)

    def forward(self, x):
        return self.c(self.drop2(self.relu(self.b(self.drop1(self.tanh(self.a(x)))))))


def test_functions_are_read_as_modules_are(tmp_path):
    torch.manual_seed(0)
    model = Functions().double()
    modules = Modules().double()
    modules.load_state_dict(model.state_dict())
    names = {"tanh": "a:tanh", "relu": "b:relu", "drop1": "a:dropout", "drop2": "b:dropout"}
    kinds = {"tanh": "activation", "relu": "activation", "drop1": "dropout", "drop2": "dropout"}
    expected = {
        (quantity, names.get(layer, layer), call): value
        for (quantity, layer, call), value in kept(modules, step, kinds).items()
    }
    got = read(recorded(tmp_path / "run", model, step))
    assert set(got) == set(expected)
    agree(got, expected)


@pytest.mark.parametrize("where", ["before", "after", "inputs", "linear"])
def test_dropout_anywhere(tmp_path, where):
    layers = {
        "before": [nn.Dropout(0.5), nn.Tanh()],
        "after": [nn.Tanh(), nn.Dropout(0.5)],
        "inputs": [nn.Tanh(), nn.Identity()],
        "linear": [nn.Tanh(), nn.Linear(6, 6), nn.Dropout(0.5)],
    }[where]
    model = mlp(*layers)
    if where == "inputs":
        model.insert(0, nn.Dropout(0.5))
    kinds = {nn.Tanh: "activation", nn.Dropout: "dropout"}
    sites = {name: kinds[type(m)] for name, m in model.named_children() if type(m) in kinds}
    expected = kept(model, step, sites)
    run = recorded(tmp_path / "run", model, step)
    assert set(read(run)) == set(expected)
    agree(read(run), expected)
    tanh = next(name for name, m in model.named_children() if type(m) is nn.Tanh)
    assert flow(run, tanh) == pytest.approx(expected["net", tanh, 0], rel=1e-12)


def test_an_activation_module_that_is_used_several_times(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.phi = nn.Linear(7, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Tanh()

        def forward(self, x):
            return self.c(self.phi(self.b(self.phi(self.a(x)))))

    torch.manual_seed(0)
    model = Shared().double()
    expected = kept(model, step, {"phi": "activation"})
    run = recorded(tmp_path / "run", model, step)
    assert set(read(run)) == set(expected)
    agree(read(run), expected)
    assert after(run, "node", "phi", 0) == ("net", "phi", 1)
    assert flow(run, "phi", 0) == pytest.approx(expected["net", "phi", 0], rel=1e-12)
