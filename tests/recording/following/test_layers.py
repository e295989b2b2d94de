"""What functional sites are called: after the layer whose output reaches them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import dropdiag as dd


class Net(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward, **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def sites(model: nn.Module, x: Tensor, folder, **options) -> list[tuple[str, int]]:
    """Record one step; return the functional calls, activations before dropouts."""
    with dd.Recorder(model, folder, every=1, strict=True, **options) as rec:
        model(x).sum().backward()
        rec.step()
    return [(row.layer, row.call) for row in rec.coverage() if row.functional and (row.fired or row.kind == "dropout")]


def linear(n: int = 6) -> nn.Linear:
    return nn.Linear(6, n)


class Own(nn.Module):
    """A layer of a user's own, with its own weight."""

    def __init__(self, name: str = "weight", *, inner: bool = False) -> None:
        super().__init__()
        self.own, self.inner = name, inner
        self.register_parameter(name, nn.Parameter(torch.randn(6, 6)))

    def forward(self, x: Tensor) -> Tensor:
        h = x @ getattr(self, self.own)
        return h.relu() if self.inner else h


class Plain(Own):
    """The same without an activation inside."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, getattr(self, self.own))


class ScaleNorm(nn.Module):
    """A norm of a user's own, of elementwise functions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def _mlp(self, x):
    return F.dropout(F.relu(self.fc1(x)), 0.5)


def _norms(self, x):
    h = F.relu(self.bn1(self.c1(x[:, :, None])))
    return torch.tanh(self.norm(self.fc1(h.flatten(1))))


def _residual(self, x):
    h = self.fc1(x)
    h = h + self.fc2(h)
    return F.gelu(self.norm(h)) * F.silu(h) + F.relu(self.bn1(h))


def _far(self, x):
    h = self.fc1(x).view(-1, 2, 3).transpose(1, 2).flatten(1)
    a, b = h.chunk(2, -1)
    return torch.sigmoid(a * 2 + 1) * torch.tanh(b)


CASES = {
    "a layer and its dropout": (Net(_mlp, fc1=linear()), ["fc1:relu", "fc1:dropout"]),
    "norms follow": (
        Net(_norms, c1=nn.Conv1d(6, 6, 1), bn1=nn.BatchNorm1d(6), norm=ScaleNorm(), fc1=linear()),
        ["c1:relu", "fc1:tanh"],
    ),
    "several layers meet": (
        Net(_residual, fc1=linear(), fc2=linear(), norm=nn.LayerNorm(6), bn1=nn.BatchNorm1d(6)),
        ["norm:gelu", "(model):silu", "bn1:relu"],
    ),
    "views and halves": (Net(_far, fc1=linear()), ["fc1:sigmoid", "fc1:tanh"]),
    "one layer twice": (
        Net(lambda self, x: F.relu(self.fc1(F.relu(self.fc1(x)))), fc1=linear()),
        ["fc1:relu", "fc1:relu"],
    ),
    "settings": (
        Net(lambda self, x: F.leaky_relu(self.fc1(x), 0.2), fc1=linear()),
        ["fc1:leaky_relu(0.2)"],
    ),
    "no layer": (Net(lambda self, x: self.fc1(F.relu(x)), fc1=linear()), ["(model):relu"]),
    "a layer of one's own": (Net(lambda self, x: F.relu(self.c1(x)), c1=Plain("kernel")), ["c1:relu"]),
    "weights without modules": (
        Net(
            lambda self, x: F.relu(x @ self.w1).mm(self.ws[0].t()).tanh(),
            w1=nn.Parameter(torch.randn(6, 6)),
            ws=nn.ParameterList([torch.randn(6, 6)]),
        ),
        ["w1:relu", "ws.0:tanh"],
    ),
    "parametrised weights": (
        Net(
            lambda self, x: F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))),
            a=parametrizations.weight_norm(linear()),
            b=parametrizations.spectral_norm(linear()),
            c=parametrizations.orthogonal(linear()),
        ),
        ["a:relu", "b:relu", "c:relu"],
    ),
    "a shared weight": (
        Net(
            lambda self, x: F.relu(self.b(torch.sigmoid(self.a(x)))),
            a=(shared := linear()),
            b=Net(lambda self, x: F.linear(x, self.weight), weight=shared.weight),
        ),
        ["a:sigmoid", "b:relu"],
    ),
    "in a sequence": (Net(lambda self, x: F.relu(self.body(x)), body=nn.Sequential(linear(), nn.BatchNorm1d(6))),
                      ["body.0:relu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_named_after_the_layer_whose_output_reaches_it(name, tmp_path):
    model, expected = CASES[name]
    found = sites(model, torch.randn(4, 6), tmp_path / "run")
    calls = [(layer, expected[:at].count(layer)) for at, layer in enumerate(expected)]
    assert sorted(found) == sorted(calls)


@pytest.mark.parametrize("first", [True, False])
def test_inside_a_layer_and_after_it_are_told_apart_whichever_runs_first(first, tmp_path):
    layer = Own(inner=first)
    model = Net(lambda self, x: F.relu(self.c1(x)), c1=layer)
    rec = dd.Recorder(model, tmp_path / "run", every=1, strict=True)
    for inner in (first, not first):
        layer.inner = inner
        model(torch.randn(4, 6)).sum().backward()
        rec.step()
    rec.close()
    fired = {(row.layer, row.call): row.fired for row in rec.coverage() if row.functional}
    assert fired == {("c1:relu", 0): 1, ("c1:relu@(model)", 0): 2}
    rows = {
        row["layer"]: row.get("formerly") for row in dd.load(tmp_path / "run").meta["layers"] if ":" in row["layer"]
    }
    assert rows == {"c1:relu": [["c1:relu", 0]], "c1:relu@(model)": [["(model):relu", 0]]}


def test_what_version_1_called_each_call_is_kept(tmp_path):
    model = Net(lambda self, x: F.relu(self.b(F.relu(self.a(F.relu(self.a(x)))))), a=linear(), b=linear())
    sites(model, torch.randn(4, 6), tmp_path / "run")
    rows = {row["layer"]: row.get("formerly") for row in dd.load(tmp_path / "run").meta["layers"]}
    assert rows["a:relu"] == [["(model):relu", 0], ["(model):relu", 1]]
    assert rows["b:relu"] == [["(model):relu", 2]]
    assert rows["a"] is None


def test_patterns_take_the_former_names_as_well(tmp_path):
    def model():
        return Net(lambda self, x: torch.tanh(self.b(F.relu(self.a(x)))), a=linear(), b=linear())

    x = torch.randn(4, 6)
    assert sites(model(), x, tmp_path / "a", exclude="(model):relu") == [("b:tanh", 0)]
    assert sites(model(), x, tmp_path / "b", exclude="a:relu") == [("b:tanh", 0)]
    assert sites(model(), x, tmp_path / "c", include=["a", "(model):tanh"]) == [("b:tanh", 0)]


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_block_that_is_recomputed_has_the_names_of_its_first_pass(reentrant, tmp_path):
    block = Net(lambda self, h: self.b(F.relu(h)).tanh(), b=linear())
    model = Net(lambda self, x: checkpoint(self.block, self.a(x), use_reentrant=reentrant), a=linear(), block=block)
    assert sites(model, torch.randn(4, 6), tmp_path / "run") == [("a:relu", 0), ("block.b:tanh", 0)]
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")
    assert set(flow["layer"]) == {"a:relu", "block.b:tanh"}
    assert (flow["value"] > 0).all()
