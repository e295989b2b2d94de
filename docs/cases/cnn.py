"""A small CNN on one thousand pictures of clothes; a sweep asks which dropout rate it should have.

    dropdiag sweep docs/cases/cnn.py:train --over rate=0,.1,.3,.5,.7 --seeds 5 --out runs/cnn

`train` is what a sweep calls: it trains one network by `config` and records it into the folder `path`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

SAMPLE: Final = Path(__file__).parent / "fashion_mnist_sample"
TRAINING: Final = 1000
"""Images that are trained on; the other 2,000 of the training file are for validation."""


def network(rate: float) -> nn.Module:
    """Two strided convolutions and a hidden layer; dropout before and behind the hidden layer."""
    convolutions = [nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2, padding=2)]
    hidden = [nn.Dropout(rate), nn.Linear(16 * 7 * 7, 128), nn.ReLU(), nn.Dropout(rate)]
    return nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), *hidden, nn.Linear(128, 10))


def data() -> dict[str, tuple[Tensor, Tensor]]:
    """Pictures and classes of each split: what is trained on, what the rate is chosen on, what it is reported on."""
    found = load_images("fashion-mnist", SAMPLE)
    x, y, x_test = found.train_images[:, None] / 255, found.train_labels, found.test_images[:, None] / 255
    cut = slice(TRAINING), slice(TRAINING, None)
    return {"train-eval": (x[cut[0]], y[cut[0]]), "validation": (x[cut[1]], y[cut[1]]),
            "test": (x_test, found.test_labels)}  # fmt: skip


def train(config: dict[str, Any], path: str | Path) -> None:
    """Train and record one network: ``config`` holds the rate and the seed, and may hold the number of epochs."""
    torch.manual_seed(config["seed"])
    splits, model = data(), network(config["rate"])
    # A generator of its own: what dropout draws then leaves the order of batches as it is, so that seeds are paired.
    order = torch.Generator().manual_seed(config["seed"])
    loader = DataLoader(TensorDataset(*splits["train-eval"]), batch_size=50, shuffle=True, generator=order)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    epochs = config.get("epochs", 60)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with dd.Recorder(model, path, every=20, config=config) as rec:
        for epoch in range(1, epochs + 1):
            for x, y in loader:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rec.step(loss=loss)
            schedule.step()
            if epoch % 5 == 0:
                evaluate(model, splits, rec, "train-eval", "validation")
        evaluate(model, splits, rec, "test")
        if config["rate"]:
            rec.measure("ensemble", *(part[:200] for part in splits["validation"]), masks=32)


@torch.no_grad()
def evaluate(model: nn.Module, splits: dict[str, tuple[Tensor, Tensor]], rec: dd.Recorder, *names: str) -> None:
    """Record accuracy and loss without masks on these splits."""
    model.eval()
    for name in names:
        x, y = splits[name]
        with rec.evaluation(name):
            logits = model(x)
            rec.log(accuracy=(logits.argmax(1) == y).float().mean(), loss=F.cross_entropy(logits, y))
    model.train()
