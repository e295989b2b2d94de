"""Axes that change the dropouts of the model, for a function that knows no rate."""

from __future__ import annotations

import pytest
import torch

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.changes import change

from . import trains


def of_run(made, condition):
    return next(run for run in made.runs() if run.condition == condition)


def end_of(model, path):
    torch.manual_seed(0)
    trains.fit(model, path, own_generator=0)
    return dd.load(path).select("loss")["value"].tolist()


def test_the_rates_are_those_that_a_network_is_built_with(swept, tmp_path):
    made = swept("built", {"dropout:2": [0, 0.3]})
    for rate in (0, 0.3):
        run = of_run(made, f"dropout:2={rate}")
        (told,) = run.meta["interventions"]
        assert (told["what"], told["sites"], told["rates"], told["step"]) == ("set", ["2"], [rate], 0)
        torch.manual_seed(0)
        expected = end_of_built(rate, tmp_path / f"alone-{rate}")
        assert run.select("loss")["value"].tolist() == expected
        assert run.meta["config"]["dropout:2"] == rate


def end_of_built(rate, path):
    trains.fit(trains.network(rate), path, own_generator=0)
    return dd.load(path).select("loss")["value"].tolist()


def test_dropouts_are_put_where_there_are_none(swept, tmp_path):
    made = swept("without_dropout", {"insert:1": [0, 0.5]})
    run = of_run(made, "insert:1=0.5")
    assert [(told["what"], told["sites"]) for told in run.meta["interventions"]] == [("insert", ["1:dropout"])]
    torch.manual_seed(0)
    assert run.select("loss")["value"].tolist() == end_of_built(0.5, tmp_path / "alone")


@pytest.mark.parametrize(("axis", "value", "rates"), [
    ("early:5:*", 0.4, lambda t: 0.4 if t < 5 else 0.0),
    ("late:5:*", 0.4, lambda t: 0.0 if t < 5 else 0.4),
    ("linear:8:*", 0.4, lambda t: 0.4 * (1 - min(t / 8, 1))),
    ("schedule:*", "early(0.3, 0.1, 4)", lambda t: 0.3 if t < 4 else 0.1),
    ("schedule:*", 0.2, lambda t: 0.2),
])  # fmt: skip
def test_schedules_hold_at_every_step(swept, axis, value, rates):
    seen = []

    def train(config, path):
        model = trains.network()
        model[2].register_forward_pre_hook(lambda module, _: seen.append(module.p) if module.training else None)
        trains.fit(model, path)

    made = swept(train, {axis: [value]})
    assert made.failed == {}
    assert seen == pytest.approx([rates(t) for t in range(trains.STEPS)])
    assert made.runs()[0].meta["config"][axis] == value


def test_a_pattern_that_matches_nothing_fails_the_run(swept):
    made = swept("built", [{"dropout:2": 0.1}, {"dropout:2": 0.2}])
    assert made.failed == {}
    with pytest.raises(Exception, match="'fc' matches no dropout; the dropouts are 2"):
        swept("built", {"dropout:fc": [0.1]}, out=made.out / "other")


@pytest.mark.parametrize(("key", "value", "message"), [
    ("dropout:", 0.1, "is no axis that changes dropouts"),
    ("early:x:*", 0.1, "is no axis that changes dropouts"),
    ("late:5:*", "high", "a dropout rate is a number"),
    ("schedule:*", "early(0.1)", "takes rates and schedules, as early"),
    ("schedule:*", "early(a, 0, 3)", "has rates that are no numbers"),
    ("insert:1", True, "a dropout rate is a number"),
])  # fmt: skip
def test_what_is_no_change_is_an_error(key, value, message):
    with pytest.raises(ArgumentError, match=message):
        change(key, value)


def test_a_plain_key_changes_nothing():
    assert change("rate", 0.1) is None
    assert change("early_stop", 3) is None
