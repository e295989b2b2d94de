"""Recording inside torch.compile: no graph break, the same numbers, the same training."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from tests.networks import batches, mlp

# torch's own: the compiler uses what torch itself has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch"),
    pytest.mark.usefixtures("fresh_compiler"),
]

BACKENDS = ["eager", "aot_eager", "inductor"]


class Block(nn.Module):
    """An in-place activation, GAAF, one module used twice, a recurrent output's stand-in and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.out = (nn.Linear(i, o) for i, o in ((12, 16), (16, 16), (16, 16), (16, 3)))
        self.relu, self.tanh, self.gaaf, self.drop = nn.ReLU(inplace=True), nn.Tanh(), dd.GAAF("tanh"), nn.Dropout(0.4)

    def forward(self, x):
        x = self.drop(self.relu(self.a(x)))
        x = self.drop(self.tanh(self.b(x)))
        return self.out(self.drop(self.gaaf(self.tanh(self.c(x)))))


def steps(model, forward, recorder=None, count=5):
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for x, y in batches(count):
        loss = F.cross_entropy(forward(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if recorder is not None:
            recorder.step(loss=loss)
    return [*losses, *(p.detach().clone() for p in model.parameters()), torch.get_rng_state()]


def same(a, b):
    assert len(a) == len(b)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def eager_run(path, build):
    model = build()
    with dd.Recorder(model, path, probes="full", every=1, strict=True) as rec:
        steps(model, model, rec)
    return dd.load(path)


def assert_same_numbers(a, b, exact):
    for quantity in ("net_value", "node_value", "net_grad"):
        left, right = a.histograms(quantity, "all", "train"), b.histograms(quantity, "all", "train")
        assert left[["step", "layer", "call"]].equals(right[["step", "layer", "call"]])
        assert len(left) > 0
        for x, y in zip(left["histogram"], right["histogram"], strict=True):
            assert x.n == y.n
            if exact:
                assert x == y
    key = ["step", "layer", "call", "quantity"]
    left, right = (r.scalars.dropna(subset="layer").sort_values(key) for r in (a, b))
    # Of a compiled dropout the rate alone is known, once a step, however often it is called. What flow is made of is not.
    apart = "dropout_|dropped_|(node|mask_input|mask_output|output|path|input_path)_grad_abs_mean"
    left, right = (f[~f["quantity"].str.match(apart)] for f in (left, right))
    assert left[key].values.tolist() == right[key].values.tolist()
    flow = (left["quantity"] == "net_grad_abs_mean").to_numpy()
    np.testing.assert_allclose(left["value"][flow], right["value"][flow], rtol=1e-4)


def needs_a_compiler(backend):
    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("inductor needs a C++ compiler on the path")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_compiled_with_equals_compiled_without_and_records_what_passes(tmp_path, backend, when):
    needs_a_compiler(backend)
    bare = Block()
    expected = steps(bare, torch.compile(bare, backend=backend, fullgraph=True))

    model = Block()
    if when == "before":  # compiled first, attached to the compiled model later, after it has run
        forward = torch.compile(model, backend=backend, fullgraph=True)
        rec = dd.Recorder(forward, tmp_path / "run", probes="full", every=1, strict=True)
    else:
        rec = dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True)
        forward = torch.compile(model, backend=backend, fullgraph=True)
    with rec:
        same(steps(model, forward, rec), expected)
        (row,) = [row for row in rec.coverage() if row.kind == "dropout"]
    assert (row.fired, row.dropout) == (
        5,
        "rate 0.4, grain element; rate alone: the mask is drawn inside torch.compile",
    )
    dropped = dd.load(tmp_path / "run").scalars.query("layer == 'drop'")
    assert dropped[["quantity", "value"]].values.tolist() == [["dropout_rate", 0.4]] * 5
    # Inductor draws other dropout masks than eager: its numbers are held against a model without dropout below.
    if backend != "inductor":
        assert_same_numbers(dd.load(tmp_path / "run"), eager_run(tmp_path / "eager", Block), exact=True)


def test_inductor_records_the_numbers_of_eager_where_nothing_is_random(tmp_path):
    needs_a_compiler("inductor")

    def build():
        model = Block()
        model.drop.p = 0.0
        return model

    model = build()
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
        steps(model, torch.compile(model, fullgraph=True), rec)
    assert_same_numbers(dd.load(tmp_path / "run"), eager_run(tmp_path / "eager", build), exact=False)


def test_a_model_that_ran_compiled_before_it_was_recorded_is_recorded(tmp_path):
    model = mlp()
    forward = torch.compile(model, backend="aot_eager", fullgraph=True)
    steps(model, forward, count=2)
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        steps(model, forward, rec, count=2)
    assert dd.load(tmp_path / "run").histogram("net_value", "1", step=2, phase="train").n == 20 * 16
    steps(model, forward, count=1)


def test_a_second_model_of_the_same_structure_is_recorded(tmp_path):
    for name in ("base", "dropout"):
        model = mlp()
        steps(model, torch.compile(model, backend="aot_eager", fullgraph=True), count=1)
        with dd.Recorder(model, tmp_path / name, every=1) as rec:
            steps(model, torch.compile(model, backend="aot_eager", fullgraph=True), rec, count=2)
        run = dd.load(tmp_path / name)
        assert len(run.scalars.query("quantity == 'net_grad_abs_mean'")) == 6


def test_a_schedule_compiles_nothing_anew(tmp_path):
    model = mlp()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with dd.Recorder(model, tmp_path / "run", every=lambda step: step % 3 == 0) as rec:
        forward = torch.compile(model, backend=backend, fullgraph=True)
        steps(model, forward, rec, count=12)
        assert len(graphs) == 1
        model.eval()
        with rec.evaluation(), torch.no_grad():
            forward(next(batches(1))[0])
        assert len(graphs) == 2
        unseen = [row for row in rec.coverage() if row.layer == "(compiled)"]
        assert "functional calls inside torch.compile are not seen" in unseen[0].skipped
    run = dd.load(tmp_path / "run")
    assert sorted(run.histograms("net_value", "all", "train")["step"].unique()) == [3, 6, 9, 12]
    assert len(run.scalars.query("quantity == 'net_grad_abs_mean' and layer == '1'")) == 12
    assert run.histogram("net_value", "1", phase="eval").n == 20 * 16


def test_the_compilers_setting_is_given_back(tmp_path):
    before = torch._dynamo.config.skip_nnmodule_hook_guards
    with dd.Recorder(mlp(), tmp_path / "run"):
        assert torch._dynamo.config.skip_nnmodule_hook_guards is False
    assert torch._dynamo.config.skip_nnmodule_hook_guards == before


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_two_forwards_before_one_backward(tmp_path, backend):
    needs_a_compiler(backend)
    x = next(batches(1))[0]

    def loss(forward):
        torch.manual_seed(0)
        return (forward(x) - forward(x + 1)).pow(2).mean()

    bare, model = mlp(), mlp()
    expected = loss(torch.compile(bare, backend=backend, fullgraph=True))
    expected.backward()
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        got = loss(torch.compile(model, backend=backend, fullgraph=True))
        got.backward()
        rec.step()
    same([expected, *(p.grad for p in bare.parameters())], [got, *(p.grad for p in model.parameters())])
    assert dd.load(tmp_path / "run").histogram("net_value", "1", phase="train").n == 2 * 20 * 16
    assert np.isfinite(dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")["value"]).all()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_part_of_an_eager_model(tmp_path, backend):
    needs_a_compiler(backend)

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp()

        def forward(self, x):
            return self.body(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = Inner(), nn.Linear(3, 3)
            self.inner.compile(backend=backend, fullgraph=True)

        def forward(self, x):
            return self.out(F.softplus(self.inner(x)))

    bare, model = Outer(), Outer()
    model.load_state_dict(bare.state_dict())
    expected = steps(bare, bare)
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        same(steps(model, model, rec), expected)
        assert any(row.layer == "(compiled)" for row in rec.coverage())
    layers = set(dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")["layer"])
    assert layers == {"inner.body.1", "inner.body.4", "inner.body.7", "(model):softplus"}
