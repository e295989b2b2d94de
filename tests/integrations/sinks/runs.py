"""A training that is recorded, and what its folder holds, as sinks are sent it."""

from __future__ import annotations

import math
from collections import defaultdict

import torch

import dropdiag as dd
from dropdiag.integrations.tags import tag
from dropdiag.store.histogram_rows import rows_of
from tests.networks import mlp, train


def recorded(path, sink, *, steps=8, model=None, error=None, **options):
    """Train and record into a folder and a sink; return the model and its losses."""
    model = mlp() if model is None else model
    with dd.Recorder(model, path, every=4, to=sink, config={"lr": 0.5, "condition": "Dropout"}, **options) as rec:
        losses = train(model, steps, rec, after_step=rec.flush)
        rec.log(accuracy=0.25, lost=float("nan"))
        with rec.evaluation("Held-out"):
            model.eval()
            model(torch.arange(60.0).reshape(5, 12))
            model.train()
        if error is not None:
            raise error
    return model, losses


def scalars(path):
    """(phase, tag) -> {step: value} of all numbers that are finite."""
    found = defaultdict(dict)
    run = dd.load(path)
    for row in run.scalars.itertuples():
        if math.isfinite(row.value):
            found[row.phase, tag(row._replace(layer=row.layer if isinstance(row.layer, str) else None))][row.step] = (
                row.value
            )
    return dict(found)


def histograms(path):
    """(phase, tag) -> {step: Histogram}."""
    found = defaultdict(dict)
    for table in dd.load(path).tables.stream("histograms"):
        for row in rows_of(table):
            found[row.phase, tag(row)][row.step] = row.histogram
    return dict(found)


def same_training(path, sink):
    """Whether the training is bit for bit the one without a Recorder."""
    bare = mlp()
    expected = train(bare, 8)
    model, losses = recorded(path, sink)
    pairs = zip([*expected, *bare.parameters()], [*losses, *model.parameters()], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
