"""Rows of weights, relative flatness, filter-normalised directions and the step along the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.measure.loss_surface.curvature import Hessian, largest_eigenvalues
from dropdiag.measure.loss_surface.estimates import NoValueError
from dropdiag.measure.loss_surface.landscape import (
    Place,
    along_rows,
    filter_normalised,
    loss_rises,
    relative_flatness,
    sharpness,
)  # fmt: skip
from dropdiag.measure.loss_surface.rows import MADE, UNKNOWN, Weight, weights
from tests.measure.loss_surface import hessians


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def of(model: nn.Module) -> dict[str, Weight]:
    return {weight.layer: weight for weight in weights(model, parameters_of(model))}


def relu_network() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    return model, torch.randn(9, 3, dtype=torch.float64), torch.randint(0, 3, (9,))


def test_the_rows_of_a_linear_layer_and_a_convolution_are_what_comes_into_each_node() -> None:
    linear, convolution = nn.Linear(3, 2), nn.Conv2d(4, 6, 3, groups=2)
    found = of(nn.Sequential(linear, convolution))
    assert torch.equal(found["0"].rows(linear.weight), linear.weight[None])
    rows = found["1"].rows(convolution.weight)
    assert rows.shape == (2, 3, 18)
    assert torch.equal(rows[1, 2], convolution.weight[5].reshape(-1))
    assert torch.equal(found["1"].weight(rows, convolution.weight), convolution.weight)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_rows_of_a_transposed_convolution_are_of_its_outputs(groups: int) -> None:
    layer = nn.ConvTranspose1d(4, 6, 3, groups=groups, bias=False)
    weight = of(nn.Sequential(layer))["0"]
    rows = weight.rows(layer.weight)
    assert rows.shape == (groups, 6 // groups, 3 * 4 // groups)
    only = torch.zeros_like(rows)
    only[-1, -1] = rows[-1, -1]  # the last output channel alone
    with torch.no_grad():
        layer.weight.copy_(weight.weight(only, layer.weight))
        out = layer(torch.randn(1, 4, 5))
    assert out.abs().amax(dim=(0, 2)).nonzero().flatten().tolist() == [5]


def test_the_rows_of_gpt2s_linear_layer_are_its_columns() -> None:
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(5, 2)
    weight = of(nn.Sequential(layer))["0"]
    assert torch.equal(weight.rows(layer.weight), layer.weight.T[None])
    assert torch.equal(weight.weight(weight.rows(layer.weight), layer.weight), layer.weight)


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.experts = nn.Parameter(torch.zeros(3, 4, 4))
        self.norm = nn.LayerNorm((2, 4))
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight
        self.words = nn.Embedding(5, 4)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        self.rnn = nn.LSTM(4, 3)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_what_is_no_weight_between_nodes_is_told_from_what_is_not_known() -> None:
    found = of(_Odd())
    assert {name for name, weight in found.items() if weight.table} == {"token", "words"}
    assert {name: weight.why for name, weight in found.items() if weight.why} == {
        "experts": UNKNOWN,
        "normed.parametrizations.weight.original0": MADE,
        "normed.parametrizations.weight.original1": MADE,
    }
    plain = {name for name, weight in found.items() if not weight.why and not weight.table}
    assert plain == {"head", "rnn.weight_ih_l0", "rnn.weight_hh_l0"}  # the tied one is known as the linear layer's
    assert found["head"].parameter == "table.weight"


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_parts_that_a_weight_is_made_of_have_no_relative_flatness() -> None:
    pruned = nn.Linear(4, 3)
    nn.utils.prune.l1_unstructured(pruned, "weight", 0.5)
    found = of(nn.ModuleDict({"old": nn.utils.weight_norm(nn.Linear(3, 2)), "pruned": pruned}))
    assert {name: weight.why for name, weight in found.items()} == {
        "old.weight_g": MADE, "old.weight_v": MADE, "pruned.weight_orig": MADE,
    }  # fmt: skip


def _convolutions() -> tuple[nn.Module, Callable[[Callable[..., Tensor]], Tensor]]:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 2, groups=2), nn.Tanh(), nn.ConvTranspose1d(4, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(10, 1)
    ).double()
    x = torch.randn(5, 2, 5, dtype=torch.float64)
    return model, lambda call: (call(x) ** 2).mean()


def _dense() -> tuple[nn.Module, Callable[[Callable[..., Tensor]], Tensor]]:
    model, x, y = relu_network()
    return model, lambda call: F.cross_entropy(call(x), y)


@pytest.mark.parametrize("case", [_dense, _convolutions])
def test_relative_flatness_is_that_of_the_full_hessian_within_its_error(case: Callable) -> None:
    model, loss = case()
    parameters, found = parameters_of(model), of(model)
    matrix, spans = hessians.full_hessian(model, loss), hessians.spans(model)
    wanted = {}
    for name, weight in found.items():
        inside = spans[weight.parameter]
        block = matrix[inside, inside]
        # places of the block in the order of the rows
        order = torch.arange(block.shape[0]).view(parameters[weight.parameter].shape)
        rows, places = weight.rows(parameters[weight.parameter].detach()), weight.rows(order)
        wanted[name] = sum(
            hessians.relative_flatness(rows[g], block[places[g].flatten()][:, places[g].flatten()])
            for g in range(weight.groups)
        )
    hessian = Hessian(loss(model), list(parameters.values()))
    each, total = relative_flatness(hessian, parameters, list(found.values()), 4000, torch.Generator().manual_seed(0))
    for (value, error), exact in zip([*each, total], [*wanted.values(), sum(wanted.values())], strict=True):
        assert abs(value - exact) < 4.0 * error
        assert error < 0.1 * sum(abs(x) for x in wanted.values())


def test_relative_flatness_stays_where_layers_are_rescaled_while_the_eigenvalue_moves() -> None:
    model, x, y = relu_network()

    def measured() -> tuple[np.ndarray, float]:
        parameters = parameters_of(model)
        hessian = Hessian(F.cross_entropy(model(x), y), list(parameters.values()))
        found = relative_flatness(hessian, parameters, list(of(model).values()), 5, torch.Generator().manual_seed(2))
        return np.array([*found[0], found[1]]), largest_eigenvalues(hessian, 1, tolerance=1e-8, seed=0)[0]

    before, eigenvalue = measured()
    output = model(x).detach()
    with torch.no_grad():
        model[0].weight *= 10.0
        model[0].bias *= 10.0
        model[2].weight /= 10.0
    assert torch.allclose(model(x), output, rtol=1e-13)
    after, moved = measured()
    np.testing.assert_allclose(after, before, rtol=1e-10)
    assert moved > 10.0 * eigenvalue


def test_random_maps_of_the_inputs_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.eye(6)
    whole = along_rows(Weight("fc", "fc.weight"), w, torch.Generator().manual_seed(0))
    assert set(whole.unique().tolist()) == {-1.0, 1.0}
    monkeypatch.setattr("dropdiag.measure.loss_surface.landscape._BLOCK", 13)  # two columns at a time
    parts = along_rows(Weight("fc", "fc.weight"), w, torch.Generator().manual_seed(0))
    assert parts.shape == (6, 6)
    assert set(parts.unique().tolist()) == {-1.0, 1.0}
    generator = torch.Generator().manual_seed(1)
    many = torch.stack([along_rows(Weight("fc", "fc.weight"), w, generator) for _ in range(4000)])
    assert float(many.mean(0).abs().max()) < 4.5 / math.sqrt(4000)


def test_a_direction_is_as_long_as_the_weights_row_by_row_and_leaves_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2), nn.LayerNorm((2,)))
    parameters = parameters_of(model)
    direction = dict(
        zip(parameters, filter_normalised(parameters, list(of(model).values()), torch.Generator()), strict=True)
    )
    assert [name for name, d in direction.items() if d.any()] == ["0.weight", "2.weight"]
    for name in ("0.weight", "2.weight"):
        torch.testing.assert_close(direction[name].norm(dim=1), parameters[name].norm(dim=1).detach())


def test_loss_rises_are_those_of_a_slow_loop() -> None:
    model, x, y = relu_network()
    parameters, known = parameters_of(model), list(of(model).values())
    before = {name: p.detach().clone() for name, p in parameters.items()}

    def evaluate() -> float:
        return float(F.cross_entropy(model(x), y).detach())

    found = loss_rises(
        evaluate,
        evaluate(),
        parameters,
        known,
        sizes=[0.1, 0.5],
        directions=3,
        generator=torch.Generator().manual_seed(7),
    )
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())

    generator = torch.Generator().manual_seed(7)
    wanted: list[list[float]] = [[], []]
    for _ in range(3):
        moves = []
        for p in before.values():
            d = torch.zeros_like(p)
            if p.dim() > 1:
                d = torch.randn(1, *p.shape, generator=generator)[0].double()
                for row in range(len(p)):
                    d[row] *= math.sqrt(float((p[row] ** 2).sum())) / math.sqrt(float((d[row] ** 2).sum()))
            moves.append(d)
        for rises, size in zip(wanted, (0.1, 0.5), strict=True):
            losses = []
            for step in (size, -size):
                w0, b0, w1, b1 = (p + step * d for p, d in zip(before.values(), moves, strict=True))
                logits = torch.clamp(x @ w0.T + b0, min=0) @ w1.T + b1
                losses.append(float((torch.logsumexp(logits, 1) - logits[torch.arange(9), y]).mean()))
            rises.append((losses[0] + losses[1]) / 2 - evaluate())
    np.testing.assert_allclose(found, wanted, atol=1e-13)


def test_the_step_along_the_gradient_of_a_quadratic_has_a_closed_form() -> None:
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    c = torch.tensor([3.0, 1.0], dtype=torch.float64)

    def evaluate() -> float:
        return float(0.5 * (c * w.detach() ** 2).sum())

    g = (c * w).detach()
    rho = 0.3
    wanted = rho * float(g.norm()) + 0.5 * rho**2 * float((c * g * g).sum() / g.norm() ** 2)
    assert sharpness(evaluate, evaluate(), {"w": w}, [g], rho) == pytest.approx(wanted, rel=1e-12)
    assert w.tolist() == [1.0, -2.0]
    with pytest.raises(NoValueError, match="length is 0"):
        sharpness(evaluate, evaluate(), {"w": w}, [torch.zeros(2)], rho)
    with pytest.raises(NoValueError, match="length is nan"):
        sharpness(evaluate, evaluate(), {"w": w}, [torch.full((2,), math.nan)], rho)


def test_parameters_are_put_back_where_the_loss_fails() -> None:
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="no loss here"), Place({"w": w}) as place:
        place.move([torch.ones(3)], 2.0)
        assert w.tolist() == [3.0, 3.0, 3.0]
        raise ValueError("no loss here")
    assert w.tolist() == [1.0, 1.0, 1.0]
