"""What two runs have in common, the data they were trained on, and what a callback does to whoever copies it."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import dropdiag as dd
from tests.networks import batches, mlp

OPTIONS = {"every": 1, "probes": "full", "strict": True}
LR = 0.1


def loader(number=6, seed=1):
    """Batches, one after the other, in the same order every time; masks alone draw from torch's own generator."""
    return DataLoader(list(batches(number, seed=seed)), batch_size=None, generator=torch.Generator())


def rows(path, but=()):
    """All rows of layers as they are, scalars and histograms."""
    run, found = dd.load(path), {}
    for name, values in (("scalars", ("value",)), ("histograms", ("n", "bins", "counts"))):
        for table in run.tables.stream(name):
            for row in table.to_pylist():
                if row["layer"] is not None and row["quantity"] not in but:
                    key = (row["step"], row["phase"], row["layer"], row["call"], row["quantity"])
                    found[key] = [_exact(row[value]) for value in values]
    return found


def _exact(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def assert_same(one, other, but=()):
    """Two runs hold the same numbers, bit for bit, of weights, gradients, net values and correlations."""
    first, second = rows(one, but), rows(other, but)
    assert len(first) > 100
    assert first.keys() == second.keys()
    differing = {key for key in first if first[key] != second[key]}
    assert not differing, sorted(map(str, differing))[:5]


def scalar(path, quantity, phase="train"):
    """A scalar of the network: step -> value."""
    found = dd.load(path).select(quantity, phase=phase)
    return dict(zip(found["step"].tolist(), found["value"].tolist(), strict=True))


def state(path):
    return dd.load(path).meta["state"]


def plain(
    path,
    *,
    epochs=1,
    accumulate=1,
    clip=None,
    autocast=False,
    evaluate=True,
    model=None,
    number=6,
    reseed=False,
    **options,
):
    """Train the loop that everybody writes, with a Recorder on it; return the model and the loss of each step.

    ``model`` gives its loss if it is not the MLP; ``reseed``: masks depend on the update alone.
    """
    step, loss_of = 0, F.cross_entropy if model is None else None
    model = mlp() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    losses, waiting = [], []
    torch.manual_seed(5)
    with dd.Recorder(model, path, **{**OPTIONS, **options}) as rec:
        for _ in range(epochs):
            for place, (x, y) in enumerate(loader(number), 1):
                if reseed and not waiting:
                    torch.manual_seed(step)
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = (loss_of(model(x), y) if loss_of else model(x, y)["loss"]) / accumulate
                loss.backward()
                waiting.append(loss.detach())
                if place % accumulate:
                    continue
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                step += 1
                losses.append(sum(waiting[1:], waiting[0]))
                rec.step(loss=losses[-1])
                optimizer.zero_grad()
                waiting = []
            if evaluate:
                with rec.evaluation():
                    held_out(model, autocast)
    return model, losses


def held_out(model, autocast=False):
    """Look at two batches of other data."""
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for x, y in loader(2, seed=9):
            model(x) if isinstance(model, torch.nn.Sequential) else model(x, y)
    model.train()


def bare_hooks(model):
    """Whether nothing is left on the modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(module, kind) for module in model.modules() for kind in kinds)


def assert_same_weights(one, other):
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def assert_copies_hold_nothing(recorder):
    """A copy or pickle of a callback in the middle of a fit has its arguments and no run."""
    assert recorder._attached.recorder is not None
    for twin in (copy.deepcopy(recorder), pickle.loads(pickle.dumps(recorder))):  # noqa: S301 - our own
        assert twin._attached.recorder is None
        assert twin.path is None
        assert twin._attached._options == recorder._attached._options
        assert twin._attached._where == recorder._attached._where


def assert_missing_is_told(monkeypatch, name, library, advice):
    """Importing the integration without its library is an error that says how to install it."""
    module = f"dropdiag.integrations.{name}"
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(dd.DropdiagError, match=f"{module} needs .*; install it with: {advice}") as caught:
        import_module(module)
    assert isinstance(caught.value, ImportError)
