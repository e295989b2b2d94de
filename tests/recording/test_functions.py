"""Activations that are called as functions: each is known, under one name, however it is spelt."""

import contextlib
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.functional.functions import FUNCTIONS

aten = torch.ops.aten

SPELLINGS = {
    "relu": (F.relu, torch.relu, lambda x: x.relu(), aten.relu, aten.relu.default),
    "celu": (F.celu, torch.celu, lambda x: F.celu(x, 1), lambda x: F.celu(x, alpha=1.0), aten.celu),
    "leaky_relu(0.2)": (
        lambda x: F.leaky_relu(x, 0.2),
        lambda x: F.leaky_relu(x, negative_slope=0.2),
        lambda x: F.leaky_relu(x, 0.2, True),
        lambda x: aten.leaky_relu(x, 0.2),
    ),
    "hardtanh(0, 6)": (lambda x: F.hardtanh(x, 0, 6), lambda x: F.hardtanh(x, max_val=6.0, min_val=0.0)),
    "clamp(min=0)": (lambda x: x.clamp(min=0), lambda x: torch.clamp(x, 0.0), lambda x: x.clamp_min(0), lambda x: torch.clip(x, 0)),
    "clamp(min=0, max=6)": (lambda x: x.clamp(0, 6), lambda x: torch.clip(x, max=6, min=0)),
    "hardshrink": (F.hardshrink, lambda x: x.hardshrink(), lambda x: F.hardshrink(x, 0.5)),
    "softshrink": (F.softshrink,),
    "tanhshrink": (F.tanhshrink,),
    "threshold(0.1, 0)": (lambda x: F.threshold(x, 0.1, 0.0), lambda x: torch.threshold(x, 0.1, 0)),
    "softplus(threshold=30)": (lambda x: F.softplus(x, threshold=30), lambda x: F.softplus(x, 1, 30)),
    "sin": (torch.sin, lambda x: x.sin(), aten.sin),
    "erf": (torch.erf, torch.special.erf),
    "atan": (torch.atan, torch.arctan),
    "sigmoid": (torch.sigmoid, torch.special.expit, F.sigmoid),
}  # fmt: skip


class Calls(nn.Module):
    """Calls functions one after the other, each on a value that its layer gives."""

    def __init__(self, functions):
        super().__init__()
        self.layer, self.functions = nn.Linear(6, 6), functions

    def forward(self, x):
        for function in self.functions:
            x = function(self.layer(x).clone())
        return x


def recorded(model, tmp_path, steps=1):
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        for step in range(steps):
            model(torch.randn(16, 6, generator=torch.Generator().manual_seed(step))).sum().backward()
            rec.step()
        coverage = list(rec.coverage())
    return dd.load(tmp_path / "run"), [row for row in coverage if row.kind == "activation"]


def function_of(row):
    return row.layer.partition(":")[2]


@pytest.mark.parametrize("name", SPELLINGS)
def test_one_function_has_one_name(name, tmp_path):
    _, rows = recorded(Calls(SPELLINGS[name]), tmp_path)
    assert {function_of(row) for row in rows} == {name}
    assert sum(row.fired for row in rows) == len(SPELLINGS[name])


def test_settings_of_a_users_own_function_are_named_once(tmp_path):
    @dd.register_activation
    def swish_of_the_test(x, beta=1.0, *, shift=0.0):
        return (x + shift) * torch.sigmoid(beta * x)

    calls = (
        swish_of_the_test,
        lambda x: swish_of_the_test(x, 1),
        lambda x: swish_of_the_test(x, beta=1.0, shift=0),
        lambda x: swish_of_the_test(x, 2),
        lambda x: swish_of_the_test(x, beta=2.0),
    )
    _, rows = recorded(Calls(calls), tmp_path)
    own = [function_of(row) for row in rows if "swish" in row.layer]
    assert sorted(own) == ["swish_of_the_test"] * 3 + ["swish_of_the_test(beta=2)"] * 2


def test_arithmetic_is_no_activation(tmp_path):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            angles = torch.arange(6.0)
            return torch.relu(self.layer(x + angles.sin() + angles.clamp(min=0))).clamp(-3, 3)

    _, rows = recorded(Positions(), tmp_path)
    assert [function_of(row) for row in rows] == ["relu"]


@pytest.mark.parametrize("mixing", [lambda x: F.softmax(x, -1), lambda x: x.log_softmax(-1), torch.nn.Softmax(-1)])
def test_a_softmax_is_listed_and_not_measured(mixing, tmp_path):
    model = Calls((torch.relu, mixing))
    if isinstance(mixing, nn.Module):
        model.mixing = mixing
    _, rows = recorded(model, tmp_path)
    (row,) = [row for row in rows if "oftmax" in row.layer + row.type]
    assert not row.expected
    assert "depends on several net values" in row.skipped


def test_a_slope_that_is_drawn_has_no_saturation_area(tmp_path):
    run, rows = recorded(Calls((lambda x: F.rrelu(x, 0.05, 0.2, training=True),)), tmp_path)
    assert [function_of(row) for row in rows] == ["rrelu"]
    assert run.meta["activations"] == {}


def test_the_share_of_a_sine_in_a_run_is_that_of_its_net_values(tmp_path):
    seen = []
    run, (row,) = recorded(Calls((lambda x: torch.sin(seen.append(30 * x) or seen[-1]),)), tmp_path)
    z = seen[0].detach().double().numpy()
    shares = run.select(["saturation_share_left", "saturation_share_right"], layer=row.layer)
    assert shares["value"].sum() == pytest.approx(np.mean(np.abs(np.cos(z)) <= 0.1), abs=1e-12)


def test_no_function_is_known_under_two_names():
    assert len({id(called) for called in FUNCTIONS}) == len(FUNCTIONS)
    assert {FUNCTIONS[called].name for called in (F.celu, torch.celu, aten.celu, aten.celu_)} == {"celu"}


@pytest.mark.parametrize("where", ["train", "eval"])
def test_a_pass_that_is_interrupted_is_over(tmp_path, where):
    """Where a notebook's cell is stopped: torch runs no hook after a KeyboardInterrupt."""

    class Stopped(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.stop = nn.Linear(4, 4), False

        def forward(self, x):
            x = torch.tanh(self.fc(x))
            if self.stop:
                raise KeyboardInterrupt
            return x

    model = Stopped()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        for stop in (False, True, False, False):
            model.stop = stop
            with contextlib.suppress(KeyboardInterrupt):
                if stop and where == "eval":
                    with rec.evaluation():
                        model.eval()(torch.randn(2, 4))
                model.train()(torch.randn(2, 4)).sum().backward()
                assert torch._C._len_torch_function_stack() == 0
                rec.step()
        rows = {(row.layer, row.call) for row in rec.coverage() if row.kind == "activation"}
    assert rows == {("fc:tanh", 0)}


def test_interception_goes_on_after_a_thread_whose_pass_another_one_outlived(tmp_path):
    inside, other_is_in, first_is_over = (threading.Event() for _ in range(3))

    class Waits(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x, wait=None):
            x = torch.tanh(self.fc(x))
            if wait is not None:
                wait()
            return x

    def first():
        model(torch.randn(2, 4), lambda: (inside.set(), other_is_in.wait(10)))

    def second():
        inside.wait(10)
        model(torch.randn(2, 4), lambda: (other_is_in.set(), first_is_over.wait(10)))

    model = Waits()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        threads = [threading.Thread(target=run) for run in (first, second)]
        for thread in threads:
            thread.start()
        threads[0].join(10)
        first_is_over.set()
        threads[1].join(10)
        rec.step()
        before = [row.fired for row in rec.coverage() if row.layer == "fc:tanh"]
        model(torch.randn(2, 4)).sum().backward()
        rec.step()
        after = [row.fired for row in rec.coverage() if row.layer == "fc:tanh"]
    assert after == [fired + 1 for fired in before]
