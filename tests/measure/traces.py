"""That a measurement leaves no trace: in the model, in what surrounds it, in its training, in a run of it."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.nn import functional as F

import dropdiag as dd
from tests.measure.test_no_trace import Net, data, plain, seed_everything, steps, surroundings


def held(model):
    """The tensors of a model: values, identities and version counters."""
    tensors = model.state_dict(keep_vars=True).values()
    return [(plain(tensor), id(tensor), tensor._version) for tensor in tensors]


@contextmanager
def untouched(model):
    """Assert that what is done inside changes nothing."""
    before = held(model), surroundings()
    yield
    assert (held(model), surroundings()) == before


def check_training_goes_on(kind, measure, prepare=None):
    """Assert that a training with a measurement in its middle is the one without, bit for bit.

    Parameters
    ----------
    kind : callable
        One of `KINDS`.
    measure : callable
        Takes the model. Hooks on its backward passes must not see it.
    prepare : callable, optional
        Takes the model before it is trained.
    """
    results = []
    for measured in (False, True):
        seed_everything()
        model = Net(kind())
        if prepare is not None:
            prepare(model)
        _, optimizer = steps(model, 3)
        seen: list[str] = []
        model.third.register_full_backward_hook(lambda *_, seen=seen: seen.append("module"))
        model.first.weight.register_hook(lambda _, seen=seen: seen.append("tensor"))
        model.first.weight.register_post_accumulate_grad_hook(lambda _, seen=seen: seen.append("parameter"))
        if measured:
            before = plain(model)
            with untouched(model):
                measure(model)
            assert plain(model) == before
            assert seen == []
        losses, _ = steps(model, 3, optimizer)
        results.append((losses, plain(model), surroundings()))
    assert results[0] == results[1]


def recorded_beside(kind, folder, measure):
    """Assert that a run holds of its training what it would without measurements; return the run of the one with them.

    Parameters
    ----------
    kind : callable
        One of `KINDS`.
    folder : Path
    measure : callable
        Takes the Recorder and the model, after each of the first two steps.
    """
    results = []
    for measured in (False, True):
        seed_everything()
        model, (x, y) = Net(kind()), data()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with dd.Recorder(model, folder / f"{measured}", every=1) as rec:
            for step in range(3):
                if measured and step:
                    with untouched(model):
                        measure(rec, model)
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rec.step(loss=loss)
        losses, _ = steps(model, 2, optimizer)
        run = dd.load(folder / f"{measured}")
        rows = run.scalars[(run.scalars["phase"] == "train") & ~run.scalars["quantity"].str.endswith("seconds")]
        results.append((losses, plain(model), surroundings(), rows.to_csv(index=False)))
    assert results[0] == results[1]
    return run
