"""Functions that sweeps of the tests train: what a user writes, well and badly."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd

STEPS, BATCH = 12, 8


def data():
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(32, 4, generator=generator)
    return x, (x[:, 0] > 0).long()


def network(rate=0.5):
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(rate), nn.Linear(6, 2))


def fit(model, path, *, own_generator=None, steps=STEPS, **options):
    x, y = data()
    generator = None if own_generator is None else torch.Generator().manual_seed(own_generator)
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with dd.Recorder(model, path, every=100, **options) as rec:
        while rec.completed < steps:
            for batch, target in loader:
                loss = F.cross_entropy(model(batch), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rec.step(loss=loss)
        with rec.evaluation():
            found = model.eval()(x).argmax(1)
            model.train()
        rec.log(accuracy=(found == y).double().mean())
    return model


def well(config, path):
    fit(network(config["rate"]), path, own_generator=config["seed"])


def shuffled(config, path):
    fit(network(config["rate"]), path)


def built(config, path):
    """It knows no rate."""
    fit(network(), path, own_generator=config["seed"])


def without_dropout(config, path):
    fit(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), path, own_generator=config["seed"])


def with_config(config, path):
    fit(network(config["rate"]), path, config={**config, "width": 6})


def unread_but_recorded(config, path):
    fit(network(), path, config=config)


def read_and_not_used(config, path):
    config["rate"]
    fit(network(0.5), path, own_generator=config["seed"])


def seeds_itself(config, path):
    torch.manual_seed(0)
    fit(network(config["rate"]), path, own_generator=0)


def clashing(config, path):
    fit(network(config["rate"]), path, config={"seed": 99})


def forgets(config, path):
    network(config["rate"])


def elsewhere(config, path):
    fit(network(config["rate"]), path.parent.parent / "mine")


def named(config, path):
    fit(network(config["rate"]), path, name="auto")


def several(config, path):
    fit(network(config["rate"]), path)
    fit(network(config["rate"]), path, resume=True)


LEFT = []


def left_open(config, path):
    rec = dd.Recorder(network(config["rate"]), path)
    rec.step()
    LEFT.append(rec)


def without_steps(config, path):
    fit(network(config["rate"]), path, steps=0)


def fails(config, path):
    if config["rate"] > 0:
        raise ValueError("too large")
    fit(network(config["rate"]), path)


def fails_afterwards(config, path):
    fit(network(config["rate"]), path)
    raise ValueError("no room for the figure")


def for_epochs(config, path):
    fit(network(config["rate"]), path, own_generator=config["seed"], steps=4 * config["epochs"])


def budget_ignored(config, path):
    fit(network(config["rate"]), path)


def killed_once(config, path):
    """Of the greatest rate the first attempt kills itself in the middle."""
    mark = Path(path).parents[1] / "killed"
    if config["rate"] > 0 and not mark.exists():
        mark.touch()
        model = network(config["rate"])
        rec = dd.Recorder(model, path, flush_every=0)
        model(data()[0]).sum().backward()
        rec.step()
        rec.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    fit(network(config["rate"]), path)


def waits(config, path):
    with dd.Recorder(network(config["rate"]), path) as rec:
        rec.step()
        Path(path).with_suffix(".waiting").touch()
        threading.Event().wait()
