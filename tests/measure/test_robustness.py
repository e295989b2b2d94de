"""Loss and accuracy under noise on the inputs, against closed forms and slow loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.measure.loss_surface.input_noise import InputNoise
from dropdiag.measure.passes.state.random_states import derived
from dropdiag.measure.robustness import RobustnessResult, robustness


def classifier() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
    x = torch.randn(40, 6) * 5.0 + 1.0
    for _ in range(3):
        model(x)
    return model, x, torch.randint(0, 3, (40,))


def number(found: RobustnessResult, quantity: str) -> float:
    value = found[quantity]
    assert value is not None
    return value


def test_the_loss_of_a_linear_map_rises_by_the_square_of_the_noise() -> None:
    torch.manual_seed(1)
    model, x = nn.Linear(4, 2).double(), 3.0 * torch.randn(60, 4, dtype=torch.float64) + 10.0
    found = robustness(model, x, lambda out: (out**2).sum(1).mean(), noise=(0.1, 0.5), draws=200)
    clean = float((model(x) ** 2).sum(1).mean().detach())
    assert number(found, "noisy_loss@0") == pytest.approx(clean, rel=1e-12)
    for size in (0.1, 0.5):
        wanted = (size * float(x.std(correction=0))) ** 2 * float((model.weight**2).sum().detach())
        assert abs(number(found, f"noisy_loss@{size:g}") - clean - wanted) < 4.0 * number(
            found, f"noisy_loss_se@{size:g}"
        )


def test_loss_and_accuracy_are_those_of_a_slow_loop_in_evaluation_mode() -> None:
    model, x, y = classifier()
    found = robustness(model, (x, y), noise=(0.3, 2.0), draws=5, seed=9)
    assert found.cost.forward == 1 + 5 * 2
    assert found.cost.backward == 0
    assert model.training

    model.eval()
    sd = float(np.std(x.numpy().astype(np.float64)))
    for size in (0.3, 2.0):
        losses, shares = [], []
        for draw in range(5):
            generator = torch.Generator().manual_seed(derived(9, "noise", draw))
            with torch.no_grad():
                logits = model(x + size * sd * torch.randn(x.shape, generator=generator)).double()
            logs = logits - torch.logsumexp(logits, 1, keepdim=True)
            losses.append(-float(logs[torch.arange(40), y].mean()))
            shares.append(sum(int(row.argmax()) == int(one) for row, one in zip(logits, y, strict=True)) / 40)
        assert number(found, f"noisy_loss@{size:g}") == pytest.approx(np.mean(losses), rel=1e-5)
        assert number(found, f"noisy_loss_se@{size:g}") == pytest.approx(
            np.std(losses, ddof=1) / math.sqrt(5), rel=1e-3
        )
        assert number(found, f"noisy_accuracy@{size:g}") == pytest.approx(np.mean(shares), abs=1e-12)
        assert number(found, f"noisy_accuracy_se@{size:g}") == pytest.approx(np.std(shares, ddof=1) / math.sqrt(5))
    assert number(found, "noisy_accuracy@0") == int((model(x).argmax(1) == y).sum()) / 40


def test_a_seed_gives_the_same_noise_whatever_sizes_were_asked_for() -> None:
    model, x, y = classifier()
    first, again, other = (robustness(model, (x, y), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["noisy_loss@0.5"] != other["noisy_loss@0.5"]
    assert first["noisy_loss@0"] == other["noisy_loss@0"]
    assert robustness(model, (x, y), noise=(0.5,), seed=1)["noisy_loss@0.5"] == first["noisy_loss@0.5"]


def test_noise_is_on_floating_point_inputs_each_in_its_own_unit_and_on_no_mask() -> None:
    model = nn.Linear(3, 2)
    seen: list[Any] = []

    def forward(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = model

        def forward(self, pair, inputs_embeds, attention_mask, positions):
            out = self.fc(inputs_embeds + pair[0])[:, 0]
            return {"logits": out + 0 * attention_mask.sum() + 0 * positions.sum()}

    torch.manual_seed(0)
    batch = {
        "pair": [torch.randn(400, 5, 3) * 0.01, torch.arange(4)],
        "inputs_embeds": torch.randn(400, 5, 3) * 100.0,
        "attention_mask": torch.rand(400, 5),
        "positions": torch.arange(5),
    }
    wrapped = Wrapped()
    noise = InputNoise(batch)
    assert set(noise.sds) == {"pair.0", "inputs_embeds"}
    handle = noise.on(wrapped, 0.5, torch.Generator().manual_seed(0))
    watch = wrapped.register_forward_pre_hook(forward, with_kwargs=True)
    wrapped(**batch)
    handle.remove()
    watch.remove()
    (got,) = seen
    for name, added in (
        ("pair", got["pair"][0] - batch["pair"][0]),
        ("embeds", got["inputs_embeds"] - batch["inputs_embeds"]),
    ):
        wanted = 0.5 * (0.01 if name == "pair" else 100.0)
        assert float(added.std()) == pytest.approx(wanted, rel=0.05)
        assert abs(float(added.mean())) < 4.0 * wanted / math.sqrt(added.numel())
    assert torch.equal(got["attention_mask"], batch["attention_mask"])
    assert torch.equal(got["positions"], batch["positions"])
    assert torch.equal(got["pair"][1], batch["pair"][1])

    found = robustness(wrapped, batch, targets=torch.randint(0, 2, (400,)))
    assert all(one.value is not None for one in found.values())


def test_targets_that_are_left_out_do_not_count() -> None:
    model, x, y = classifier()
    y = y.clone()
    y[:10] = -100
    found = robustness(model, x, targets=y, noise=(0.1,), draws=2)
    model.eval()
    assert number(found, "noisy_accuracy@0") == int((model(x)[10:].argmax(1) == y[10:]).sum()) / 30


def test_an_accuracy_that_cannot_be_had_is_missing_and_the_loss_is_there() -> None:
    model, x, y = classifier()

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x), 3

    def loss(out, y):
        return F.cross_entropy(out[0], y)

    found = robustness(Pair(), (x, y), loss, noise=(0.2,), draws=2)
    assert number(found, "noisy_loss@0.2") > 0
    why = {one.quantity: one.why for one in found.values() if one.value is None}
    assert set(why) == {"noisy_accuracy@0", "noisy_accuracy@0.2", "noisy_accuracy_se@0.2"}
    assert "gives a tuple without logits: give output=" in str(why["noisy_accuracy@0"])
    given = robustness(Pair(), (x, y), loss, noise=(0.2,), draws=2, output=lambda out: out[0])
    plain = robustness(model, (x, y), noise=(0.2,), draws=2)
    assert given["noisy_accuracy@0.2"] == plain["noisy_accuracy@0.2"]


def test_without_class_numbers_there_is_no_accuracy_to_miss() -> None:
    model, x, _ = classifier()
    found = robustness(model, (x, torch.randn(40, 3)), F.mse_loss, noise=(0.2,), draws=2)
    assert {one.quantity for one in found.values()} == {"noisy_loss@0", "noisy_loss@0.2", "noisy_loss_se@0.2"}
    assert str(found).startswith("RobustnessResult: 3 forward and 0 backward passes, seed 0")


def test_a_loss_that_overflows_is_missing() -> None:
    found = robustness(nn.Linear(2, 1), torch.randn(5, 2), lambda out: out.sum() * math.inf, noise=(0.1,), draws=2)
    assert {one.why for one in found.values()} == {"1 of 1 samples are not finite", "2 of 2 samples are not finite"}


def test_an_in_place_model_and_low_precision() -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 4, dtype=torch.bfloat16)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)).bfloat16()
    before = x.clone()
    found = robustness(model, (x, torch.randint(0, 3, (30,))), noise=(5.0,), draws=2)
    assert torch.equal(x, before)
    assert number(found, "noisy_loss@5") != number(found, "noisy_loss@0")


def test_nothing_of_the_model_changes(tmp_path) -> None:
    model, x, y = classifier()
    recorder = dd.Recorder(model, tmp_path / "run", every=1)
    F.cross_entropy(model(x), y).backward()
    recorder.step()
    tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers(), x]
    before, states = [(t.clone(), t._version) for t in tensors], [torch.get_rng_state(), np.random.get_state()[1]]  # noqa: NPY002
    with recorder:
        alone = robustness(model, (x, y))
        assert recorder.measure("robustness", (x, y)) == alone
    assert all(
        torch.equal(t, copy) and t._version == version for t, (copy, version) in zip(tensors, before, strict=True)
    )
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert all(module.training for module in model.modules())
    rows = dd.load(tmp_path / "run").scalars
    written = rows[rows["phase"] == "robustness"].set_index("quantity")["value"]
    assert {name: written[name] for name in alone.table["quantity"]} == {
        one.quantity: one.value for one in alone.values()
    }


class _Untouched(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise AssertionError("it was run")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(4, 2, dtype=torch.long), {}, "floating-point inputs, and the batch has none: .* token numbers"),
        ({"mask": torch.rand(4, 2)}, {}, "floating-point inputs, and the batch has none"),
        (torch.ones(4, 2), {}, "the input 0 has a standard deviation of 0, which is the unit of the noise"),
        ([torch.rand(4, 2), torch.full((4, 2), math.nan)], {}, "the input 1 has a standard deviation of nan"),
        (torch.rand(4, 2), {"noise": ()}, "noise must be a sequence of positive numbers"),
        (torch.rand(4, 2), {"noise": (0.0,)}, "each of noise must be a positive finite number, got 0.0"),
        (torch.rand(4, 2), {"draws": 1}, "draws must be a whole number of at least 2, got 1"),
        (torch.rand(4, 2), {"seed": None}, "seed must be a whole number"),
        (torch.rand(4, 2), {"targets": None}, "there is no loss"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        robustness(_Untouched(), x, **{"targets": torch.zeros(4, dtype=torch.long), **options})


class _WithLabels(nn.Module):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return (x - labels).square().mean()


def test_labels_that_a_model_takes_get_no_noise() -> None:
    x = torch.randn(4000, 2)
    found = robustness(_WithLabels(), {"x": x, "labels": 10 * torch.randn(4000, 2)}, lambda out: out, noise=(0.5,))
    clean, noisy = found["noisy_loss@0"], found["noisy_loss@0.5"]
    assert clean is not None
    assert noisy is not None
    assert noisy - clean == pytest.approx(0.25, abs=0.15)
