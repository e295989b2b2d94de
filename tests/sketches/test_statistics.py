"""The compiled loops of moments, changes and nodes that never leave an interval, against numpy and torch's."""

import numpy as np
import pytest
import torch

from dropdiag.sketches import Moments, native
from dropdiag.sketches.always_inside import AlwaysInside
from dropdiag.sketches.change import Change, ChangeNorm
from dropdiag.sketches.moments import NUMBERS
from tests.sketches.test_native import layouts

SETS = [[(-np.inf, -1.0)], [(-np.inf, -1.8184464592320668), (0.25, 0.5), (1.0, np.inf)]]
SIZES = [1, 15, 16, 17, 4095, 4096, 4097, 50_001]
"""About the lanes and the blocks of the loops."""

pytestmark = pytest.mark.skipif(native.loops is None, reason="the compiled loops are not built here")


def drawn(n, seed=0):
    return 3.0 + torch.randn(n, generator=torch.Generator().manual_seed(seed)).exp()


def moments(x):
    found = Moments()
    found.update(x)
    return found


def squares(before, now):
    found = ChangeNorm()
    found.update(Change(before, now))
    return found.squares.numpy()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_are_numpys_in_float64_whatever_the_number_of_values(n, dtype, without):
    x = drawn(n).to(dtype)
    wide = x.to(torch.float64).numpy()
    d = wide - wide.mean()
    expected = [wide.mean(), (d**2).sum(), (d**3).sum(), (d**4).sum(), np.abs(wide).mean(), wide.min(), wide.max()]
    for found in (moments(x), without(moments, x)):
        np.testing.assert_allclose(found.state.numpy(), expected, rtol=1e-11, atol=1e-9 * (n == 1))


def test_moments_of_any_layout_are_those_of_its_values(without):
    for x in layouts(drawn(5000)):
        if x.numel():
            np.testing.assert_allclose(moments(x).state.numpy(), without(moments, x).state.numpy(), rtol=1e-9)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_the_moments_as_it_does_in_torch(wild, without):
    for at in (0, 4999):
        x = drawn(5000)
        x[at] = wild
        np.testing.assert_array_equal(moments(x).state.numpy()[[1, 2, 3]], np.nan)
        rest = [0, 4, 5, 6]
        np.testing.assert_allclose(moments(x).state.numpy()[rest], without(moments, x).state.numpy()[rest], rtol=1e-12)
    x[:2] = torch.tensor([np.inf, -np.inf])
    np.testing.assert_array_equal(moments(x).state.numpy(), without(moments, x).state.numpy())


@pytest.mark.parametrize(
    "x", [drawn(1000), torch.full((7,), 0.1), drawn(3) * 1e-30, torch.tensor([1.0, np.nan]), 1e200 * drawn(9).double()]
)
def test_numbers_told_at_once_are_the_properties(x):
    found = moments(x)
    assert found.numbers().keys() == set(NUMBERS)
    for name, number in found.numbers().items():
        assert isinstance(number, float)
        np.testing.assert_array_equal(number, getattr(found, name).item(), err_msg=name)
    assert all(np.isnan(number) for number in Moments().numbers().values())


@pytest.mark.parametrize("n", SIZES)
def test_squares_of_a_change_are_numpys_whatever_the_number_of_values(n, without):
    before, now = drawn(n), drawn(n) + 1e-3 * drawn(n, seed=1)
    a, b = (x.to(torch.float64).numpy() for x in (before, now))
    expected = [((b - a) ** 2).sum(), (a**2).sum()]
    np.testing.assert_allclose(squares(before, now), expected, rtol=1e-13)
    np.testing.assert_allclose(without(squares, before, now), expected, rtol=1e-13)


def test_a_change_is_between_values_of_one_place_whatever_their_strides():
    now = drawn(600).reshape(20, 30).t()
    before = now.contiguous() + 1.0
    a, b = before.to(torch.float64).numpy(), now.to(torch.float64).numpy()
    np.testing.assert_allclose(squares(before, now), [((b - a) ** 2).sum(), (a**2).sum()], rtol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("known", [(-np.inf, np.inf), (-2.5, 2.5)])
def test_codes_of_nodes_are_those_of_torch(axis, known, without):
    generator = torch.Generator().manual_seed(4)
    places = torch.tensor([-2.6, -1.8184464, -1.9, -1.0, 0.3, 1.0, 2.0, np.nan, np.inf])

    def fed(parts):
        found = AlwaysInside(SETS, known, lambda _: axis)
        for part in parts:
            found.update(part)
        return found.codes

    seen = set()
    for _ in range(40):
        few = places[torch.randint(len(places), (2,), generator=generator)]
        parts = [few[torch.randint(2, (3, 3, 3), generator=generator)] for _ in range(2)]
        assert torch.equal(fed(parts), without(fed, parts))
        seen |= set(fed(parts).flatten().tolist())
    assert seen == {0, 1, 2}


def test_a_wrong_call_is_an_error_and_reads_nothing():
    with pytest.raises(TypeError):
        native.loops.moments(0)
    with pytest.raises(TypeError, match="one pair of bounds at least"):
        native.loops.always_inside(0, (1, 1, 1), 0, ())
    with pytest.raises(TypeError):
        native.loops.always_inside(0, (1, 1, 1), 0, ((0.0,),))
