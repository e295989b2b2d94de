from __future__ import annotations

import numpy as np
import pytest

from dropdiag.analysis import gaaf
from dropdiag.errors import ArgumentError


def test_g_is_small_and_has_slope_one() -> None:
    x = np.linspace(-3, 3, 100_003)
    assert np.abs(gaaf.g(x)).max() <= 0.5 / 10_000
    np.testing.assert_allclose(gaaf.g([0.0, 0.25, 0.5, 0.999999], k=1), [-0.5, -0.25, 0.0, 0.499999])
    teeth = gaaf.teeth(100.0, periods=4)
    inside = teeth.dropna().to_numpy().reshape(4, 2, 2)
    np.testing.assert_allclose(np.diff(inside, axis=1)[:, 0, 1] / np.diff(inside, axis=1)[:, 0, 0], 1.0)
    middle = inside.mean(axis=1)
    np.testing.assert_allclose(gaaf.g(middle[:, 0], 100.0), middle[:, 1], atol=1e-15)


@pytest.mark.parametrize(
    ("activation", "x", "expected"),
    [
        ("tanh", [0.0, 2.0, -2.0, 4.0], [1.0, 0.26, 0.26, 0.005]),
        ("relu", [-1.0, -0.5, 0.0, 1.0], [0.05, 0.5, 0.95, 1.0]),
    ],
)
def test_shapes_pass_through_the_points_of_figure_6(activation: str, x: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(gaaf.shape(x, activation), expected, atol=6e-3)


@pytest.mark.parametrize("activation", gaaf.ACTIVATIONS)
def test_derivative_is_that_of_phi(activation: str) -> None:
    frame = gaaf.shapes(activation, points=120)  # 0 is no point
    slope = (gaaf.phi(frame["x"] + 1e-6, activation) - gaaf.phi(frame["x"] - 1e-6, activation)) / 2e-6
    np.testing.assert_allclose(frame["derivative"], slope, atol=1e-8)
    np.testing.assert_allclose(frame["gaaf_derivative"], slope + frame["shape"], atol=1e-8)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="one of tanh, relu, got 'gelu'"):
        gaaf.shape(0.0, "gelu")
    with pytest.raises(ArgumentError, match="k must be positive, got 0"):
        gaaf.g(0.0, 0)
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        gaaf.teeth(periods=0)
