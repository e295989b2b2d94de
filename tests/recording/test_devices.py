"""What is recorded where the model is, on the CPU and on a GPU where there is one, against numpy on saved tensors."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.histograms.grid import BINS
from dropdiag.sketches import AbsMean, HistogramSketch, IntervalCounts
from tests.devices import CUDA, DEVICES

STEPS = 12


def values(dtype):
    """Values of many sizes, with all kinds that are no number."""
    x = torch.randn(100_003, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 100_003)
    return torch.cat([x, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])]).to(dtype)


def counted(x):
    """Counts by numpy, from the bits."""
    return np.bincount(x.cpu().to(torch.float32).flatten().numpy().view(np.uint32) >> 17, minlength=BINS)


def network(device):
    torch.manual_seed(0)
    layers = [nn.Linear(20, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 4)]
    return nn.Sequential(*layers).to(device)


class Trained:
    """A network on a device, what it is trained with, and what its first activation saw, copied to the host."""

    def __init__(self, device):
        self.model = network(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(64, 20, generator=generator).to(device)
        self.y = torch.randint(4, (64,), generator=generator).to(device)

    def step(self):
        loss = F.cross_entropy(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def saved_step(self, kept):
        """Train a step, and keep the first activation's net values and their gradient."""

        def before(_module, args):
            args[0].register_hook(lambda gradient: kept.append((z, gradient.cpu().double().numpy())))
            z = args[0].detach().cpu()

        with self.model[1].register_forward_pre_hook(before):
            self.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
def test_counts_are_numpys(device, dtype):
    x = values(dtype)
    sketch = HistogramSketch()
    for part in x.to(device).split(30_000):
        sketch.update(part)
    np.testing.assert_array_equal(sketch.dense().cpu().numpy(), counted(x))


@pytest.mark.parametrize("device", DEVICES)
def test_sums_and_shares_are_numpys(device):
    x = torch.randn(100_003, generator=torch.Generator().manual_seed(2))
    mean, inside = AbsMean(), IntervalCounts([[(-np.inf, -1.5)], [(1.5, np.inf)]])
    for sketch in (mean, inside):
        sketch.update(x.to(device))
    np.testing.assert_allclose(float(mean.mean()), np.abs(x.double().numpy()).mean(), rtol=1e-12)
    shares = [float(share) for share in inside.shares()]
    assert shares == [(x <= -1.5).double().mean().item(), (x >= 1.5).double().mean().item()]


@pytest.mark.parametrize("device", DEVICES)
def test_training_is_bit_for_bit_the_same_and_its_records_are_those_of_saved_tensors(device, tmp_path):
    bare, recorded, kept = Trained(device), Trained(device), []
    torch.manual_seed(5)
    for _ in range(STEPS):
        bare.saved_step(kept)
    torch.manual_seed(5)
    with dd.Recorder(recorded.model, tmp_path / "run", probes="paper", every=1, strict=True) as recorder:
        for _ in range(STEPS):
            recorder.step(loss=recorded.step())
    assert all(map(torch.equal, bare.model.parameters(), recorded.model.parameters()))
    run = dd.load(tmp_path / "run")
    scalars = run.scalars
    flow = scalars[(scalars["quantity"] == "net_grad_abs_mean") & (scalars["layer"] == "1")]["value"]
    np.testing.assert_allclose(flow, [np.abs(gradient).mean() for _, gradient in kept], rtol=1e-6)
    for step, (z, _) in enumerate(kept, start=1):
        found, expected = run.histogram("net_value", "1", step=step), counted(z)
        np.testing.assert_array_equal(found.bins, np.flatnonzero(expected))
        np.testing.assert_array_equal(found.counts, expected[found.bins])


@pytest.mark.parametrize("device", [CUDA])
def test_no_step_makes_the_host_wait(device, tmp_path):
    trained = Trained(device)
    with dd.Recorder(trained.model, tmp_path / "run", probes="paper", every=1, strict=True) as recorder:
        recorder.step(loss=trained.step())
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(40):
                recorder.step(loss=trained.step())
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", [CUDA])
def test_a_captured_step_is_told_and_trains_as_it_would(device, tmp_path):
    bare, recorded = Trained(device), Trained(device)
    recorded.model.load_state_dict(copy.deepcopy(bare.model.state_dict()))
    replay(bare, lambda _loss: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.Recorder(recorded.model, tmp_path / "run") as recorder:
            replay(recorded, lambda loss: recorder.step(loss=loss))
    assert all(map(torch.equal, bare.model.parameters(), recorded.model.parameters()))
    assert any("captured into a CUDA graph" in str(warning.message) for warning in caught)


def replay(trained, told):
    """Train three steps, capture one, replay it four times."""
    torch.manual_seed(5)
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            told(trained.step())
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = trained.step()
    for _ in range(4):
        graph.replay()
        told(loss)
    torch.cuda.synchronize()
