"""Flatness as it is measured on a model: against full Hessians, on kinds of networks, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF
from dropdiag.measure.flatness import FlatnessResult, flatness
from tests.measure.loss_surface import hessians
from tests.zoo import importable_torchvision  # noqa: F401 - transformers tries to import it

FEW = {"trace_samples": 2, "sizes": (0.1,), "directions": 2}
CURVATURE = ("hessian_eigenvalue@1", "hessian_trace", "relative_flatness", "sam_sharpness@0.05")


def dropout_network(dtype: torch.dtype = torch.float64) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)).to(dtype)
    return model, torch.randn(30, 5).to(dtype), torch.randint(0, 3, (30,))


def number(found: FlatnessResult, quantity: str, layer: str | None = None) -> float:
    values = [one.value for one in found.values() if (one.quantity, one.layer) == (quantity, layer)]
    assert len(values) == 1
    assert values[0] is not None
    return values[0]


def reasons(found: FlatnessResult) -> dict[tuple[str, str | None], str | None]:
    return {(one.quantity, one.layer): one.why for one in found.values() if one.value is None}


def test_all_numbers_are_those_of_the_network_without_masks() -> None:
    model, x, y = dropout_network()
    bare = nn.Sequential(*(module for module in copy.deepcopy(model) if not isinstance(module, nn.Dropout)))
    matrix = hessians.full_hessian(bare, lambda call: F.cross_entropy(call(x), y))
    found = flatness(model, (x, y), k=3, trace_samples=300, directions=40, sizes=(0.2,), rho=0.1, tolerance=1e-8)

    loss = F.cross_entropy(bare(x), y)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    wanted = torch.linalg.eigvalsh(matrix).flip(0)[:3].tolist()
    assert [found[f"hessian_eigenvalue@{i}"] for i in (1, 2, 3)] == pytest.approx(wanted, rel=1e-7)
    assert abs(number(found, "hessian_trace") - float(matrix.trace())) < 4.0 * number(found, "hessian_trace_se")

    total = 0.0
    for name, layer in zip(("0", "2"), ("0", "3"), strict=True):
        span = hessians.spans(bare)[f"{name}.weight"]
        exact = hessians.relative_flatness(bare[int(name)].weight.detach(), matrix[span, span])
        error = number(found, "relative_flatness_se", layer)
        assert abs(number(found, "relative_flatness", layer) - exact) < 4.0 * error
        total += exact
    assert abs(number(found, "relative_flatness") - total) < 4.0 * number(found, "relative_flatness_se")

    gradient = torch.autograd.grad(loss, list(bare.parameters()))
    length = math.sqrt(sum(float((g**2).sum()) for g in gradient))
    with torch.no_grad():
        for p, g in zip(bare.parameters(), gradient, strict=True):
            p.add_(0.1 * g / length)
        rise = float(F.cross_entropy(bare(x), y)) - float(loss)
    assert number(found, "sam_sharpness@0.1") == pytest.approx(rise, rel=1e-10)


def test_the_rise_of_the_loss_is_its_mean_over_random_directions() -> None:
    torch.manual_seed(1)
    model, x = nn.Linear(4, 1, bias=False).double(), torch.randn(50, 4, dtype=torch.float64)
    found = flatness(model, x, lambda out: (out**2).mean(), sizes=(0.1, 0.4), directions=400, trace_samples=2)
    # E L(w + s d) = L(w) + s^2 tr(C) |w|^2 / 4 for d uniform on the sphere of radius |w| in 4 dimensions
    moments, w = x.T @ x / 50, model.weight.detach()
    for size in (0.1, 0.4):
        wanted = size**2 * float(moments.trace()) * float((w**2).sum()) / 4
        error = number(found, f"loss_rise_se@{size:g}")
        assert abs(number(found, f"loss_rise@{size:g}") - wanted) < 4.0 * error
        assert error < wanted


def test_the_cost_is_what_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = dropout_network()
    calls = {"forward": 0, "backward": 0}
    linear, grad = F.linear, torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls["backward"] += 1
        return grad(*args, **kwargs)

    def forward(input_: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        calls["forward"] += weight.shape[0] == 3  # the last layer's
        return linear(input_, weight, bias)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    monkeypatch.setattr(F, "linear", forward)
    found = flatness(model, (x, y), trace_samples=4, directions=3, sizes=(0.1, 0.3))
    assert (found.cost.forward, found.cost.backward) == (calls["forward"], calls["backward"])
    assert found.cost.forward == 3 + 2 * 3 * 2
    assert 1 + 2 * 4 < found.cost.backward < 110


def test_a_seed_gives_the_same_numbers_and_none_depends_on_what_else_was_asked() -> None:
    model, x, y = dropout_network()
    first, again, other = (flatness(model, (x, y), seed=seed, **FEW) for seed in (3, 3, 4))
    assert first == again
    assert number(first, "hessian_trace") != number(other, "hessian_trace")
    assert number(first, "loss_rise@0.1") != number(other, "loss_rise@0.1")
    assert number(first, "hessian_eigenvalue@1") == pytest.approx(number(other, "hessian_eigenvalue@1"))
    more = flatness(model, (x, y), seed=3, k=4, trace_samples=2, sizes=(0.3, 0.1), directions=2)
    for quantity in ("hessian_trace", "relative_flatness", "loss_rise@0.1", "sam_sharpness@0.05"):
        assert number(more, quantity) == number(first, quantity)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12, bias=False), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))


class _LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def _normed() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(5, 3, 2), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2))
    model(torch.randn(64, 5, 4) * 3.0)  # running statistics of its own
    return model


@pytest.mark.parametrize("make", [_Attention, _LastState, _normed])
@pytest.mark.parametrize("compiled", [False, True])
def test_attention_recurrent_layers_batch_norm_and_compiled_models(
    make: Callable[[], nn.Module], compiled: bool
) -> None:
    torch.manual_seed(2)
    model = make().double()
    x, y = torch.randn(12, 5, 4, dtype=torch.float64), torch.randint(0, 2, (12,))
    with sdpa_kernel(SDPBackend.MATH):
        matrix = hessians.full_hessian(copy.deepcopy(model).eval(), lambda call: F.cross_entropy(call(x), y))
    measured = torch.compile(model, backend="eager") if compiled else model
    found = flatness(measured, (x, y), trace_samples=100, sizes=(0.1,), directions=2)
    assert number(found, "hessian_eigenvalue@1") == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-4)
    assert abs(number(found, "hessian_trace") - float(matrix.trace())) < 4.0 * number(found, "hessian_trace_se")
    assert not reasons(found)
    assert model.training

    moved = copy.deepcopy(model).eval()
    gradient = torch.autograd.grad(F.cross_entropy(moved(x), y), list(moved.parameters()))
    length = math.sqrt(sum(float((g**2).sum()) for g in gradient))
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradient, strict=True):
            p.add_(0.05 * g / length)
        rise = float(F.cross_entropy(moved(x), y)) - found.loss
    assert number(found, "sam_sharpness@0.05") == pytest.approx(rise, rel=1e-9)


def test_a_transformer_with_fused_attention_and_logits_in_its_output() -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, num_labels=3, pad_token_id=0,
        attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(config)
    batch = {"input_ids": torch.randint(1, 11, (6, 8)), "attention_mask": torch.ones(6, 8, dtype=torch.long)}
    found = flatness(model, batch, targets=torch.randint(0, 3, (6,)), **FEW)
    assert not reasons(found)
    layers = {one.layer for one in found.values() if one.layer}
    assert "transformer.h.0.attn.c_attn" in layers
    assert not any("wte" in layer or "wpe" in layer for layer in layers)


def test_curvature_of_gaaf_is_missing_with_the_reason_and_finite_steps_are_not() -> None:
    model, x, y = dropout_network(torch.float32)
    model[1] = GAAF("tanh")
    found = flatness(model, (x, y), **FEW)
    missing = reasons(found)
    for quantity in CURVATURE:
        assert "1 has a gradient that the loss does not follow over any distance (GAAF's" in str(
            missing[quantity, None]
        )
    assert ("relative_flatness", "3") in missing
    assert math.isfinite(number(found, "loss_rise@0.1"))
    assert found.cost.backward == 0
    assert "missing: 1 has a gradient that the loss does not follow" in str(found)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def test_behind_a_function_of_ones_own_the_gradient_still_counts() -> None:
    model, x, y = dropout_network()
    found = flatness(model, (x, y), lambda out, y: F.cross_entropy(_Doubled.apply(out), y), **FEW)
    plain = flatness(model, (x, y), lambda out, y: F.cross_entropy(2 * out, y), **FEW)
    assert all("_Doubled, an autograd.Function" in str(reasons(found)[quantity, None]) for quantity in CURVATURE[:3])
    assert number(found, "sam_sharpness@0.05") == pytest.approx(number(plain, "sam_sharpness@0.05"), rel=1e-12)
    assert number(found, "loss_rise@0.1") == pytest.approx(number(plain, "loss_rise@0.1"), rel=1e-12)


class _Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.reentrant = nn.Linear(5, 6), nn.Linear(6, 3), reentrant
        self.inner = nn.Sequential(nn.Tanh(), nn.Linear(6, 6), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.inner, self.first(x), use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch's, where none is asked
def test_a_checkpoint_is_differentiated_twice_unless_it_is_reentrant() -> None:
    _, x, y = dropout_network(torch.float32)
    found, reentrant = (flatness(_Checkpointed(one), (x, y), **FEW) for one in (False, True))
    assert not reasons(found)
    why = reasons(reentrant)["hessian_trace", None]
    assert str(why).startswith("torch.utils.checkpoint has no second derivative where it is reentrant: give it use_")
    for quantity in ("sam_sharpness@0.05", "loss_rise@0.1"):
        assert number(reentrant, quantity) == pytest.approx(number(found, quantity), rel=1e-5)


def test_weights_made_of_others_have_no_relative_flatness_and_neither_has_the_sum() -> None:
    model, x, y = dropout_network()
    nn.utils.parametrizations.weight_norm(model[0])
    missing = reasons(flatness(model, (x, y), **FEW))
    assert "0.parametrizations.weight.original0, 0.parametrizations.weight.original1 have none" in str(
        missing["relative_flatness", None]
    )
    assert {layer for _, layer in missing if layer} == {
        "0.parametrizations.weight.original0", "0.parametrizations.weight.original1",
    }  # fmt: skip


def test_a_parameter_that_the_loss_does_not_depend_on_changes_nothing_but_the_size() -> None:
    model, x, y = dropout_network()
    alone = flatness(model, (x, y), **FEW)
    model.unused = nn.Linear(2, 2).double()
    model.forward = lambda z: model[3](model[2](model[1](model[0](z))))
    found = flatness(model, (x, y), **FEW)
    for quantity in ("hessian_eigenvalue@1", "sam_sharpness@0.05"):
        assert number(found, quantity) == pytest.approx(number(alone, quantity), rel=1e-4)
    assert number(found, "relative_flatness", "unused") == 0.0


def test_frozen_parameters_do_not_move() -> None:
    model, x, y = dropout_network()
    model[0].requires_grad_(False)
    features = torch.tanh(model[0](x))
    found = flatness(model, (x, y), **FEW)
    head = flatness(nn.Sequential(model[3]), (features, y), **FEW)
    for quantity in (
        "hessian_eigenvalue@1",
        "hessian_trace",
        "relative_flatness",
        "loss_rise@0.1",
        "sam_sharpness@0.05",
    ):
        assert number(found, quantity) == pytest.approx(number(head, quantity), rel=1e-6)


def test_rescaled_layers_of_relu_move_what_depends_on_the_scale_alone() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv1d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    x, y = torch.randn(20, 2, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
    before = flatness(model, (x, y), **FEW)
    with torch.no_grad():
        model[0].weight *= 8.0
        model[0].bias *= 8.0
        model[3].weight /= 8.0
    after = flatness(model, (x, y), **FEW)
    assert after.loss == pytest.approx(before.loss, rel=1e-12)
    for quantity, layer in (("relative_flatness", None), ("relative_flatness", "0"), ("loss_rise@0.1", None)):
        assert number(after, quantity, layer) == pytest.approx(number(before, quantity, layer), rel=1e-9)
    assert number(after, "hessian_eigenvalue@1") > 10.0 * number(before, "hessian_eigenvalue@1")
    assert number(after, "sam_sharpness@0.05") > 2.0 * number(before, "sam_sharpness@0.05")


def test_where_the_loss_is_not_finite_all_is_missing() -> None:
    model, x, y = dropout_network()
    found = flatness(model, (x * math.nan, y), **FEW)
    assert set(reasons(found).values()) == {"the loss is nan"}
    assert all(one.value is None for one in found.values())


def test_a_step_to_where_the_loss_overflows_is_missing() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1e-3)
    found = flatness(model, torch.ones(4, 2), lambda out: torch.exp(1e5 * out.abs() - 150).mean(), rho=10.0, **FEW)
    assert reasons(found)["sam_sharpness@10", None] == "the loss is not finite a step of 10 along the gradient away"


def test_nothing_of_the_model_changes_and_training_goes_on_as_without() -> None:
    def trained(measures: bool) -> list[Tensor]:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 3))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, y = torch.randn(20, 5), torch.randint(0, 3, (20,))
        versions = []
        for step in range(4):
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if measures and step == 2:
                before = [(p, id(p), p._version, id(p.grad)) for p in model.parameters()]
                flatness(model, (x, y), **FEW)
                versions = [(p, id(p), p._version, id(p.grad)) for p in model.parameters()]
                assert [row[1:] for row in versions] == [row[1:] for row in before]
                assert model.training
            optimiser.step()
        return [
            *(p.detach() for p in model.parameters()),
            *(p.grad for p in model.parameters()),
            *model.buffers(),
            torch.get_rng_state(),
            torch.from_numpy(np.random.get_state()[1].astype(np.int64)),  # noqa: NPY002
        ]

    assert all(torch.equal(a, b) for a, b in zip(trained(False), trained(True), strict=True))


def test_the_same_numbers_come_while_a_recorder_is_open_which_sees_nothing_of_it(tmp_path) -> None:
    model, x, y = dropout_network(torch.float32)
    alone = flatness(model, (x, y), **FEW)
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full") as recorder:
        F.cross_entropy(model(x), y).backward()
        assert flatness(model, (x, y), **FEW) == alone
        recorder.step(loss=1.0)
    with dd.Recorder(model, tmp_path / "plain", every=1, probes="full") as recorder:
        F.cross_entropy(model(x), y).backward()
        recorder.step(loss=1.0)
    for quantity in ("net_value", "net_grad"):
        counts = [dd.load(tmp_path / name).histogram(quantity, "1", step=1).n for name in ("run", "plain")]
        assert counts == [180, 180]  # 30 samples of 6 nodes


class _Untouched(nn.Module):
    """Fails where it is run."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("it was run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"k": 6}, "k must be less than the number of trainable parameters, 6; got 6"),
        ({"trace_samples": 1}, "trace_samples must be a whole number of at least 2"),
        ({"directions": 1}, "directions must be a whole number of at least 2"),
        ({"sizes": ()}, "sizes must be a sequence of positive numbers, got \\(\\)"),
        ({"sizes": (0.1, -1.0)}, "each of sizes must be a positive finite number, got -1.0"),
        ({"sizes": (0.1, 0.1)}, "sizes has 0.1 twice"),
        ({"sizes": 0.1}, "sizes must be a sequence"),
        ({"rho": math.inf}, "rho must be a positive finite number, got inf"),
        ({"tolerance": 1.0}, "tolerance is relative to the eigenvalues and below 1, got 1.0"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        ({"loss_fn": 3}, "loss_fn must be a function"),
        ({"targets": torch.zeros(5, dtype=torch.long)}, "targets of shape \\(5,\\) do not fit a batch"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(options: dict[str, Any], message: str) -> None:
    given = {"targets": torch.zeros(4, dtype=torch.long), **options}
    with pytest.raises(ArgumentError, match=message):
        flatness(_Untouched(), torch.zeros(4, 2), **given)


def test_models_that_cannot_be_measured_are_refused() -> None:
    x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ArgumentError, match=r"parameters of torch.bfloat16, .* measure copy.deepcopy\(model\).float"):
        flatness(_Untouched(torch.bfloat16), (x, y))
    with pytest.raises(ArgumentError, match="complex parameters, of which no Hessian is made"):
        flatness(_Untouched(torch.complex64), (x, y))
    with pytest.raises(ArgumentError, match="no parameter with requires_grad"):
        flatness(_Untouched().requires_grad_(False), (x, y))
    with pytest.raises(ArgumentError, match="depends on no trainable parameter: make it of the model's output"):
        flatness(nn.Linear(2, 2), (x, y), lambda out, y: F.cross_entropy(out.detach(), y))
    with pytest.raises(ArgumentError, match="loss_fn must return one floating-point number"):
        flatness(nn.Linear(2, 2), x, lambda out: out)


def test_autocast_around_it_does_not_reach_it() -> None:
    model, x, y = dropout_network(torch.float32)
    alone = flatness(model, (x, y), **FEW)
    with torch.autocast("cpu", torch.bfloat16):
        assert flatness(model, (x, y), **FEW) == alone
