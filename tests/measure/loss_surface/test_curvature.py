"""Products with the Hessian, its eigenvalues and its trace, against the full matrix."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.measure.loss_surface.curvature import Hessian, largest_eigenvalues, trace
from dropdiag.measure.loss_surface.estimates import NoValueError, mean_and_error
from dropdiag.measure.passes.vectors import flat, parted, signs
from tests.measure.loss_surface.hessians import full_hessian


def network(*, dtype: torch.dtype = torch.float64) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    return model, torch.randn(12, 4).to(dtype), torch.randint(0, 3, (12,))


def of(model: nn.Module, x: Tensor, y: Tensor) -> Hessian:
    return Hessian(F.cross_entropy(model(x), y), list(model.parameters()))


def full(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return full_hessian(model, lambda call: F.cross_entropy(call(x), y))


def quadratic(curvatures: list[float]) -> Hessian:
    """Hessian of 1/2 sum of c_i w_i^2, at an arbitrary place."""
    w = torch.linspace(-1.0, 1.0, len(curvatures), dtype=torch.float64, requires_grad=True)
    return Hessian(0.5 * (torch.tensor(curvatures, dtype=torch.float64) * w * w).sum(), [w])


def test_a_product_is_that_of_the_full_matrix() -> None:
    model, x, y = network()
    hessian, matrix = of(model, x, y), full(model, x, y)
    for vector in np.eye(hessian.size):
        np.testing.assert_allclose(hessian.times_flat(vector), matrix.numpy() @ vector, atol=1e-14)
    assert hessian.products == hessian.size
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert all(torch.allclose(g, p.grad, atol=1e-15) for g, p in zip(hessian.gradient, model.parameters(), strict=True))


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_the_largest_eigenvalues_are_those_of_the_full_matrix(dtype: torch.dtype, within: float) -> None:
    model, x, y = network(dtype=dtype)
    found = largest_eigenvalues(of(model, x, y), 4, tolerance=1e-6, seed=1)
    wanted = torch.linalg.eigvalsh(full(*network()).double()).flip(0)[:4]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within * float(wanted[0]))


def test_the_eigenvalues_of_a_quadratic_are_its_curvatures_negative_ones_last() -> None:
    curvatures = [7.0, -20.0, 3.0, 0.5, -1.0]
    assert largest_eigenvalues(quadratic(curvatures), 4, tolerance=1e-8, seed=0) == pytest.approx([7.0, 3.0, 0.5, -1.0])
    assert largest_eigenvalues(quadratic([-1.0, -2.0, 0.0]), 1, tolerance=1e-8, seed=0) == pytest.approx([0], abs=1e-12)


def test_a_loss_without_curvature_has_zeros() -> None:
    w = torch.ones(5, requires_grad=True)
    for loss in (w.sum(), w.sum() + 0.0 * (w**2).sum()):
        hessian = Hessian(loss, [w])
        assert largest_eigenvalues(hessian, 2, tolerance=1e-4, seed=0) == [0.0, 0.0]
        assert trace(hessian, 3, torch.Generator()) == (0.0, 0.0)


def test_the_trace_over_all_sign_vectors_is_exact() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1, bias=False)).double()
    x, y = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    hessian = Hessian(F.mse_loss(model(x), y), list(model.parameters()))
    vectors = (np.array(v) for v in itertools.product((-1.0, 1.0), repeat=hessian.size))
    forms = [v @ hessian.times_flat(v) for v in vectors]
    matrix = full_hessian(model, lambda call: F.mse_loss(call(x), y))
    assert np.mean(forms) == pytest.approx(float(matrix.trace()), rel=1e-12)


def test_the_trace_lies_within_its_error_as_often_as_it_should() -> None:
    model, x, y = network()
    hessian, wanted = of(model, x, y), float(full(model, x, y).trace())
    found = [trace(hessian, 16, torch.Generator().manual_seed(seed)) for seed in range(60)]
    z = np.array([(value - wanted) / error for value, error in found])
    assert abs(z.mean()) < 3.0 / math.sqrt(60)
    assert 0.7 < z.std() < 1.5  # Student's t of 15 degrees has 1.07


def test_the_trace_of_a_diagonal_needs_one_vector() -> None:
    value, error = trace(quadratic([1.0, 2.0, -4.0]), 2, torch.Generator())
    assert (value, error) == (pytest.approx(-1.0), pytest.approx(0.0))
    assert math.isnan(trace(quadratic([1.0, 2.0]), 1, torch.Generator())[1])


def test_signs_are_balanced_and_of_the_parameters_kind() -> None:
    like = [torch.zeros(300, 30), torch.zeros(7, dtype=torch.float64), torch.zeros(())]
    a, b, c = signs(like, torch.Generator().manual_seed(1))
    assert set(a.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(a.mean())) < 4.0 / math.sqrt(a.numel())
    assert (a.dtype, b.dtype, b.shape, c.shape) == (torch.float32, torch.float64, (7,), ())
    again = signs(like, torch.Generator().manual_seed(1))
    assert all(torch.equal(x, y) for x, y in zip((a, b, c), again, strict=True))


def test_a_row_of_numbers_is_cut_into_parameters_and_put_together_again() -> None:
    like = [torch.zeros(2, 3), torch.zeros(4, dtype=torch.float64), torch.zeros(())]
    row = np.arange(11.0)
    parts = parted(row, like)
    assert [p.shape for p in parts] == [(2, 3), (4,), ()]
    np.testing.assert_array_equal(flat(parts), row)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_a_function_of_ones_own_is_told_as_its_second_derivative_may_be_anything() -> None:
    w = torch.ones(3, requires_grad=True)
    hessian = Hessian((_StraightThrough.apply(w) ** 2 + w).sum(), [w])
    with pytest.raises(NoValueError, match=r"depends on _StraightThrough, an autograd.Function of somebody's own"):
        hessian.times([torch.ones(3)])
    assert torch.equal(hessian.gradient[0], torch.full((3,), 3.0))


def test_an_operation_without_second_derivative_is_told() -> None:
    w = torch.randn(1, 1, 4, 8, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        hessian = Hessian((F.scaled_dot_product_attention(w, w, w) ** 2).sum(), [w])
    with pytest.raises(NoValueError, match="no second derivative here: derivative for .* is not implemented"):
        hessian.times([torch.ones(1, 1, 4, 8)])


def test_what_is_not_finite_is_no_number() -> None:
    w = torch.zeros(3, requires_grad=True)
    hessian = Hessian((w.abs() ** 1.5).sum(), [w])  # its curvature at 0 is infinite
    with pytest.raises(NoValueError, match="not finite"):
        largest_eigenvalues(hessian, 1, tolerance=1e-4, seed=0)
    with pytest.raises(NoValueError, match="2 of 2 samples are not finite"):
        trace(hessian, 2, torch.Generator())
    with pytest.raises(NoValueError, match="1 of 3 samples"):
        mean_and_error([1.0, math.inf, 2.0])


def test_no_eigenvalue_is_given_where_the_iteration_does_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dropdiag.measure.loss_surface.curvature.RESTARTS", 1)
    hessian = quadratic([1.0 - 1e-6 * i for i in range(400)])
    with pytest.raises(NoValueError, match=r"eigsh found \d of 3 eigenvalues to a tolerance of 1e-12 in \d+ products"):
        largest_eigenvalues(hessian, 3, tolerance=1e-12, seed=0)


def test_no_eigenvalue_is_given_that_its_residual_does_not_bear_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hessian, noise = quadratic([3.0, 2.0, 1.0, 0.5]), np.random.default_rng(0)
    exact = hessian.times_flat
    monkeypatch.setattr(hessian, "times_flat", lambda v: exact(v) + 0.2 * noise.standard_normal(4))
    with pytest.raises(NoValueError, match=r"uncertain by .*, where the largest is .*measure in float64"):
        largest_eigenvalues(hessian, 1, tolerance=0.1, seed=0)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # what it imports is compiled by torch.jit.script
def test_products_and_eigenvalues_are_those_of_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    model, x, y = network()
    theirs = curvlinops.HessianLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)])
    ours, matrix = of(model, x, y), theirs.to_scipy() @ np.eye(sum(p.numel() for p in model.parameters()))
    vector = np.random.default_rng(0).standard_normal(ours.size)
    np.testing.assert_allclose(ours.times_flat(vector), matrix @ vector, atol=1e-13)
    assert largest_eigenvalues(ours, 2, tolerance=1e-8, seed=0) == pytest.approx(
        np.linalg.eigvalsh(matrix)[::-1][:2].tolist()
    )
