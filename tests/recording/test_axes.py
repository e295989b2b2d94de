"""Which dimension counts nodes, against a reader that is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError

PROBES = ("node_correlation", "training_node_correlation", "net_values")

# Networks here are not trained, or are a dropout alone: neither is what they test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:rec.step"),
    pytest.mark.filterwarnings("ignore:no activation function is known"),
]


class Told(nn.Module):
    """Keeps what its activations give, and which dimensions count their nodes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kept: dict[tuple[str, int], tuple[Tensor, tuple[int, ...]]] = {}

    def keep(self, layer: str, h: Tensor, *dims: int, call: int = 0) -> Tensor:
        self.kept[layer, call] = h.detach().clone(), dims
        return h


class ConvPermute(Told):
    """The failure that was: time positions of a 1-D convolution were taken for its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.head, self.tanh = nn.Conv1d(3, 16, 3, padding=1), nn.Linear(16, 5), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        h = self.keep("conv1:relu", F.relu(self.conv1(x).permute(0, 2, 1)), 2)
        h = self.keep("tanh", self.tanh(h), 2)
        return self.keep("head:sigmoid", torch.sigmoid(self.head(h).transpose(1, 2)), 1)


class Patches(Told):
    """Embeds patches as a vision transformer does, and splits its features into heads."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.out = nn.Conv2d(3, 12, 2, 2), nn.Linear(12, 36), nn.Linear(12, 12)
        self.norm, self.cls, self.gelu = nn.LayerNorm(12), nn.Parameter(torch.randn(1, 1, 12)), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = self.keep("gelu", self.gelu(self.norm(torch.cat([self.cls.expand(len(x), -1, -1), h], 1))), 2)
        q, k, v = self.qkv(h).reshape(len(x), h.shape[1], 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        q = self.keep("qkv:celu", torch.celu(q), 1, 3)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ self.keep("qkv:tanh", torch.tanh(v), 1, 3)
        h = mixed.transpose(1, 2).reshape(h.shape)
        h = self.keep("(model):silu", F.silu(h), 2)
        return self.keep("out:relu", F.relu(self.out(h)[:, 0]), 1)


class ChannelsLast(Told):
    """A block as ConvNeXt has them: an MLP over channels between two permutations."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.up, self.down = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Linear(6, 24), nn.Linear(24, 6)
        self.norm, self.act, self.last = nn.LayerNorm(6), nn.GELU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.deep(x).permute(0, 2, 3, 1))
        h = self.keep("act", self.act(self.up(h)), 3)
        h = self.keep("down:tanh", self.down(h).permute(0, 3, 1, 2).tanh(), 1)
        return self.keep("last", self.last(x + F.max_pool2d(h, 3, 1, 1)), 1)


class Recurrent(Told):
    """Functions and modules on what an LSTM gives, by time first and by batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.conv, self.act = nn.LSTM(4, 7), nn.Conv1d(7, 9, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h, (last, _) = self.lstm(x)
        h = self.keep("act", self.act(h.transpose(0, 1).contiguous().movedim(-1, 1)), 1)
        state = self.keep("lstm:tanh", torch.tanh(last.squeeze(0)), 1)
        return self.keep("conv:relu", self.conv(h).mean(2).relu() * state.sum(), 1).detach() + self.conv(h).mean()


class Products(Told):
    """Weights that are no layers: matrix products, einsum, a masked weight; and halves of features."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.heads = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(8, 2, 6))
        self.left = nn.Parameter(torch.randn(10, 4))
        self.register_buffer("mask", (torch.rand(5, 8) > 0.3).float())

    def forward(self, x: Tensor) -> Tensor:
        h = self.keep("w:relu", F.relu(x @ (self.w * self.mask)), 2)
        h = self.keep("heads:tanh", torch.einsum("btc,chd->bhtd", h, self.heads).tanh(), 1, 3)
        h = self.keep("heads:gelu", F.gelu(h.permute(0, 2, 1, 3).flatten(2)), 2)
        a, b = h.chunk(2, -1)
        h = self.keep("heads:sigmoid", torch.sigmoid(a) * 1.0, 2) * b
        return self.keep("left:relu", F.relu(self.left @ h[:, :4]), 1)


CASES = [
    (ConvPermute, (6, 3, 8)),
    (Patches, (5, 3, 6, 6)),
    (ChannelsLast, (4, 6, 5, 5)),
    (Recurrent, (9, 5, 4)),
    (Products, (7, 6, 5)),
]


def width_and_correlation(h: Tensor, dims: tuple[int, ...]) -> tuple[int, float]:
    """Read a tensor's nodes with numpy: every pair that is not constant."""
    values = np.moveaxis(h.double().numpy(), dims, range(len(dims)))
    nodes = values.reshape(int(np.prod(values.shape[: len(dims)])), -1)
    moving = nodes[nodes.std(1) > 0]
    r = np.corrcoef(moving)[np.triu_indices(len(moving), 1)]
    return len(nodes), float(np.abs(r).mean())


def check(run: dd.Run, phase: str, kept: dict[tuple[str, int], tuple[Tensor, tuple[int, ...]]]) -> None:
    rows = run.scalars[(run.scalars["phase"] == phase) & (run.scalars["step"] == run.scalars["step"].max())]
    found = {(r.layer, r.call, r.quantity): r.value for r in rows.itertuples()}
    assert {(layer, call) for layer, call, name in found if name == "node_correlation_width"} - {("lstm", 0)} == set(
        kept
    )
    for (layer, call), (h, dims) in kept.items():
        width, correlation = width_and_correlation(h, dims)
        assert found[layer, call, "node_correlation_width"] == width, layer
        assert found[layer, call, "node_correlation_abs_mean"] == pytest.approx(correlation, rel=1e-4), layer


@pytest.mark.parametrize(("kind", "shape"), CASES, ids=[kind.__name__ for kind, _ in CASES])
def test_nodes_are_the_features_of_the_layer_before_in_training_and_evaluation(kind, shape, tmp_path):
    model, steps = kind(), 13  # more than are looked at for functions that are new
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        for _ in range(steps):
            model(torch.randn(shape)).sum().backward()
            rec.step()
        trained = dict(model.kept)
        with rec.evaluation(), torch.no_grad():
            model.eval()(torch.randn(shape))
    run = dd.load(tmp_path / "run")
    check(run, "train", trained)
    check(run, "eval", model.kept)
    rows = [row for row in rec.coverage() if row.kind == "activation" and row.skipped is None]
    for row in rows:
        h, dims = model.kept[row.layer, row.call]
        places = [str(d % h.ndim) for d in dims]
        assert row.nodes.startswith(f"dim{'s' * (len(dims) > 1)} {' and '.join(places)}, after "), row


def test_modules_alone_are_learned_and_nothing_is_intercepted_after(tmp_path):
    class Modules(Told):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.conv, self.act = nn.Linear(8, 8), nn.Conv1d(3, 16, 1), nn.ReLU()
            self.linear2 = nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            h = self.keep("act", self.act(self.conv(x)), 1)
            return self.keep("act", self.act(self.linear2(self.linear(h))), 2, call=1)

    model = Modules()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        for _ in range(13):
            model(torch.randn(5, 3, 8)).sum().backward()
            assert not rec._session.router.intercepting
            rec.step()
        assert not rec._session.router.intercept
    check(dd.load(tmp_path / "run"), "train", model.kept)


def test_a_call_whose_dimension_changes_is_followed_in_every_pass(tmp_path):
    class Either(Told):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear, self.act, self.turn = nn.Conv1d(3, 16, 1), nn.Linear(8, 16), nn.ReLU(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.turn += 1
            if self.turn % 2:
                return self.keep("act", self.act(self.conv(x)), 1)
            return self.keep("act", self.act(self.linear(x)), 2)

    model = Either()
    rec = dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True)
    for _ in range(14):
        model(torch.randn(5, 3, 8)).sum().backward()
        rec.step()
    rec.close()
    check(dd.load(tmp_path / "run"), "train", model.kept)
    model = Either()
    rec = dd.Recorder(model, tmp_path / "odd", probes=PROBES, every=1, strict=True)
    for _ in range(15):
        model(torch.randn(5, 3, 8)).sum().backward()
        rec.step()
    rec.close()
    check(dd.load(tmp_path / "odd"), "train", model.kept)


def test_what_cannot_be_followed_is_said(tmp_path):
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.fft.rfft(self.conv(x), dim=1).real)

    model = Spectrum()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        model(torch.randn(5, 3, 8)).sum().backward()
        rec.step()
        (row,) = [row for row in rec.coverage() if row.kind == "activation"]
    assert row.layer == "(model):relu"
    assert row.nodes == "second of 3, as no layer could be followed and those registered before have it there"
    assert [r["nodes"] for r in dd.load(tmp_path / "run").meta["coverage"] if r["kind"] == "activation"] == [row.nodes]


def test_node_axis_overrides_what_is_followed(tmp_path):
    model = ConvPermute()
    axes = {"conv1:*": 1, "tanh": -2}
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, node_axis=axes, strict=True) as rec:
        model(torch.randn(6, 3, 8)).sum().backward()
        rec.step()
        said = {row.layer: row.nodes for row in rec.coverage() if row.kind == "activation"}
    assert said == {
        "conv1:relu": "dim 1, by node_axis=",
        "tanh": "dim 1, by node_axis=",
        "head:sigmoid": "dim 1, after head",
    }
    (relu, _), (tanh, _), sigmoid = (model.kept[layer, 0] for layer in said)
    check(
        dd.load(tmp_path / "run"),
        "train",
        {("conv1:relu", 0): (relu, (1,)), ("tanh", 0): (tanh, (1,)), ("head:sigmoid", 0): sigmoid},
    )


@pytest.mark.parametrize("wrong", [3, {"tanh": "last"}, {"tanh": True}, {1: 1}])
def test_node_axis_is_checked(wrong, tmp_path):
    with pytest.raises(ArgumentError, match=r"node_axis= takes a dict of layer pattern -> dimension"):
        dd.Recorder(ConvPermute(), tmp_path / "run", node_axis=wrong)
    assert not (tmp_path / "run").exists()


def test_a_pattern_of_node_axis_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"the pattern 'thanh', which matches no activation; they are tanh, and"):
        dd.Recorder(ConvPermute(), tmp_path / "run", node_axis={"thanh": 1})
