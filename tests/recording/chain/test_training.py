"""The chain in training loops that are no plain ones: what is missing is null, and run.json says why."""

import gc
import weakref
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from tests.recording.chain.reading import PROBES, flow, kept, read, recorded, row, size

X = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randint(3, (8,), generator=torch.Generator().manual_seed(2))
KINDS = {
    nn.Tanh: ("net", "node"), nn.ReLU: ("net", "node"), nn.Dropout: ("mask_input", "mask_output"),
}  # fmt: skip
SITES = {"1": "activation", "2": "dropout", "4": "activation"}


def network():
    torch.manual_seed(0)
    layers = nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers).double()


def step(model):
    F.cross_entropy(model(X), Y).backward()


def test_micro_batches_are_averaged_as_gradient_flow_is(tmp_path):
    halves = [(X[:3], Y[:3]), (X[3:], Y[3:])]

    def train(model):
        for x, y in halves:
            (F.cross_entropy(model(x), y) * len(x) / len(X)).backward()

    values = read(recorded(tmp_path / "run", network(), train))
    twin, found = network(), defaultdict(list)

    def keep(module, inputs, output):
        for kind, tensor in zip(KINDS[type(module)], (inputs[0], output), strict=True):
            tensor.register_hook(found[kind, names[module]].append)

    names = {module: name for name, module in twin.named_children() if name in SITES}
    for module in names:
        module.register_forward_hook(keep)
    torch.manual_seed(0)
    train(twin)
    assert {len(gradients) for gradients in found.values()} == {2}
    expected = {(kind, layer, 0): size(torch.cat(gradients)) for (kind, layer), gradients in found.items()}
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-12)


def test_the_scale_of_the_loss_is_divided_out(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    plain = read(recorded(tmp_path / "plain", network(), step))

    def train(model):
        scaler.scale(F.cross_entropy(model(X), Y)).backward()

    scaled = read(recorded(tmp_path / "scaled", network(), train, scaler=scaler))
    assert scaled == pytest.approx(plain, rel=1e-12)


def test_padding_is_left_out(tmp_path):
    x, mask = torch.randn(4, 6, 5, dtype=torch.float64), torch.ones(4, 6, dtype=torch.bool)
    mask[1, 3:] = mask[2, 1:] = False
    model = network()
    gradients = {}

    def keep(name):
        def hook(_module, _inputs, output):
            output.register_hook(lambda g: gradients.update({name: g}))

        return hook

    for name in SITES:
        model.get_submodule(name).register_forward_hook(keep(name))

    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        with rec.padding(mask):
            model(x).square().sum().backward()
        rec.step()
    values = read(dd.load(tmp_path / "run"))
    for name, kind in (("1", "node"), ("2", "mask_output"), ("4", "node")):
        assert values[kind, name, 0] == pytest.approx(size(gradients[name][mask]), rel=1e-12)


def test_gradients_that_are_only_asked_for_count_nowhere(tmp_path):
    model = network().requires_grad_()

    def penalised(model):
        x = X.clone().requires_grad_()
        output = model(x)
        (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        (F.cross_entropy(output, Y) + 0 * slope.square().sum()).backward()

    plain = read(recorded(tmp_path / "plain", network(), step))
    values = read(recorded(tmp_path / "run", model, penalised))
    # the penalty's own graph passes z and h as well, with a gradient of zero
    shared = {key: value for key, value in plain.items() if key in values}
    assert {key: values[key] for key in shared} == pytest.approx(shared, rel=1e-12)


def test_two_losses_leave_what_they_share_missing(tmp_path):
    def train(model):
        output = model(X)
        F.cross_entropy(output, Y).backward(retain_graph=True)
        output.square().sum().backward()

    with pytest.warns(dd.DropdiagWarning):
        run = recorded(tmp_path / "run", network(), train)
    values = read(run)
    assert set(values) == {*read(recorded(tmp_path / "plain", network(), step))}
    assert all(value is None for value in values.values())


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint(tmp_path, reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network()

        def forward(self, x):
            head = self.layers[:1](x)
            return self.layers[5:](checkpoint(self.layers[1:5], head, use_reentrant=reentrant))

    model = Checkpointed()
    expected = {
        (kind, layer if kind == "output" else f"layers.{layer}", call): value
        for (kind, layer, call), value in kept(network(), step, SITES).items()
    }
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    if not reentrant:
        assert values == pytest.approx(expected, rel=1e-12)
        assert flow(run, "layers.1") == pytest.approx(values["net", "layers.1", 0], rel=1e-12)
        return
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert {value for (kind, _, _), value in values.items() if "path" in kind} == {None}
    assert "outside of the model's own forward pass" in row(run, "node", "layers.1")["why"]


def test_a_part_that_is_called_by_itself_is_read_and_linked_to_nothing(tmp_path):
    model = network()
    values = {}

    def train(model):
        F.cross_entropy(model[5](model[:5](X)), Y).backward()

    with pytest.warns(dd.DropdiagWarning):
        run = recorded(tmp_path / "run", model, train)
    values = read(run)
    expected = {key: value for key, value in kept(network(), step, SITES).items() if key[0] != "output"}
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert values["path", "1", 0] is None
    assert row(run, "node", "1")["why"]


def test_a_user_that_comes_late_is_missing_once_and_then_told_apart(tmp_path):
    model, hidden = network(), []
    model[1].register_forward_hook(lambda *a: hidden.append(a[-1]))
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        for number in range(5):
            model.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            (loss + (hidden[-1].square().sum() if number in (2, 3) else 0)).backward()
            rec.step()
    run = dd.load(tmp_path / "run")
    assert not {("input_path", "2", 0)} & {*read(run, 1), *read(run, 2)}
    assert read(run, 3)["input_path", "2", 0] is None
    fourth, fifth = read(run, 4), read(run, 5)
    assert 0 < fourth["input_path", "2", 0] < fourth["node", "1", 0]
    assert fifth["input_path", "2", 0] == fifth["node", "1", 0]
    assert "changed" in row(run, "mask_input", "2")["why"]


def test_a_layer_that_is_left_out_now_and_then(tmp_path):
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.phi_a, self.phi_b, self.whole = nn.Tanh(), nn.Tanh(), True

        def forward(self, x):
            x = self.phi_a(self.a(x))
            return self.c(self.phi_b(self.b(x)) if self.whole else x)

    model = Drops().double()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for number in range(6):
            model.whole = number % 2 == 0
            step(model)
            optimizer.step()
            rec.step()
    run = dd.load(tmp_path / "run")
    assert row(run, "node", "phi_a")["next"] is None
    assert "another tensor" in row(run, "node", "phi_a")["why"]
    for number in range(1, 7):
        assert not [key for key, value in read(run, number).items() if value is None]


def test_what_is_compiled_is_missing_and_the_reason_said(tmp_path):
    model = torch.compile(network().float(), backend="aot_eager")
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        F.cross_entropy(model(X.float()), Y).backward()
        rec.step()
        coverage = rec.coverage()
    run = dd.load(tmp_path / "run")
    assert {key[0] for key in read(run)} == {"net"}
    assert "torch.compile" in row(run, "output", "(output)")["why"]
    assert any("torch.compile" in (line.chain or "") for line in coverage)


def test_nothing_of_a_graph_outlives_its_step(tmp_path):
    model = network()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        for backward in (True, False, True):
            output = model(X)
            if backward:
                F.cross_entropy(output, Y).backward()
            gone = weakref.ref(output.untyped_storage()), weakref.ref(output)
            del output
            gc.disable()
            try:
                assert gone[1]() is None  # at once, before anything is collected: there is no cycle
                rec.step()
            finally:
                gc.enable()


def test_a_resumed_run_goes_on_with_its_layout(tmp_path):
    def train(rec, model):
        step(model)
        rec.step()

    model = network()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1) as rec:
        train(rec, model)
    before = dd.load(tmp_path / "run").meta["chain"]
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, resume=True) as rec:
        assert dd.load(tmp_path / "run").meta["chain"] == before
        train(rec, model)
    run = dd.load(tmp_path / "run")
    assert run.meta["chain"] == before
    assert set(read(run, 1)) == set(read(run, 2))


def test_a_view_that_is_overwritten(tmp_path):
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.inplace = nn.Linear(5, 12), nn.Linear(6, 3), False

        def forward(self, x):
            z = self.a(x).view(-1, 2, 6)
            return self.b(F.relu_(z) if self.inplace else F.relu(z))

    plain, model = Overwrites().double(), Overwrites().double()
    model.inplace = True
    expected = read(recorded(tmp_path / "plain", plain, lambda m: m(X).square().sum().backward()))
    values = read(recorded(tmp_path / "run", model, lambda m: m(X).square().sum().backward()))
    names = {"a:relu": "a:relu", "a:relu_": "a:relu"}
    got = {(kind, names.get(layer, layer), call): value for (kind, layer, call), value in values.items()}
    assert got == pytest.approx(expected, rel=1e-12)


def test_a_gated_unit(tmp_path):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.kept = nn.Linear(5, 12), nn.Linear(6, 3), None

        def forward(self, x):
            self.kept = F.glu(self.a(x))
            self.kept.retain_grad()
            return self.b(self.kept)

    model = Gated().double()
    run = recorded(tmp_path / "run", model, lambda m: m(X).square().sum().backward())
    values = read(run)
    assert values["node", "a:glu", 0] == pytest.approx(size(model.kept.grad), rel=1e-12)
    assert flow(run, "a:glu") == pytest.approx(values["net", "a:glu", 0], rel=1e-12)
