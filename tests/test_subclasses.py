"""Tensor subclasses: their memory is never written, and they are refused by name until they can be read."""

import warnings

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.probes import Probe, Signal
from dropdiag.sketches import AbsMean, HistogramSketch


class Lazy(torch.Tensor):
    """Gives itself where a shift is asked for, as DTensor does."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("__rshift__", "bitwise_right_shift"):
            return args[0]
        return super().__torch_function__(function, types, args, kwargs)


class Greedy(Probe):
    """A user's probe that works in place on what it gets."""

    name = "greedy"
    signal = Signal.WEIGHT

    def sketch(self, place):
        class Sketch(AbsMean):
            def update(self, values):
                values.detach().zero_()

        return Sketch()

    def values(self, sketch):
        return []


def recorded(model, path, x, **options):
    """Train two steps under a Recorder; return the state, and what was warned of."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        with dd.Recorder(model, path, every=1, **options) as rec:
            for _ in range(2):
                model(x).square().mean().backward()
                optimizer.step()
                rec.step()
                optimizer.zero_grad()
    return [str(one.message) for one in caught if one.category is DropdiagWarning]


def subclassed(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    for layer in (model[0], model[2]):
        layer.weight = nn.Parameter(layer.weight.detach().clone().as_subclass(kind))
    return model


def trained_alone(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_histogram_writes_nothing_into_a_tensor_whose_shift_is_the_tensor_itself():
    x = torch.randn(5)
    values = x.clone().as_subclass(Lazy)
    HistogramSketch().update(values)
    assert torch.equal(values.as_subclass(torch.Tensor), x)


@pytest.mark.parametrize("probes", ["paper", "full", [Greedy()]])
def test_weights_of_a_subclass_stay_bit_for_bit_and_their_probes_are_disabled(tmp_path, probes):
    x = torch.randn(8, 3)
    alone, model = subclassed(Lazy), subclassed(Lazy)
    trained_alone(alone, x)
    told = recorded(model, tmp_path / "run", x, probes=probes)
    for one, other in zip(alone.parameters(), model.parameters(), strict=True):
        assert torch.equal(one.detach().as_subclass(torch.Tensor), other.detach().as_subclass(torch.Tensor))
    assert any("Lazy" in sentence and "tensor subclasses" in sentence for sentence in told)
    disabled = dd.load(tmp_path / "run").meta["disabled_probes"]
    assert {"0", "2"} <= {entry["layer"] for entry in disabled}
    assert all("tests.test_subclasses.Lazy" in entry["cause"] for entry in disabled)


def test_a_parameter_and_a_buffer_of_torchs_own_are_read(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    model[0].scale = nn.Buffer(torch.ones(4))
    assert recorded(model, tmp_path / "run", torch.randn(8, 3)) == []
    assert dd.load(tmp_path / "run").meta["disabled_probes"] == []


@pytest.fixture
def mesh():
    """One process of torch.distributed, on the CPU."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed")
@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")])
def test_a_model_of_dtensors_trains_bit_for_bit_as_without_a_recorder(tmp_path, mesh, scaler):
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.manual_seed(0)
    given = distribute_tensor(torch.randn(8, 3), mesh, [Shard(0)])
    alone, model = (
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()),
    )
    for one in (alone, model):
        one[0].weight = nn.Parameter(distribute_tensor(torch.linspace(-1, 1, 12).view(4, 3), mesh, [Shard(0)]))
    trained_alone(alone, given)
    told = recorded(model, tmp_path / "run", given, scaler=scaler, probes="full")
    assert torch.equal(model[0].weight.to_local(), alone[0].weight.to_local())
    assert any("probe 'weights' failed at '0'" in sentence and "DTensor" in sentence for sentence in told)
    disabled = dd.load(tmp_path / "run").meta["disabled_probes"]
    assert {"weights", "net_values", "gradient_flow"} <= {entry["probe"] for entry in disabled}
    assert all("tensor subclasses" in entry["cause"] for entry in disabled)
