"""Rates that are set train as rates that were built in; undoing, in whatever order, restores what was there."""

import copy
import doctest
import gc
import itertools
import random
import re
import weakref
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from docs.checks.names import fresh
from dropdiag.errors import ArgumentError, DropdiagWarning


def network(p, q=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, 16), nn.Tanh(), nn.Dropout(q), nn.Linear(16, 2)
    )


def trained(model, steps=6, each=lambda step: None):
    """Return the losses of a training, its weights and the state of the generator at its end."""
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    torch.manual_seed(1)
    losses = []
    for step in range(steps):
        loss = F.cross_entropy(model(torch.randn(32, 8)), torch.randint(2, (32,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        each(step)
    return [*losses, *(p.detach().clone() for p in model.parameters()), torch.get_rng_state()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def random_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_a_training_at_a_rate_that_was_set_is_that_of_a_model_built_with_it():
    model = network(0.1)
    before = random_states()
    handle = dd.interventions.set(model, {"2": 0.3})
    assert random_states() == before
    assert same(trained(model), trained(network(0.3)))
    assert not same(trained(network(0.1)), trained(network(0.3)))
    handle.undo()
    assert model[2].p == 0.1
    assert random_states()[1:] == before[1:]


def test_the_last_pattern_that_matches_holds():
    model = network(0.1, 0.2)
    handle = dd.interventions.set(model, {"*": 0.3, "5": 0.4})
    assert (model[2].p, model[5].p) == (0.3, 0.4)
    assert handle.describe()["rates"] == [0.3, 0.4]


def test_interventions_are_undone_in_any_order():
    """Against a slow one: after each undo a rate is that of the last intervention on it that is left."""

    def make(model):
        return [
            dd.interventions.set(model, {"2": 0.5, "5": 0.6}),
            dd.interventions.off(model, "2"),
            dd.interventions.schedule(model, "5", early=(0.7, 0, 9)),
            dd.interventions.set(model, {"*": 0.8}),
        ]

    given = [{2: 0.5, 5: 0.6}, {2: 0.0}, {5: 0.7}, {2: 0.8, 5: 0.8}]
    for order in itertools.permutations(range(4)):
        model = network(0.1, 0.2)
        handles, left = make(model), dict(enumerate(given))
        for number in order:
            handles[number].undo()
            handles[number].undo()
            del left[number]
            for at, own in ((2, 0.1), (5, 0.2)):
                assert model[at].p == ([own] + [rates[at] for rates in left.values() if at in rates])[-1]
        assert not any(handle.in_force for handle in handles)


def test_the_very_number_comes_back():
    model = network(0.1)
    model[2].p = rate = np.float32(0.3)
    assert str(dd.interventions.list(model)[0].rate) == "0.3"
    with pytest.raises(RuntimeError, match="in the middle"), dd.interventions.off(model):
        raise RuntimeError("in the middle")
    assert model[2].p is rate


@pytest.mark.parametrize("later", [False, True])
def test_a_rate_that_something_else_has_set_since_stays_and_is_told(later):
    model = network(0.1, 0.2)
    first = dd.interventions.set(model, {"*": 0.5})
    model[2].p = 0.25
    second = dd.interventions.off(model) if later else None
    with pytest.warns(
        DropdiagWarning, match=re.escape("something else has set since: 2 (" + ("0.0" if later else "0.25"))
    ):
        first.undo()
    if second is not None:
        assert model[2].p == 0
        second.undo()
    assert (model[2].p, model[5].p) == (0.25, 0.2)
    with dd.interventions.off(model):
        assert model[2].p == 0
    assert model[2].p == 0.25


def test_modules_that_are_gone_or_copied_meanwhile():
    model = network(0.1, 0.2)
    handle = dd.interventions.off(model)
    copied = copy.deepcopy(model)
    gone = weakref.ref(model[2])
    model[2] = nn.Dropout(0.7)
    gc.collect()
    assert gone() is None
    handle.undo()
    assert (model[2].p, model[5].p) == (0.7, 0.2)
    assert (copied[2].p, copied[5].p) == (0, 0)  # a copy of its own, with the rates that it was copied with
    whole = weakref.ref(model)
    kept = dd.interventions.off(model)
    del model
    gc.collect()
    assert whole() is None
    kept.undo()


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, float("nan"), True, "0.3", None, torch.tensor(0.3)])
def test_what_is_no_rate_is_refused_and_nothing_is_changed(rate):
    model = network(0.1, 0.2)
    for change in (
        lambda: dd.interventions.set(model, {"2": 0.5, "5": rate}),
        lambda: dd.interventions.schedule(model, late=(0.0, rate, 10)),
        lambda: dd.interventions.schedule(model, stepped={0: rate}),
        lambda: dd.interventions.insert(model, after="1", p=rate),
    ):
        with pytest.raises(ArgumentError, match=r"a dropout rate is a number in \[0, 1\), got"):
            change()
    assert (model[2].p, model[5].p) == (0.1, 0.2)
    assert not model[1]._forward_hooks


def test_a_pattern_without_a_dropout_is_refused_and_nothing_is_changed():
    model = network(0.1, 0.2)
    with pytest.raises(ArgumentError, match="'4' matches no dropout; the dropouts are 2, 5"):
        dd.interventions.set(model, {"2": 0.5, "4": 0.5})
    with pytest.raises(ArgumentError, match=r"'\*' matches no dropout; the dropouts are none \(insert\(\)"):
        dd.interventions.off(nn.Linear(2, 2))
    for wrong in ({}, 0.3, [("2", 0.3)]):
        with pytest.raises(ArgumentError, match="rates is a mapping of patterns to rates"):
            dd.interventions.set(model, wrong)
    for wrong in ((), (2,)):
        with pytest.raises(ArgumentError, match="a pattern for names is a string"):
            dd.interventions.off(model, wrong)
    assert (model[2].p, model[5].p) == (0.1, 0.2)


class Literal(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.3, self.training)


def test_a_wildcard_leaves_what_cannot_be_set_and_tells():
    model = nn.Sequential(nn.Dropout(0.1), Literal())
    with pytest.warns(DropdiagWarning, match=r"left as they are: 1:dropout \(its rate is 0\.3 in the code of Literal"):
        handle = dd.interventions.off(model)
    assert (handle.sites, handle.left) == (("0",), ("1:dropout",))
    with pytest.raises(ArgumentError, match="the rate cannot be set of 1:dropout"):
        dd.interventions.off(model, "1*")


def test_a_wildcard_passes_over_layers_that_were_built_without_dropout():
    model = nn.Sequential(nn.Dropout(0.0), nn.LSTM(3, 3, 2), nn.LSTM(3, 3, 2, dropout=0.1))
    first = dd.interventions.off(model)
    assert first.sites == ("0", "2:dropout")
    assert dd.interventions.set(model, {"*": 0.3}).sites == ("0", "2:dropout")  # 0 now, but it has dropout
    assert dd.interventions.set(model, {"1:dropout": 0.3}).sites == ("1:dropout",)
    assert dd.interventions.set(nn.Sequential(nn.LSTM(3, 3, 2)), {"*": 0.3}).sites == ("0:dropout",)


def test_a_compiled_model_takes_a_new_rate():
    torch.compiler.reset()
    model = nn.Sequential(nn.Dropout(0.1))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.ones(10_000)
    compiled(x)
    with dd.interventions.set(compiled, {"*": 0.5}):
        assert abs(float((compiled(x) == 0).float().mean()) - 0.5) < 5 * np.sqrt(0.25 / 10_000)
    assert abs(float((compiled(x) == 0).float().mean()) - 0.1) < 5 * np.sqrt(0.09 / 10_000)


@pytest.mark.parametrize("module", ["changes", "schedules", "sites"])
def test_the_examples_in_the_docstrings_hold(module):
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(import_module(f"dropdiag.interventions.{module}")):
        example.globs.update(fresh(""))
        runner.run(example)
    assert runner.summarize().attempted
    assert not runner.summarize().failed
