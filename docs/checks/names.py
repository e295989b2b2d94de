"""What the examples of docstrings and pages may speak of: a small model, a batch, runs below ``runs/``."""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd

WIDTHS = (12, 8, 8, 3)
CONDITIONS = {"base": ("No dropout", 0.0), "dropout": ("Dropout", 0.5), "gaaf": ("GAAF", 0.0)}
RATES = (0.0, 0.2, 0.5)
SEEDS = range(3)
SWEEP = Path(__file__).parents[1] / "sweep.md"


def train_py() -> str:
    """Return the file that a sweep trains: the first code of its page."""
    return re.findall(r"```python\n(.*?)```", SWEEP.read_text(encoding="utf-8"), re.DOTALL)[0]


def network(condition: str = "Dropout", rate: float = 0.5) -> nn.Sequential:
    """Return the model of the examples: two hidden layers of eight nodes."""
    parts: dict[str, nn.Module] = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(WIDTHS[:-1]), start=1):
        parts[f"linear{i}"] = nn.Linear(fan_in, fan_out)
        parts[f"act{i}"] = dd.GAAF("tanh") if condition == "GAAF" else nn.Tanh()
        if rate:
            parts[f"dropout{i}"] = nn.Dropout(rate)
    return nn.Sequential(OrderedDict(parts, output=nn.Linear(WIDTHS[-2], WIDTHS[-1])))


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 60 samples of noise, and a class for each that depends on them."""
    x = torch.randn(60, WIDTHS[0], generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(1)


def train(rec: dd.Recorder, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Train for ten steps, between two evaluations."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    evaluate(rec, model, x, y)
    for _ in range(5):
        for i in (0, 30):
            loss = F.cross_entropy(model(x[i : i + 30]), y[i : i + 30])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rec.step(loss=loss)
    evaluate(rec, model, x, y)


def record(path: Path, condition: str, rate: float, seed: int) -> None:
    """Record a training, and every active measurement at its end."""
    torch.manual_seed(seed)
    model, (x, y) = network(condition, rate), data(seed)
    config = {"condition": condition, "seed": seed, "rate": rate}
    with dd.Recorder(model, path, probes="full", every=5, config=config) as rec:
        train(rec, model, x, y)
        rec.net_variance(x, masks=8, p=0.5)
        rec.measure("masks_by_weights", (x, y), F.cross_entropy, masks=4, p=None if rate else 0.5)
        rec.measure("gradient_direction", (x, y), F.cross_entropy, batches=3)
        rec.measure("ablation", (x, y), F.cross_entropy, groups=4, permutations=2, orders=2)
        rec.measure("robustness", (x, y), F.cross_entropy, draws=2)
        if condition == "Dropout":
            rec.measure("ensemble", (x, y), masks=4)
        if condition != "GAAF":
            rec.measure("flatness", (x, y), F.cross_entropy, trace_samples=2, directions=2)


def evaluate(rec: dd.Recorder, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Record an evaluation."""
    model.eval()
    with rec.evaluation(), torch.no_grad():
        rec.log(accuracy=(model(x).argmax(1) == y).float().mean())
    model.train()


def record_all(folder: Path) -> None:
    """Record the runs of the examples: ``runs/base-s0``, ``runs/dropout-s0``, ..., ``sweep/rate-0.2-s0``, ..."""
    for seed in SEEDS:
        for name, (condition, rate) in CONDITIONS.items():
            record(folder / "runs" / f"{name}-s{seed}", condition, rate, seed)
        for rate in RATES:
            torch.manual_seed(seed)
            model = network(rate=rate)
            config = {"condition": f"rate={rate}", "rate": rate, "seed": seed}
            with dd.Recorder(model, folder / f"sweep/rate-{rate}-s{seed}", config=config) as rec:
                train(rec, model, *data(seed))


def loaded(folder: Path) -> dict[str, Any]:
    """Return the names that stand for runs; `folder` is that of `record_all`."""
    runs = dd.load({"No dropout": f"{folder}/runs/base-*", "Dropout": f"{folder}/runs/dropout-*"})
    return {"runs": runs, "run": runs[-1], "rates": dd.load(f"{folder}/sweep")}


def fresh(code: str) -> dict[str, Any]:
    """Return the other names, new for each example; where `code` speaks of one, a Recorder after one step."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - of whatever an example calls
    model, (x, y) = network(), data()
    names: dict[str, Any] = {
        "dd": dd, "torch": torch, "nn": nn, "F": F, "np": np, "pd": pd, "Path": Path,
        "model": model, "x": x, "y": y, "batch": x, "loss_fn": F.cross_entropy,
        "loader": list(zip(x.split(20), y.split(20), strict=True)),
        "held_out": [(x, y)],
        "opt": torch.optim.SGD(model.parameters(), lr=0.1),
        "test": lambda model: model(x),
    }  # fmt: skip
    if re.search(r"\brec\b", code) and not re.search(r"\bas rec\b|\brec = ", code):
        names["rec"] = rec = dd.Recorder(model, "runs/example", every=1)
        F.cross_entropy(model(x), y).backward()
        rec.step()
        model.zero_grad()
    return names
