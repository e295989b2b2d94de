"""Which samples and values are taken: even whatever period the data have, and always the same."""

import numpy as np
import pytest
import torch
from scipy import stats

from dropdiag.sketches.covariance import Covariance
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.sketches.mixing import mixed
from dropdiag.sketches.thinning import thinned

KEPT = 2048
PERIODS = range(2, 401)
FIBONACCI = (2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)


def splitmix(i: int) -> int:
    """The generator's output function, in whole numbers of Python (Steele, Lea and Flood, OOPSLA 2014)."""
    mask = 2**64 - 1
    z = i * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def surprises(taken: np.ndarray, total: int) -> dict[int, float]:
    """Of each period, the p of a chi-square test that its phases were taken alike, without replacement."""
    found, share = {}, len(taken) / total
    for period in PERIODS:
        counts = np.bincount(taken % period, minlength=period)
        there = total // period + (np.arange(period) < total % period)
        distance = ((counts - share * there) ** 2 / (share * (1 - share) * there)).sum()
        found[period] = float(stats.chi2.sf(distance, period - 1))
    return found


def kept_numbers(sketch: Covariance) -> np.ndarray:
    return np.sort(sketch.samples()[:, 0].numpy()).astype(np.int64)


def test_the_hash_is_splitmix64():
    numbers = [0, 1, 2, 3, 1000, 2**40]
    assert [int(mixed(i, 1)[0]) for i in numbers] == [splitmix(i) for i in numbers]
    assert mixed(5, 4).tolist() == [splitmix(i) for i in range(5, 9)]
    assert splitmix(1) == 0xE220A8397B1DCDAF  # the first number that the generator gives for seed 0, as published


@pytest.mark.parametrize("total", [14_400, 100_000])
def test_no_period_is_met_by_the_samples_of_a_correlation(total):
    sketch = Covariance(max_samples=KEPT)
    for part in torch.arange(total, dtype=torch.float64)[:, None].repeat(1, 2).split(9_973):
        sketch.update(part)
    p = surprises(kept_numbers(sketch), total)
    # Not more than chance allows: the least of 399 is what the least of 399 uniform numbers is, and neither Fibonacci
    # numbers, which multiples of the golden ratio meet, nor powers of two stand out.
    assert min(p.values()) > 0.01 / len(p)
    assert min(p[period] for period in FIBONACCI) > 0.01 / len(FIBONACCI)
    assert min(p[2**k] for k in range(1, 9)) > 0.01 / 8
    assert 0.3 < np.mean(list(p.values())) < 0.7


def test_the_golden_ratio_would_be_found_out():
    keys = np.arange(1, 14_401, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    taken = np.argsort(keys)[:KEPT]
    assert np.unique(taken % 144).size < 80
    assert surprises(taken, 14_400)[144] < 1e-100


@pytest.mark.parametrize("tokens", [144, 128, 233, 100])
def test_the_correlation_is_that_of_all_tokens_where_positions_have_an_effect(tokens):
    rng = np.random.default_rng(tokens)
    effect = rng.normal(size=(tokens, 24)) * np.linspace(0.2, 1.5, 24)
    x = (rng.normal(size=(100, tokens, 24)) + effect).reshape(-1, 24)
    sketch = Covariance()
    for part in np.array_split(x.astype(np.float32), 11):
        sketch.update(torch.from_numpy(part))
    full = np.corrcoef(x, rowvar=False)[np.triu_indices(24, 1)]
    r = sketch.pairs().numpy()
    # 276 pairs, each with a standard error of (1 - r**2) / sqrt(n), as a random sample has
    z = (r - full) / ((1 - full**2) / np.sqrt(KEPT))
    assert np.abs(z).max() < 4.5
    assert z.std() < 1.15
    size = np.abs(r).mean()
    with_noise = np.abs(full + rng.normal(size=(400, 276)) * (1 - full**2) / np.sqrt(KEPT)).mean(1)
    assert abs(size - with_noise.mean()) < 4 * with_noise.std()


def test_no_period_is_met_by_a_histograms_sample():
    values = torch.arange(1_000_003, dtype=torch.float64)
    sample, stride = thinned(values, 50_000)
    taken = sample.numpy().astype(np.int64)
    assert stride == 21
    assert len(taken) in (values.numel() // stride, values.numel() // stride + 1)
    assert (np.diff(taken) > 0).all()
    p = surprises(taken, values.numel())
    assert min(p.values()) > 0.01 / len(p)
    # 21 divides it: a fixed stride takes one phase of it alone
    assert p[210] > 0.01


def test_a_checkerboard_is_seen_through_a_sample():
    # of odd sides, so that a stride of 2 shares no factor with any dimension, and takes squares of one colour alone
    board = torch.zeros(1, 1, 701, 703)
    board.view(-1)[1::2] = 1.0
    sketch = HistogramSketch(max_values=2**18)
    sketch.update(board)
    counts = sketch.dense()
    assert sketch.stride == 2
    n = int(counts.sum())
    assert abs(int(counts[0]) - n / 2) < 4 * np.sqrt(n) / 2


@pytest.mark.parametrize(
    ("size", "most", "number"), [(1001, 100, 0), (1000, 100, 3), (997, 10, 8), (10, 3, 1), (7, 6, 2)]
)
def test_a_sample_takes_one_value_of_each_stretch_for_each_tensor_elsewhere(size, most, number):
    values = torch.arange(size)
    sample, stride = thinned(values, most, number)
    start = number % stride
    expected = [start + k * stride + splitmix(k) % stride for k in range(size)]
    assert sample.tolist() == [place for place in expected if place < size and place < start + stride * most]
    assert len(sample) <= most
    assert torch.equal(thinned(values.reshape(1, -1), most, number)[0], sample)


def test_pooled_batches_are_sampled_at_different_places():
    values = torch.arange(1.0, 4004.0)
    sketch = HistogramSketch(max_values=1001)
    for _ in range(4):
        sketch.update(values)
    assert sketch.stride == 4
    expected = HistogramSketch()
    for number in range(4):
        sample, _ = thinned(values, 1001, number)
        expected.update(sample)
    assert torch.equal(sketch.dense(), expected.dense())
    taken = torch.cat([thinned(values, 1001, number)[0] for number in range(4)])
    assert taken.unique().numel() > 3000  # one batch gives a thousand, at the same places it would be all
