"""Nodes that never leave some intervals, against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dropdiag.errors import ArgumentError
from dropdiag.sketches.always_inside import AlwaysInside

SETS = [[(-np.inf, 0.0)], [(-np.inf, 0.5), (2.0, np.inf)]]
few = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0, 7.0, np.inf, -np.inf, np.nan])
batches = st.lists(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=few), max_size=4)


def expected(x):
    """Return the shares of columns: NaN if one is inside as far as it is known, and not known in all places."""
    x = x.astype(np.float64)
    shares = []
    for inside in (x <= 0.0, (x <= 0.5) | (x >= 2.0)):
        outside = (np.isfinite(x) & ~inside).any(0)
        unknown = ~outside & ~np.isfinite(x).all(0)
        shares.append(np.nan if unknown.any() or not len(x) else (~outside).mean())
    return shares


def sketch(*parts, **options):
    found = AlwaysInside(SETS, **options)
    for part in parts:
        found.update(torch.from_numpy(np.ascontiguousarray(part)))
    return found


@given(batches)
@settings(deadline=None)
def test_it_is_what_numpy_counts_however_the_samples_are_split_and_merged(parts):
    x = np.concatenate([np.empty((0, 4), np.float32), *parts])
    union = AlwaysInside(SETS)
    for part in reversed(parts):
        union.merge(sketch(part))
    for found in (sketch(*parts), sketch(x), union):
        np.testing.assert_array_equal(found.shares(), expected(x))
        assert found.seen == len(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_many_values_of_which_most_nodes_are_decided_early(dtype):
    x = torch.randn(3000, 60, generator=torch.Generator().manual_seed(0)) + torch.linspace(-6.0, 6.0, 60)
    x = x.to(dtype)
    found = AlwaysInside(SETS)
    for part in x.split(700):
        found.update(part)
    shares = found.shares()
    assert shares == expected(x.to(torch.float64).numpy())
    assert 0.0 < shares[0] < shares[1] < 1.0


@pytest.mark.parametrize(("axis", "shape"), [(1, (6, 5, 3, 2)), (-1, (4, 3, 5)), (0, (5, 7)), ((1, 2), (4, 2, 3, 5))])
def test_any_dimension_counts_nodes_and_the_others_samples(axis, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) - 1.0
    axes = (axis,) if isinstance(axis, int) else axis
    rows = x.movedim(axes, tuple(range(-len(axes), 0))).flatten(-len(axes)).flatten(0, -2)
    found = sketch(x.numpy(), node_axis=lambda _: axis)
    assert found.shares() == expected(rows.numpy())
    assert found.seen == len(rows)


def test_where_the_intervals_are_not_known_a_node_is_not():
    shares = lambda *x: sketch(np.array(x)[:, None], known=(-5.0, 5.0)).shares()  # noqa: E731
    assert np.isnan(shares(-9.0, -1.0)).all()
    assert np.isnan(shares(-9.0, 0.25)).tolist() == [False, True]  # 0.25 is outside of one set, which decides there
    assert shares(-9.0, 1.0) == [0.0, 0.0]
    assert shares(-1.0, -2.0) == [1.0, 1.0]


def test_another_number_of_nodes_is_refused():
    found = sketch(np.zeros((3, 4)))
    with pytest.raises(ArgumentError, match="had 4 nodes and now has 5"):
        found.update(torch.zeros(3, 5))
    with pytest.raises(ArgumentError, match="had 4 nodes and now has 5"):
        found.merge(sketch(np.zeros((3, 5))))


def test_it_is_updated_inside_and_outside_of_inference_mode():
    found = AlwaysInside(SETS)
    with torch.inference_mode():
        found.update(torch.tensor([[-1.0, 1.0]]))
    found.update(torch.tensor([[-1.0, -1.0]]))
    with torch.inference_mode():
        found.update(torch.tensor([[1.0, -1.0]]))
    assert found.shares() == [0.0, 0.0]
