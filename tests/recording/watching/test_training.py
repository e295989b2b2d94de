"""Whether `step()` is called as it should be, and whether any activation is known: told at once, and never falsely."""

import copy
import warnings
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.networks import batches, mlp, train

FORGOTTEN = "rec.step\\(\\) was not called"
TOO_OFTEN = "called again and again with new gradients and unchanged weights"
ZERO = "gradients of all weights are exactly zero"
MISSING = "no weight had a gradient at the end of a step"


class OldStyle(torch.optim.Optimizer):
    """Writes to ``p.data``, which no version counts, as optimisers of old did."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad.data, alpha=-0.1)


def update(model, optimizer, batch, *, set_to_none=True):
    optimizer.zero_grad(set_to_none=set_to_none)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


def test_a_forgotten_step_is_told_while_it_trains(tmp_path):
    model, said = mlp(), []
    optimizer = torch.optim.Adam(model.parameters())
    rec = dd.Recorder(model, tmp_path / "run")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for batch in batches(100):
            update(model, optimizer, batch)
            said.append(len(caught))
    rec.close()
    assert [str(w.message)[:20] for w in caught] == ["the weights have cha"]
    assert "Call rec.step() once after each optimizer.step()" in str(caught[0].message)
    assert said[9] == 0
    assert said[10] == 1
    assert dd.load(tmp_path / "run").meta["warnings"] == [str(caught[0].message)]


def test_a_forgotten_step_is_told_of_optimisers_that_hide_what_they_do(tmp_path):
    model = nn.Sequential(nn.Linear(12, 3), nn.Tanh())
    rec = dd.Recorder(model, tmp_path / "run", probes="light")
    with pytest.warns(DropdiagWarning, match=FORGOTTEN) as caught:
        for batch in batches(1100):
            update(model, OldStyle(model.parameters()), batch)
    rec.close()
    assert len(caught) == 1


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_for_each_micro_batch_is_told(tmp_path, parts, set_to_none):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rec, told_at = dd.Recorder(model, tmp_path / "run"), None
    with pytest.warns(DropdiagWarning, match=TOO_OFTEN) as caught:
        for k, (x, y) in enumerate(batches(40)):
            (F.cross_entropy(model(x), y) / parts).backward()
            if k % parts == parts - 1:
                optimizer.step()
                optimizer.zero_grad(set_to_none=set_to_none)
            with warnings.catch_warnings():
                if k % parts == parts - 1:  # zeroed before the step: another fault, told elsewhere
                    warnings.filterwarnings("ignore", message=f"(the {ZERO})|({MISSING})")
                rec.step()
            told_at = told_at or (k if caught.list else None)
    rec.close()
    assert sum("unchanged weights" in str(w.message) for w in caught) == 1
    assert told_at < 12


def test_gradients_that_were_set_to_zero_before_the_step_are_told(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rec = dd.Recorder(model, tmp_path / "run", probes="full")
    with pytest.warns(DropdiagWarning, match=ZERO) as caught:
        for x, y in batches(3):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            rec.step()
    rec.close()
    assert len(caught) == 1


def test_steps_that_were_never_marked_are_told_at_the_end_at_the_latest(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rec = dd.Recorder(model, tmp_path / "run")
    for batch in batches(3):
        update(model, optimizer, batch)
    with pytest.warns(DropdiagWarning, match=r"step\(\) was never called: nothing of the training is recorded"):
        rec.close()


# Trainings in which nothing is wrong: warnings are errors here


def lbfgs(model, rec):
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=30, tolerance_grad=0, tolerance_change=0)
    for x, y in batches(2):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        rec.step()


def old_style(model, rec):
    for batch in batches(40):
        update(model, OldStyle(model.parameters()), batch, set_to_none=False)
        rec.step()


def no_learning_rate(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for batch in batches(40):
        update(model, optimizer, batch)
        rec.step()


def accumulation(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for k, (x, y) in enumerate(batches(120)):
        F.cross_entropy(model(x), y).backward()
        if k % 40 == 39:
            optimizer.step()
            rec.step()
            optimizer.zero_grad()


def many_critic_steps(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for k, batch in enumerate(batches(50)):
        update(model, optimizer, batch)
        if k % 5 == 4:
            rec.step()


def step_before_the_update(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches(40):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        rec.step()
        optimizer.step()


def frozen(model, rec):
    model.requires_grad_(False)
    for x, _ in batches(40):
        model(x.requires_grad_()).sum().backward()
        rec.step()


def scaler_skips(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = rec.scaler
    for k, (x, y) in enumerate(batches(40)):
        optimizer.zero_grad()
        scale = scaler.scale(F.cross_entropy(model(x), y)) * (float("inf") if k < 12 else 1.0)
        scale.backward()
        scaler.step(optimizer)
        scaler.update()
        rec.step()


def inner_loop_of_functional_calls(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches(4):
        fast = dict(model.named_parameters())
        for _ in range(15):
            loss = F.cross_entropy(torch.func.functional_call(model, fast, (x,)), y)
            gradients = torch.autograd.grad(loss, tuple(fast.values()), create_graph=True)
            fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), gradients, strict=True)}
        optimizer.zero_grad()
        F.cross_entropy(torch.func.functional_call(model, fast, (x,)), y).backward()
        optimizer.step()
        rec.step()


def weights_renormalised_in_forward(model, rec):
    def renormalise(module, _args):  # as nn.Embedding(max_norm=1.0) does
        with torch.no_grad():
            module.weight.renorm_(2, 0, 1.0)

    handle = model[0].register_forward_pre_hook(renormalise)
    accumulation(model, rec)
    handle.remove()


def long_evaluation(model, rec):
    train(model, 1, rec)
    model.eval()
    for x, _ in batches(1200):
        model(x)
    model.train()
    train(model, 2, rec)


TRAININGS = (
    *(lbfgs, old_style, no_learning_rate, accumulation, many_critic_steps, step_before_the_update, frozen),
    *(scaler_skips, inner_loop_of_functional_calls, long_evaluation, weights_renormalised_in_forward),
)


@pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.__name__)
def test_no_false_alarm(tmp_path, training):
    model, scaler = mlp(), torch.amp.GradScaler("cpu") if training is scaler_skips else None
    expected = {FORGOTTEN, TOO_OFTEN, ZERO}
    with warnings.catch_warnings(record=True) as caught, dd.Recorder(model, tmp_path / "r", scaler=scaler) as rec:
        warnings.simplefilter("always")
        rec.scaler = scaler
        training(model, rec)
    said = [str(w.message) for w in caught]
    assert not [message for message in said for part in expected if part.replace("\\", "") in message]


# Activations that nobody knows -----------------------------------------------------------------------------------


class Siren(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((12, 8, 8, 3)))

    def forward(self, x):
        for layer in self.layers:
            x = torch.sign(layer(x)) * layer(x) + layer(x).amax(1, keepdim=True)
        return x


class Ramp(nn.Module):
    def forward(self, x):
        return x * (x > 0)


def test_a_network_without_a_known_activation_is_told_after_its_first_pass(tmp_path):
    model, x = Siren(), next(batches(1))[0]
    rec = dd.Recorder(model, tmp_path / "run")
    model(x).sum().backward()
    with pytest.warns(DropdiagWarning, match=r"seen in its forward pass: functions amax, sign\. .*register_act"):
        model(x)
    model(x)
    rec.step()
    rec.close()
    model = nn.Sequential(nn.Linear(12, 8), Ramp(), nn.Linear(8, 3))
    rec = dd.Recorder(model, tmp_path / "modules")
    model(x).sum().backward()
    with pytest.warns(DropdiagWarning, match="seen in its forward pass: modules Ramp. Make yours"):
        rec.step()
    rec.close()


def test_what_is_known_or_not_wanted_is_not_asked_for(tmp_path):
    class Functional(Siren):
        def forward(self, x):
            for layer in self.layers:
                x = torch.tanh(layer(x))
            return x

    for name, model, options in (
        ("functional", Functional(), {}),
        ("left out", mlp(), {"include": ["0", "3"]}),
        ("weights", Siren(), {"probes": "weights"}),
        ("lstm", Last(), {}),
    ):
        with dd.Recorder(model, tmp_path / name, **options) as rec:
            train(model, 2, rec)


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.lstm(x[:, None])[0][:, -1])


# Models on which hooks do not run as they should ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda: nn.DataParallel(nn.Linear(3, 3)), "is an nn.DataParallel.*use DistributedDataParallel"),
        (lambda: type("Mine", (nn.DataParallel,), {})(nn.Linear(3, 3)), "is an nn.DataParallel"),
        (lambda: torch.jit.script(nn.Tanh()), "is scripted and runs no Python hooks"),
        (
            lambda: torch.jit.trace(nn.Sequential(nn.Linear(3, 3)), torch.ones(1, 3)),
            "is traced and runs no Python hooks",
        ),
    ],
    ids=["parallel", "subclass", "scripted", "traced"],
)
def test_parts_that_run_no_hooks_of_ours_are_refused_wherever_they_are(tmp_path, part, message):
    inner = part()
    for model, name in ((inner, "the model"), (nn.Sequential(mlp(), nn.ModuleDict({"deep": inner})), "1.deep")):
        with pytest.raises(dd.DropdiagError, match=rf"^{name} {message}"):
            dd.Recorder(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_graph_modules_are_recorded(tmp_path):
    traced = torch.fx.symbolic_trace(copy.deepcopy(mlp()))
    with dd.Recorder(traced, tmp_path / "run") as rec:
        train(traced, 2, rec)
    assert dd.load(tmp_path / "run").histogram("net_value", "1", phase="train").n == 20 * 16


def test_functions_in_a_network_that_is_trained_in_evaluation_mode_are_not_called_unknown(tmp_path):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)))

    model = Functional().eval()
    with pytest.warns(DropdiagWarning, match="call model.train\\(\\) before training") as said:
        with dd.Recorder(model, tmp_path / "run") as rec:
            train(model, 3, rec)
    assert len(said) == 1
