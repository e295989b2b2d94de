"""A sample of bounded size against sorting all hashes, by the compiled loops and without them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdiag.sketches import Covariance, native
from dropdiag.sketches.mixing import mixed
from dropdiag.sketches.reservoir import Reservoir

compiled = pytest.mark.skipif(native.loops is None, reason="the compiled loops are not built here")
sizes = st.lists(st.integers(0, 40), max_size=8)


def filled(most, parts):
    """Offer keys part by part, and keep what is to be kept in a table of our own."""
    reservoir, table, seen = Reservoir(most), np.full(most, -1), 0
    for keys in parts:
        chosen, places = reservoir.offer(keys)
        table[places] = seen + chosen
        reservoir.take(keys, chosen, places)
        seen += keys.size
    return reservoir, table[: reservoir.n]


@given(st.integers(1, 30), sizes)
@settings(deadline=None)
def test_the_lowest_hashes_are_kept_however_they_are_split(most, parts):
    keys = mixed(1, sum(parts))
    reservoir, table = filled(most, np.split(keys, np.cumsum(parts)[:-1]) if parts else [])
    assert reservoir.n == min(most, keys.size)
    np.testing.assert_array_equal(np.sort(table), np.sort(np.argsort(keys)[:most]))
    np.testing.assert_array_equal(reservoir.keys, keys[table])


def test_of_equal_hashes_no_more_are_kept_than_there_is_room_for(without):
    keys = np.repeat(np.arange(4, dtype=np.uint64), 5)
    for run in (lambda f, *args: f(*args), without):
        for parts in ([keys], [keys[::-1].copy()], [keys[10:], keys[:10]], [keys[:3], keys[3:17], keys[17:]]):
            reservoir, table = run(filled, 8, parts)
            assert sorted(reservoir.keys.tolist()) == [0] * 5 + [1] * 3
            assert np.unique(table).size == 8


@compiled
@pytest.mark.parametrize("most", [1, 2, 100, 2048])
def test_places_are_the_same_with_and_without_the_loops(most, without):
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 2**64, n, dtype=np.uint64) for n in (0, 1, 60, 700, 5000, 3)]
    (a, of_loops), (b, of_numpy) = filled(most, parts), without(filled, most, parts)
    np.testing.assert_array_equal(of_loops, of_numpy)
    np.testing.assert_array_equal(a.keys, b.keys)


@compiled
def test_hashes_are_the_same_with_and_without_the_loops(without):
    for first, n in ((0, 0), (1, 1000), (2**41 + 7, 100), (2**63, 50)):
        np.testing.assert_array_equal(mixed(first, n), without(mixed, first, n))


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_are_the_same_with_and_without_the_loops(dtype, without):
    x = torch.randn(3000, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    layouts = [x, x.t().contiguous().t(), x.reshape(300, 10, 7), torch.cat([x, x], 1)[:, :7]]

    def samples(values):
        sketch = Covariance(max_samples=200)
        for part in values.split(values.shape[0] // 6):
            sketch.update(part)
        return sketch.samples()

    for values in layouts:
        assert torch.equal(samples(values), without(samples, values))
    kept = {tuple(row) for row in x.to(samples(x).dtype).tolist()}
    assert all(tuple(row) in kept for row in samples(x).tolist())


def test_samples_of_two_precisions_share_the_room_of_the_first():
    single, double = torch.randn(50, 3), torch.randn(50, 3, dtype=torch.float64)
    for parts in ((single, double), (double, single)):
        sketch, few = Covariance(), Covariance(max_samples=20)  # of few, some take the places of others
        for part in parts:
            sketch.update(part)
            few.update(part)
        everything = torch.cat(parts).to(parts[0].dtype)
        torch.testing.assert_close(sketch.samples(), everything, rtol=0.0, atol=0.0)
        lowest = np.argsort(mixed(1, 100))[:20]
        assert sorted(few.samples().tolist()) == sorted(everything[lowest].tolist())


def test_samples_stay_on_the_device_of_the_first():
    sketch = Covariance(max_samples=20)
    sketch.update(torch.ones(15, 3, device="meta"))
    sketch.update(torch.ones(15, 3))  # the model was moved: nothing may be written to an address of another device
    assert sketch.samples().is_meta
    assert sketch.n == 20
