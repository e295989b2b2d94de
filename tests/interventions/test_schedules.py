"""Schedules: the rate at every step, with a Recorder and without, in a run that goes on, against loops by hand."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.interventions.registry import InterventionLog
from tests.interventions.test_changes import network, same, trained

FORMS = {
    "early": ({"early": (0.4, 0.1, 3)}, [0.4, 0.4, 0.4, 0.1, 0.1, 0.1]),
    "late": ({"late": (0, 0.4, 2)}, [0, 0, 0.4, 0.4, 0.4, 0.4]),
    "linear": ({"linear": (0.4, 0, 4)}, np.interp(range(6), [0, 4], [0.4, 0.0])),
    "rising": ({"linear": (0.0, 0.3, 5)}, np.interp(range(6), [0, 5], [0.0, 0.3])),
    "stepped": ({"stepped": {3: 0.1, 0: 0.3, 5: 0}}, [0.3, 0.3, 0.3, 0.1, 0.1, 0]),
    "no steps": ({"linear": (0.4, 0.2, 0)}, [0.2] * 6),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_scheduled_training_is_that_of_a_loop_that_sets_the_rate_by_hand(tmp_path, form, recorded):
    options, rates = FORMS[form]
    by_hand, model = network(0.2, 0.25), network(0.2, 0.25)
    by_hand[2].p = rates[0]

    def set_by_hand(step):
        by_hand[2].p = rates[min(step + 1, 5)]

    wanted = trained(by_hand, each=set_by_hand)
    schedule = dd.interventions.schedule(model, "2", **options)
    seen = [model[2].p]
    if recorded:
        with dd.Recorder(model, tmp_path / "run") as rec:
            found = trained(model, each=lambda _: (rec.step(), schedule.step(), seen.append(model[2].p)))
    else:
        found = trained(model, each=lambda _: (schedule.step(), seen.append(model[2].p)))
    np.testing.assert_allclose(seen[:6], rates, rtol=0, atol=1e-15)
    assert schedule.completed == 6
    assert same(found, wanted)
    schedule.undo()
    assert (model[2].p, model[5].p) == (0.2, 0.25)
    schedule.step()
    assert model[2].p == 0.2


def steps(rec, model, number=1):
    for _ in range(number):
        model(torch.ones(4, 8)).sum().backward()
        rec.step()


def test_a_resumed_run_puts_the_schedule_where_it_was(tmp_path):
    rates = FORMS["linear"][1]
    model = network(0.2)
    with dd.Recorder(model, tmp_path / "run") as rec:
        steps(rec, model, 3)
    schedule = dd.interventions.schedule(model, "2", linear=(0.4, 0, 4))
    assert model[2].p == 0.4
    with dd.Recorder(model, tmp_path / "run", resume=True) as rec:
        assert model[2].p == pytest.approx(rates[3])
        steps(rec, model)
        assert model[2].p == 0
    with dd.Recorder(model, tmp_path / "run", resume=2) as rec:  # a checkpoint before the end
        assert model[2].p == pytest.approx(rates[2])
        late = dd.interventions.schedule(model, "5", late=(0, 0.3, 3))  # made while a run is under way
        assert (late.completed, model[5].p) == (2, 0)
        steps(rec, model)
        assert model[5].p == 0.3
    assert schedule.completed == 3


def test_a_new_run_leaves_a_schedule_where_it_is(tmp_path):
    model = network(0.2)
    schedule = dd.interventions.schedule(model, "2", early=(0.4, 0, 4))
    schedule.step()
    schedule.step()
    with dd.Recorder(model, tmp_path / "a") as rec:
        assert (schedule.completed, model[2].p) == (2, 0.4)
        steps(rec, model)
    schedule.step()  # nobody else counts any more
    assert (schedule.completed, model[2].p) == (4, 0)
    with dd.Recorder(model, tmp_path / "b") as rec:
        steps(rec, model)
    assert schedule.completed == 5
    other = dd.interventions.schedule(network(0.2), completed=4, early=(0.4, 0, 4))
    assert other.rate == 0


def test_a_recorder_of_a_part_counts_and_one_of_another_model_does_not(tmp_path):
    whole = nn.ModuleDict({"part": network(0.2), "rest": nn.Dropout(0.2)})
    schedule = dd.interventions.schedule(whole, "part.2", early=(0.4, 0, 2))
    model = network(0.1)
    with dd.Recorder(model, tmp_path / "other") as rec:
        steps(rec, model, 3)
    assert schedule.completed == 0
    with dd.Recorder(whole["part"], tmp_path / "part") as rec:
        steps(rec, whole["part"], 2)
    assert (whole["part"][2].p, whole["rest"].p) == (0, 0.2)


def test_of_two_recorders_the_first_counts_and_then_the_other():
    model = network(0.2)
    schedule = dd.interventions.schedule(model, linear=(0.4, 0, 40))
    first, second = InterventionLog(model, 0, []), InterventionLog(model, 0, [])
    for completed in (1, 2):
        second.step(completed)
        first.step(completed)
    assert schedule.completed == 2
    first.close()
    second.step(3)
    second.step(4)
    assert schedule.completed == 4


def test_under_a_later_change_a_schedule_goes_on_unseen():
    model = network(0.2)
    schedule = dd.interventions.schedule(model, "2", stepped={0: 0.4, 1: 0.3})
    with dd.interventions.off(model, "2"):
        schedule.step()
        assert model[2].p == 0
    assert model[2].p == 0.3


def test_a_rate_that_something_else_sets_leaves_its_schedule_and_is_told_once():
    model = network(0.2, 0.2)
    schedule = dd.interventions.schedule(model, linear=(0.4, 0, 4))
    model[2].p = 0.35
    with pytest.warns(DropdiagWarning, match="2 leaves its schedule: something else has set its rate, to 0.35"):
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()
        schedule.undo()
    assert (model[2].p, model[5].p) == (0.35, 0.2)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "give one of early=, late=, linear=, stepped=; got none"),
        ({"early": (0.1, 0, 3), "linear": (0.1, 0, 3)}, "got early, linear"),
        ({"early": (0.1, 20)}, r"early= takes \(first rate, last rate, number of steps\), got \(0\.1, 20\)"),
        ({"early": 0.1}, "early= takes"),
        ({"early": (0, 0.1, 20)}, "goes the other way: that is late="),
        ({"late": (0.1, 0, 20)}, "goes the other way: that is early="),
        ({"linear": (0.1, 0, -1)}, "the number of steps must be a whole number of at least 0, got -1"),
        ({"linear": (0.1, 0, 2.5)}, "got 2.5"),
        ({"stepped": {10: 0.1}}, "must say which rate holds from step 0"),
        ({"stepped": [0.1]}, "takes a mapping of completed steps to rates"),
        ({"early": (0.1, 0, 3), "completed": -1}, "completed must be a whole number"),
    ],
)
def test_what_is_no_schedule_is_refused(options, reason):
    model = network(0.2)
    with pytest.raises(ArgumentError, match=reason):
        dd.interventions.schedule(model, **options)
    assert model[2].p == 0.2
