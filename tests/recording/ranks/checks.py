"""What must hold of a run that ranks recorded together, beside what each of them saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.recording.ranks.saved import binned, flow, load, passes
from tests.recording.ranks.trainings import TRAININGS, Joined, Pipeline

MLP = "fc1", "fc2", "out"
WEIGHTS = {
    "mlp": MLP,
    "branched": MLP,
    "checkpointed": MLP,
    "reentrant": MLP,
    "cnn": ("conv", "fc", "out"),
    "transformer": ("head", "out"),
}


class Numbers:
    """The numbers of a run, by name."""

    def __init__(self, run):
        self._run = run
        rows = run.select()
        self._scalars = {
            (r.quantity, r.layer if isinstance(r.layer, str) else None, r.step, r.phase): r.value
            for r in rows.itertuples()
            if r.call == 0
        }
        self.rows = rows

    def scalar(self, quantity, layer, step, phase="train"):
        return self._scalars[quantity, layer, step, phase]

    def counts(self, quantity, layer, step, phase="train"):
        histogram = self._run.histogram(quantity, layer, step, phase)
        return dict(zip(histogram.bins.tolist(), histogram.counts.tolist(), strict=True))


def close(value, expected, training):
    """Whether a number agrees to what the precision of the training allows."""
    tolerance = 1e-9 if training.dtype == torch.float64 else 2e-5
    return value == pytest.approx(expected, rel=tolerance, abs=1e-12)


def check_no_effect(folder, name, world):
    """Losses, weights, gradients and random numbers are bit for bit what they are without the Recorder."""
    for bare, recorded in zip(load(folder, name, "bare", world), load(folder, name, "recorded", world), strict=True):
        for kind in ("losses", "raw", "gradients", "weights", "random"):
            assert _same(bare[kind], recorded[kind]), f"{name}: {kind} differ"


def _same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def check_passes(run, folder, name, world):
    """Net values and gradient flow are those of the tensors that went through, of all ranks."""
    training, numbers = TRAININGS[name], Numbers(run)
    ranks = load(folder, name, "bare", world)
    divisor = world if training.averaged else 1
    if name == "tensor_and_data":
        divisor = world // 2
    if isinstance(training, Pipeline):
        divisor = 4
    for step in range(training.n_steps):
        layers = passes(ranks, step)
        assert layers, f"{name}: nothing went through"
        for layer, seen in layers.items():
            # the first pass of a pipeline is for the shapes alone, with gradients, and not a part of the step
            first = isinstance(training, Pipeline) and step == 0
            rows = seen[first :: 2 if _replicated(training, layer) else 1]
            if training.network in ("checkpointed", "reentrant"):
                rows = _once(rows)
            assert numbers.counts("net_value", layer, step + 1) == binned(z for z, _ in rows), (name, layer)
            assert close(numbers.scalar("net_grad_abs_mean", layer, step + 1), flow(rows, divisor), training), (
                name, layer)  # fmt: skip
            z = torch.cat([z.double().flatten() for z, _ in rows])
            assert close(numbers.scalar("net_value_mean", layer, step + 1), z.mean().item(), training)
            assert close(numbers.scalar("net_value_sd", layer, step + 1), z.std(correction=0).item(), training)
            assert numbers.scalar("net_value_minimum", layer, step + 1) == z.min().item()


def _once(rows):
    """Leave out what a checkpoint ran without gradients, and what it ran again."""
    kept = []
    for z, gradient in rows:
        if gradient is not None and not any(torch.equal(z, other) for other, _ in kept):
            kept.append((z, gradient))
    return kept


def _replicated(training, layer):
    """Whether ranks of one batch have the same values of a layer."""
    return "tensor" in training.name and layer == "act2"


def check_weights(run, folder, name, world):
    """Weights and their gradients are those of the whole, once, as they stand at ``step()``."""
    training, numbers = TRAININGS[name], Numbers(run)
    told = load(folder, name, "bare", world)
    for layer in WEIGHTS[training.network]:
        owner = next(t for t in told if _find(t["weights"], layer) is not None)
        weight = _find(owner["weights"], layer)
        assert numbers.counts("weight", layer, training.n_steps) == binned([weight]), (name, layer)
        assert sum(numbers.counts("weight", layer, 0).values()) == weight.numel(), (name, layer)
        for step in range(training.n_steps):
            for quantity, kind in (("weight_grad", "gradients"), ("raw_weight_grad", "raw")):
                key = f"{quantity}_abs_mean", layer, step + 1
                expected = _find(owner[kind][step], layer)
                assert close(numbers.scalar(*key), expected.double().abs().mean().item(), training), (name, layer, key)


def check_correlation(run, folder, name, world):
    """Node correlation over held-out data is that of the samples of all ranks together."""
    ranks, numbers = load(folder, name, "bare", world), Numbers(run)
    step = TRAININGS[name].n_steps
    for layer, phi in (("act1", torch.tanh), ("act2", torch.relu)):
        rows = [row["z"] for told in ranks for row in told["evaluation"] if row["layer"] == layer]
        h = phi(torch.cat(rows).double()).numpy()
        h = h[:, h.std(0) > 0]
        r = np.corrcoef(h.T)
        pairs = r[np.triu_indices(len(r), 1)]
        told = {quantity: numbers.scalar(quantity, layer, step, "eval") for quantity in (
            "node_correlation_samples", "node_correlation_nodes", "node_correlation_abs_mean", "participation_ratio",
        )}  # fmt: skip
        expected = len(h), len(r), np.abs(pairs).mean(), len(r) ** 2 / (r**2).sum()
        assert tuple(told.values()) == pytest.approx(expected, rel=1e-9), (name, layer)
        assert run.histogram("node_correlation", layer, step, "eval").n == len(pairs)
        (n, m), adjusted = h.shape, None
        if n > m:
            residuals = [
                h[:, i] - h[:, i].mean() - others @ np.linalg.lstsq(others, h[:, i] - h[:, i].mean(), rcond=None)[0]
                for i in range(m) for others in [np.delete(h - h.mean(0), i, axis=1)]
            ]  # fmt: skip
            squared = 1 - np.square(residuals).mean(1) / h.var(0)
            adjusted = 1 - (1 - squared.mean()) * (n - 1) / (n - m)
        value = numbers.scalar("multiple_correlation", layer, step, "eval")
        assert np.isnan(value) if adjusted is None else value == pytest.approx(adjusted, rel=1e-9), (name, layer)


def check_moves(run, folder, name, world):
    """How far weights move, in a step and from the start, is that of the whole weights, also where each rank has a part."""
    training, numbers = TRAININGS[name], Numbers(run)
    ranks = load(folder, name, "bare", world)
    for layer in WEIGHTS[training.network]:
        owner = next(t for t in ranks if _find(t["weights"], layer) is not None)
        saved = [_find(weights, layer).double() for weights in owner["trained"]]
        assert numbers.scalar("distance_from_start", layer, 0) == 0.0
        for step in range(1, training.n_steps + 1):
            for quantity, before in (("update_to_weight", saved[step - 1]), ("distance_from_start", saved[0])):
                expected = ((saved[step] - before).norm() / before.norm()).item()
                assert numbers.scalar(quantity, layer, step) == pytest.approx(expected, rel=1e-12), (name, layer, step)


def check_dead_nodes(run, folder, name, world):
    """A node is dead, or always saturated, where it is so on all ranks."""
    ranks, numbers = load(folder, name, "bare", world), Numbers(run)
    for step in range(TRAININGS[name].n_steps):
        for layer, seen in passes(ranks, step).items():
            # the first pass of a pipeline is for the shapes alone; of tensor parallel ranks each has some of the nodes
            rows = seen[isinstance(TRAININGS[name], Pipeline) and step == 0 :]
            z = torch.cat([z for z, _ in rows], int(name == "tensor" and layer == "act1")).double()
            area = 1 - z.tanh() ** 2 <= 0.1 if layer == "act1" else z <= 0
            dead = z.abs() > 19.1 if layer == "act1" else z <= 0
            for quantity, inside in (("dead_share", dead), ("always_saturated_share", area)):
                expected = inside.all(0).double().mean().item()
                assert numbers.scalar(quantity, layer, step + 1) == pytest.approx(expected, rel=1e-12), (name, layer)


def _find(tensors, layer):
    """Return a layer's weight, by whatever name wrappers give it."""
    named = {name.replace("module.", ""): tensor for name, tensor in tensors.items() if "blocks" not in name}
    return next((tensor for name, tensor in named.items() if name.endswith(f"{layer}.weight")), None)


def check_losses(run, folder, name, world):
    """The loss of the run is the mean of those that ranks logged."""
    ranks = load(folder, name, "bare", world)
    numbers = Numbers(run)
    for step in range(TRAININGS[name].n_steps):
        losses = [t["losses"][step] for t in ranks if step < len(t["losses"]) and t["losses"][step] is not None]
        assert numbers.scalar("loss", None, step + 1) == pytest.approx(np.mean([float(x) for x in losses]), rel=1e-12)


def check(run, folder, name, world):
    """Check all of it."""
    check_no_effect(folder, name, world)
    check_passes(run, folder, name, world)
    check_losses(run, folder, name, world)
    if not name.startswith("fsdp_first"):
        check_weights(run, folder, name, world)
        check_moves(run, folder, name, world)
    assert not isinstance(TRAININGS[name], Joined) or run.ranks[world - 1].meta["steps"] == TRAININGS[name].n_steps - 1
