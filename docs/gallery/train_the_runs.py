"""Train the runs that the gallery draws: the shipped MNIST digits, a small network, half a minute.

`make docs` runs it before the figures are made. It is ordinary training code with a Recorder around it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

SEEDS = range(3)
RATES = (0.1, 0.3)
EPOCHS, BATCH = 4, 100


def network(condition: str, rate: float) -> nn.Sequential:
    """Return an MLP with tanh (or GAAF over it), and dropouts of this rate behind its hidden layers."""
    parts: dict[str, nn.Module] = {}
    for i, (fan_in, fan_out) in enumerate(((784, 96), (96, 64), (64, 48)), start=1):
        parts[f"linear{i}"] = nn.Linear(fan_in, fan_out)
        parts[f"act{i}"] = dd.GAAF("tanh") if condition == "GAAF" else nn.Tanh()
        if rate:
            parts[f"dropout{i}"] = nn.Dropout(rate)
    return nn.Sequential(OrderedDict(parts, output=nn.Linear(48, 10)))


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images and labels to train with, and held-out ones."""
    data = load_images("mnist", limit=3_000)
    train, test = (one.flatten(1).float() / 255 for one in (data.train_images, data.test_images))
    return train, data.train_labels, test[:1_000], data.test_labels[:1_000]


def train(path: Path, condition: str, rate: float, seed: int) -> None:
    """Train one run; each epoch ends with an evaluation and two measurements."""
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = digits()
    model = network(condition, rate)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    config = {"condition": condition, "seed": seed, "rate": rate}
    small, few = (images[:256], labels[:256]), torch.Generator().manual_seed(seed)
    with dd.Recorder(model, path, probes="full", every=20, config=config) as rec:
        evaluate(rec, model, test_images, test_labels)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(labels), generator=few).split(BATCH):
                loss = F.cross_entropy(model(images[batch]), labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                rec.step(loss=loss)
            evaluate(rec, model, test_images, test_labels)
            rec.measure("gradient_direction", small, F.cross_entropy, batches=4, seed=0)
            behind = None if condition == "Dropout" else 0.5
            rec.measure("masks_by_weights", small, F.cross_entropy, masks=8, p=behind, seed=0)
        if not path.name.startswith("rate"):  # those are there for dose and response alone
            at_the_end(rec, condition, small, (test_images[:256], test_labels[:256]))


def at_the_end(rec: dd.Recorder, condition: str, train: tuple[Any, Any], test: tuple[Any, Any]) -> None:
    """Measure what takes passes of its own, each with few of them: the gallery is to be built in a minute."""
    rec.net_variance(test[0][:128], masks=32, p=0.5, seed=0)
    if condition == "Dropout":
        rec.measure("ensemble", test, masks=16, seed=0)
    if condition != "GAAF":  # whose forward pass is a saw-tooth: it has no Hessian
        rec.measure("flatness", train, F.cross_entropy, trace_samples=8, seed=0)
    few = {"groups": 8, "permutations": 6, "orders": 3, "shares": (0.0, 0.25, 0.5, 0.75, 1.0)}
    rec.measure("ablation", train, F.cross_entropy, seed=0, **few)
    rec.measure("robustness", test, F.cross_entropy, seed=0)


def evaluate(rec: dd.Recorder, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Record an evaluation on held-out digits, with its loss and accuracy."""
    model.eval()
    with rec.evaluation(), torch.no_grad():
        outputs = model(images)
        right = (outputs.argmax(1) == labels).float().mean()
        rec.log(loss=F.cross_entropy(outputs, labels), accuracy=right)
    model.train()


def main(folder: Path) -> None:
    """Train what is not there yet."""
    wanted = {("No dropout", 0.0): "base", ("Dropout", 0.5): "dropout", ("GAAF", 0.0): "gaaf"}
    wanted |= {("Dropout", rate): f"rate-{rate}" for rate in RATES}
    for (condition, rate), name in wanted.items():
        for seed in SEEDS:
            path = folder / f"{name}-s{seed}"
            if not path.exists():
                train(path, condition, rate, seed)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
