"""What the run folder says against numpy on tensors saved by plain code that knows nothing of dropdiag."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import dropdiag as dd
from dropdiag.histograms import grid
from tests.networks import batches, mlp, train

STEPS = 50
WEIGHTS, ACTIVATIONS = ("0", "3", "6", "9"), ("1", "4", "7")


@pytest.fixture(scope="module")
def saved():
    """Train by hand, layer by layer, and keep every tensor as numpy."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    out = SimpleNamespace(loss=[], z=[], dz=[], w=[], dw=[])
    for x, y in batches(STEPS):
        h, zs = x, []
        for layer in model[:-1]:
            if isinstance(layer, torch.nn.Tanh):
                h.retain_grad()
                zs.append(h)
            h = layer(h)
        loss = F.cross_entropy(model[-1](h), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.loss.append(loss.item())
        out.z.append([z.detach().numpy().copy() for z in zs])
        out.dz.append([z.grad.numpy().copy() for z in zs])
        out.w.append([model[int(i)].weight.detach().numpy().copy() for i in WEIGHTS])
        out.dw.append([model[int(i)].weight.grad.numpy().copy() for i in WEIGHTS])
    model.eval()
    h, out.test_z, out.test_h = next(batches(1, n=300, seed=9))[0], [], []
    with torch.no_grad():
        for layer in model[:-1]:
            z, h = h, layer(h)
            if isinstance(layer, torch.nn.Tanh):
                out.test_z.append(z.numpy().copy())
                out.test_h.append(h.numpy().copy())
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = mlp()
    path = tmp_path_factory.mktemp("runs") / "mlp"
    with dd.Recorder(model, path, probes="full", every=7, strict=True) as rec:
        train(model, STEPS, rec)
        model.eval()
        held_out = next(batches(1, n=300, seed=9))[0]
        with rec.evaluation(), torch.no_grad():
            for part in held_out.split(77):
                model(part)
    return dd.load(path)


def scalar(run, quantity, layer, phase="train"):
    rows = run.scalars.query("quantity == @quantity and layer == @layer and phase == @phase")
    return rows.set_index("step")["value"]


def assert_same_histogram(histogram, values):
    expected = np.bincount(grid.bin_numbers(values).ravel(), minlength=grid.BINS)
    np.testing.assert_array_equal(histogram.bins, np.flatnonzero(expected))
    np.testing.assert_array_equal(histogram.counts, expected[expected > 0])


def saturated(z, side):
    z = z.astype(np.float64)
    return np.mean((1 - np.tanh(z) ** 2 <= 0.1) & ((z < 0) if side == "left" else (z > 0)))


def test_gradient_flow_at_every_step(run, saved):
    for i, layer in enumerate(ACTIVATIONS):
        flow = scalar(run, "net_grad_abs_mean", layer)
        assert flow.index.tolist() == list(range(1, STEPS + 1))
        np.testing.assert_allclose(flow, [np.abs(s[i].astype(np.float64)).mean() for s in saved.dz], rtol=1e-6)
    for i, layer in enumerate(WEIGHTS):
        expected = [np.abs(s[i].astype(np.float64)).mean() for s in saved.dw]
        np.testing.assert_allclose(scalar(run, "weight_grad_abs_mean", layer), expected, rtol=1e-6)


def test_histograms_of_training_exactly(run, saved):
    steps = [1, 7, 14, 21, 28, 35, 42, 49]
    assert sorted(run.histograms("net_value", "all", "train")["step"].unique()) == steps
    for step in steps:
        for i, layer in enumerate(ACTIVATIONS):
            z, dz = saved.z[step - 1][i], saved.dz[step - 1][i]
            assert_same_histogram(run.histogram("net_value", layer, step, "train"), z)
            assert_same_histogram(run.histogram("node_value", layer, step, "train"), torch.from_numpy(z).tanh().numpy())
            assert_same_histogram(run.histogram("net_grad", layer, step), dz)
        for i, layer in enumerate(WEIGHTS):
            assert_same_histogram(run.histogram("weight", layer, step), saved.w[step - 1][i])
            assert_same_histogram(run.histogram("weight_grad", layer, step), saved.dw[step - 1][i])


def test_weights_before_the_first_step_and_after_the_last_are_there(run, saved):
    assert sorted(run.histograms("weight", "all")["step"].unique()) == [0, 1, 7, 14, 21, 28, 35, 42, 49, 50]
    initial = mlp()
    for i, layer in enumerate(WEIGHTS):
        assert_same_histogram(run.histogram("weight", layer, step=0), initial[int(layer)].weight.detach().numpy())
        assert_same_histogram(run.histogram("weight", layer), saved.w[-1][i])


def test_saturation_shares(run, saved):
    for i, layer in enumerate(ACTIVATIONS):
        for side in ("left", "right"):
            got = scalar(run, f"saturation_share_{side}", layer)
            np.testing.assert_allclose(got, [saturated(saved.z[s - 1][i], side) for s in got.index], rtol=1e-6)
            held_out = scalar(run, f"saturation_share_{side}", layer, "eval")
            np.testing.assert_allclose(held_out, [saturated(saved.test_z[i], side)], rtol=1e-6)
            assert held_out.item() > 0


def test_held_out_net_values_and_node_correlation(run, saved):
    for i, layer in enumerate(ACTIVATIONS):
        assert_same_histogram(run.histogram("net_value", layer, phase="eval"), saved.test_z[i])
        r = np.corrcoef(saved.test_h[i].astype(np.float64), rowvar=False)
        pairs = r[np.triu_indices(len(r), 1)]
        np.testing.assert_allclose(
            scalar(run, "node_correlation_abs_mean", layer, "eval"), np.abs(pairs).mean(), rtol=1e-6
        )
        values_of_r = np.linalg.eigvalsh(r)
        shares = values_of_r / len(r)
        ratio, rank = len(r) ** 2 / (values_of_r**2).sum(), np.exp(-(shares * np.log(shares)).sum())
        np.testing.assert_allclose(scalar(run, "participation_ratio", layer, "eval"), ratio, rtol=1e-5)
        np.testing.assert_allclose(scalar(run, "effective_rank", layer, "eval"), rank, rtol=1e-5)
        histogram = run.histogram("node_correlation", layer)
        assert histogram.n == len(pairs)
        _, high, counts = histogram.bounds()
        for edge in high[::5]:
            assert counts[high <= edge].sum() == pytest.approx((pairs <= edge).sum(), abs=1)
        assert scalar(run, "node_correlation_samples", layer, "eval").item() == 300
        assert scalar(run, "constant_nodes", layer, "eval").item() == 0


def test_r_matrix_of_the_sketch(saved):
    from dropdiag.sketches import Covariance

    for h in saved.test_h:
        sketch = Covariance()
        for part in np.array_split(h, 4):
            sketch.update(torch.from_numpy(part))
        np.testing.assert_allclose(sketch.correlation(), np.corrcoef(h.astype(np.float64), rowvar=False), atol=1e-6)


def test_losses(run, saved):
    losses = run.scalars.query("quantity == 'loss'")
    np.testing.assert_allclose(losses["value"], saved.loss, rtol=1e-6)
    assert losses["layer"].isna().all()


def test_moments(run, saved):
    from scipy import stats

    for i, layer in enumerate(WEIGHTS):
        w = saved.w[-1][i].astype(np.float64).ravel()
        for name, value in {
            "mean": w.mean(),
            "sd": w.std(),
            "excess_kurtosis": stats.kurtosis(w),
            "maximum": w.max(),
        }.items():
            np.testing.assert_allclose(scalar(run, f"weight_{name}", layer).loc[STEPS], value, rtol=1e-6)


def test_node_correlation_of_a_training_step_where_it_is_asked_for(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(9, 2))
    x, h = torch.randn(40, 6), []
    model[1].register_forward_hook(lambda module, inputs, output: h.append(output.detach().clone().numpy()))
    with dd.Recorder(model, tmp_path / "run", probes=["training_node_correlation"], every=2) as rec:
        for _ in range(4):
            model(x).sum().backward()
            rec.step()
    run = dd.load(tmp_path / "run")
    recorded = run.scalars.query("quantity == 'node_correlation_abs_mean'").set_index("step")["value"]
    assert recorded.index.tolist() == [1, 2, 4]
    for step, value in recorded.items():
        r = np.corrcoef(h[step - 1].astype(np.float64), rowvar=False)
        np.testing.assert_allclose(value, np.abs(r[np.triu_indices(9, 1)]).mean(), rtol=1e-6)
