"""What several ranks saw of a tensor, merged, is what one process sees of all of it; numpy and scipy say what that is."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from dropdiag.store.rows import StateRow
from dropdiag.store.selection import Selection
from tests.ranks import (
    LAYERS,
    add,
    close,
    correlation_rows,
    histogram,
    moment_rows,
    noise_rows,
    pairs_of,
    scalar,
    split,
    write,
    writer,
)

SPLITS = [(60,), (35, 25), (20, 0, 30, 10), (1, 12, 0, 9, 17, 2, 19)]


def close_to(value, rel=1e-12, floor=1e-13):
    return pytest.approx(value, rel=rel, abs=floor)


@pytest.fixture(params=SPLITS, ids=lambda sizes: f"{len(sizes)} ranks")
def sizes(request):
    return request.param


def samples(rng, nodes=9, n=60):
    """Values of nodes that lie far from 0, of unlike scales, some correlated, one constant, one constant on some ranks."""
    x = rng.normal(size=(n, nodes)) * np.logspace(-2, 2, nodes) + rng.normal(0, 50, nodes)
    x[:, 1] = 0.7 * x[:, 0] + 0.001 * rng.normal(size=n)
    x[:, 4] = 3.25
    x[:, 5] = np.where(np.arange(n) < 20, 1.5, -2.5)
    return x


def numbers(run, **chosen):
    return run.select(**chosen).set_index("quantity")["value"]


def test_histograms_add_up_bit_for_bit(tmp_path, rng, sizes):
    values = {step: rng.standard_cauchy((60, 7)).astype(np.float32) for step in (1, 2)}
    values[2][3] = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, 3.4e38]
    parts = {step: split(x, sizes) for step, x in values.items()}
    run = load(write(tmp_path / "run", [
        [row for step in (1, 2) for row in histogram(step, "net_value", parts[step][rank])]
        for rank in range(len(sizes))
    ], steps=2))  # fmt: skip
    frame = run.histograms("net_value", "all")
    assert frame["step"].tolist() == [1, 2]
    for step, found in zip(frame["step"], frame["histogram"], strict=True):
        expected = Histogram.from_values(values[step])
        assert found.bins.tobytes() == expected.bins.tobytes()
        assert found.counts.tobytes() == expected.counts.tobytes()
    assert run.steps("net_value", "train") == [1, 2]
    assert run.histogram("net_value", "act") == Histogram.from_values(values[2])


def test_means_are_those_of_all_values(tmp_path, rng, sizes):
    x = np.abs(rng.lognormal(0, 3, size=(60, 11)))
    rows = [[scalar(1, "net_grad_abs_mean", part.mean() if part.size else np.nan, float(part.size))]
            for part in split(x, sizes)]  # fmt: skip
    found = numbers(load(write(tmp_path / "run", rows)))
    assert found["net_grad_abs_mean"] == close_to(x.mean())


def test_moments_are_those_of_all_values(tmp_path, rng, sizes):
    x = rng.gamma(0.5, size=(60, 4)) * 1e-3 + 1e3
    rows = [[*scalars, *states] for scalars, states in (moment_rows(1, "net_value", part) for part in split(x, sizes))]
    found = numbers(load(write(tmp_path / "run", rows)))
    assert found["net_value_mean"] == close_to(x.mean())
    assert found["net_value_abs_mean"] == close_to(np.abs(x).mean())
    assert (found["net_value_minimum"], found["net_value_maximum"]) == (x.min(), x.max())
    # what x itself has lost of its digits to the offset, numpy's two passes have lost, too
    assert found["net_value_sd"] == close_to(x.std(), rel=1e-9)
    assert found["net_value_excess_kurtosis"] == close_to(stats.kurtosis(x.ravel()), rel=1e-8)
    y = (x - 1e3) * 1e3
    rows = [[*scalars, *states] for scalars, states in (moment_rows(1, "net_value", part) for part in split(y, sizes))]
    found = numbers(load(write(tmp_path / "other", rows)))
    assert found["net_value_sd"] == close_to(y.std())
    assert found["net_value_excess_kurtosis"] == close_to(stats.kurtosis(y.ravel()))


def test_constants_have_no_spread_and_no_kurtosis(tmp_path):
    rows = [[*scalars, *states] for scalars, states in (moment_rows(1, "net_value", [0.1] * n) for n in (3, 7, 1))]
    found = numbers(load(write(tmp_path / "run", rows)))
    assert (found["net_value_sd"], found["net_value_mean"]) == (0.0, 0.1)
    assert np.isnan(found["net_value_excess_kurtosis"])


def test_ranks_that_are_constant_each_vary_together(tmp_path):
    x = np.repeat([1.0, 4.0], [3, 5])
    rows = [[*scalars, *states] for scalars, states in (moment_rows(1, "net_value", part) for part in split(x, [3, 5]))]
    found = numbers(load(write(tmp_path / "run", rows)))
    assert found["net_value_sd"] == close_to(x.std())
    assert found["net_value_excess_kurtosis"] == close_to(stats.kurtosis(x))


def test_what_has_diverged_stays_so(tmp_path):
    x = [np.array([1.0, np.nan]), np.array([2.0, 3.0])]
    rows = [[*scalars, *states] for scalars, states in (moment_rows(1, "net_value", part) for part in x)]
    with np.errstate(invalid="ignore"):
        found = numbers(load(write(tmp_path / "run", rows)))
    assert found.isna().all()


def test_correlations_are_those_over_all_samples(tmp_path, rng, sizes):
    x = samples(rng)
    of_ranks = [correlation_rows(3, part, items=float(i + 1)) for i, part in enumerate(split(x, sizes))]
    run = load(write(tmp_path / "run", [[row for some in rows for row in some] for rows in of_ranks], steps=3))
    found, r = numbers(run), pairs_of(x)
    kept = np.ptp(x, axis=0) > 0
    matrix = np.corrcoef(x[:, kept], rowvar=False)
    assert found["node_correlation_abs_mean"] == (close_to(np.abs(r).mean()) if len(sizes) > 1 else np.abs(r).mean())
    if len(sizes) > 1:  # of one rank it is what that rank recorded
        eigenvalues = np.linalg.eigvalsh(matrix).clip(min=0)
        shares = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
        assert found["participation_ratio"] == close_to(len(matrix) ** 2 / (matrix**2).sum())
        assert found["effective_rank"] == close_to(np.exp(-(shares * np.log(shares)).sum()), rel=1e-10)
    assert found["node_correlation_samples"] == 60
    assert (found["constant_nodes"], found["node_correlation_nodes"], found["node_correlation_width"]) == (1, 8, 9)
    assert found["node_correlation_items"] == sum(i + 1 for i, n in enumerate(sizes) if n)
    merged = run.histogram("node_correlation", "act")
    low, high, counts = merged.bounds()
    # each r in its bin, but for the rounding of a covariance that was put together
    r = np.sort(r)
    assert merged.n == len(r)
    assert (np.repeat(low, counts) <= r + 1e-12).all()
    assert (np.repeat(high, counts) >= r - 1e-12).all()


def test_multiple_correlation_is_that_over_all_samples(tmp_path, rng):
    x = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))
    x = np.column_stack([x, np.full(60, 2.0)])
    names = {"multiple_correlation": 0.5, "multiple_correlation_null": 0.1}
    rows = []
    for part in split(x, (40, 20)):
        of_rank = [row for some in correlation_rows(3, part) for row in some]
        rows.append([*of_rank, *(scalar(3, *pair, 20.0, phase="eval") for pair in names.items())])
    found = numbers(load(write(tmp_path / "run", rows, steps=3)))
    z = x[:, :5] - x[:, :5].mean(0)
    left = [z[:, i] - o @ np.linalg.lstsq(o, z[:, i], rcond=None)[0] for i in range(5) for o in [np.delete(z, i, 1)]]
    squared = 1 - np.square(left).sum(1) / np.square(z).sum(0)
    assert found["multiple_correlation"] == close_to((1 - (1 - squared) * 59 / 55).mean(), rel=1e-11)
    assert found["multiple_correlation_null"] == 4 / 59


def test_a_node_is_dead_where_it_is_so_on_all_ranks(tmp_path):
    codes = np.array([[[0, 0, 2, 0], [0, 0, 0, 2]], [[0, 2, 0, 0], [0, 0, 0, 0]]], np.float64)  # rank, set, node
    rows = [[scalar(1, "dead_share", 0.9, 3.0), scalar(1, "always_saturated_share", 0.9, 3.0),
             StateRow(1, "train", "act", 0, "dead_share", 3, 4, of_rank.ravel())] for of_rank in codes]  # fmt: skip
    found = numbers(load(write(tmp_path / "run", rows)))
    assert (found["dead_share"], found["always_saturated_share"]) == (0.5, 0.75)
    codes[0, 0, 0] = 1  # not known there, and nothing else of it is outside
    rows = [[*some[:2], some[2]._replace(state=of_rank.ravel())] for some, of_rank in zip(rows, codes, strict=True)]
    found = numbers(load(write(tmp_path / "other", rows)))
    assert np.isnan(found["dead_share"])
    assert found["always_saturated_share"] == 0.75


def test_weights_in_parts_move_as_the_whole_and_copies_count_once(tmp_path, rng):
    before, now = rng.normal(size=(2, 12, 4))
    parts = [(b, n) for b, n in zip(split(before, (8, 4)), split(now, (8, 4)), strict=True)]
    sharded = [{**LAYERS[0], "sharded": True}, LAYERS[1]]
    for name, pairs, layers in (("parts", parts, sharded), ("copies", [(before, now)] * 2, LAYERS)):
        rows = []
        for b, n in pairs:
            squares = np.array([((n - b) ** 2).sum(), (b**2).sum()])
            state = StateRow(1, "train", "fc", 0, "update_to_weight", b.size, 1, squares)
            rows.append([scalar(1, "update_to_weight", np.sqrt(squares[0] / squares[1]), float(b.size), "fc"), state])
        found = numbers(load(write(tmp_path / name, rows, told=[{"layers": layers}] * 2)))
        assert found["update_to_weight"] == close_to(np.linalg.norm(now - before) / np.linalg.norm(before))
    nothing = [[scalar(1, "update_to_weight", None, 4.0, "fc"),
                StateRow(1, "train", "fc", 0, "update_to_weight", 4, 1, np.array([2.0, 0.0]))] for _ in range(2)]  # fmt: skip
    run = load(write(tmp_path / "zero", nothing, told=[{"layers": sharded}] * 2))
    assert run.tables.scalars(Selection()).table["value"].to_pylist() == [None]


def test_a_rank_without_such_a_row_gives_no_effective_rank(tmp_path, rng):
    x = samples(rng)
    rows = [[row for some in correlation_rows(3, part, rank=False) for row in some] for part in split(x, (30, 30))]
    found = numbers(load(write(tmp_path / "run", rows, steps=3)))
    assert "effective_rank" not in found
    assert found["participation_ratio"] != 1.5


def test_noise_beside_signal_is_that_over_all_samples(tmp_path, rng, sizes):
    x = samples(rng)
    noise = rng.gamma(1.0, size=x.shape)
    of_ranks = [noise_rows(2, *parts) for parts in zip(split(x, sizes), split(noise, sizes), strict=True)]
    found = numbers(load(write(tmp_path / "run", [[*a, *b] for a, b in of_ranks], steps=2)))
    varies = x.std(0) != 0
    expected = (noise[:, varies].sum(0) / (len(x) * x[:, varies].var(0))).mean()
    assert found["dropout_noise_to_signal"] == close_to(expected)


def test_where_no_node_varies_there_is_no_ratio(tmp_path):
    x = np.full((6, 2), 3.0)
    of_ranks = [noise_rows(2, part, part) for part in split(x, (4, 2))]
    assert np.isnan(numbers(load(write(tmp_path / "run", [[*a, *b] for a, b in of_ranks]))))["dropout_noise_to_signal"]


def test_items_that_are_not_known_of_one_rank_are_not_known_of_all(tmp_path, rng):
    x = samples(rng)
    items = [3.0, None]
    rows = [[row for some in correlation_rows(3, part, items=known) for row in some]
            for part, known in zip(split(x, (30, 30)), items, strict=True)]  # fmt: skip
    # a row without a value and with a count is missing: it is of something
    assert np.isnan(numbers(load(write(tmp_path / "run", rows)))["node_correlation_items"])


RULES = {
    "sum": (4.5, {"merge": "sum"}), "minimum": (-2.0, {"merge": "minimum"}), "maximum": (5.0, {"merge": "maximum"}),
    "mean": ((5.0 * 1 + 1.5 * 2 - 2.0 * 3) / 6, {}),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_quantity_of_ones_own_merges_as_it_says(tmp_path, rule):
    expected, told = RULES[rule]
    quantities = {"own": {"kind": "scalar", "unit": "1", "label": "own", "scale": "none", **told}}
    path = tmp_path / "run"
    for rank, (value, count) in enumerate([(5.0, 1.0), (1.5, 2.0), (-2.0, 3.0), (None, 0.0)]):
        one = writer(path, rank, 4)
        add(one, [scalar(1, "own", value, count)])
        close(one, 1, quantities=quantities)
    assert numbers(load(path))["own"] == close_to(expected)


MISSING = {
    "nothing came on one": ([(2.0, 4.0), (None, 0.0)], 2.0),
    "nothing came on one, which is no number": ([(2.0, 4.0), (np.nan, 0.0)], 2.0),
    "nothing came on any": ([(None, 0.0), (None, 0.0)], None),
    "no number on any": ([(np.nan, 0.0), (None, 0.0)], np.nan),
    "missing on one": ([(2.0, 4.0), (None, None)], None),
    "missing on one, of something": ([(2.0, 4.0), (None, 3.0)], None),
    "no number on one": ([(2.0, 4.0), (np.nan, 3.0)], np.nan),
    "without counts": ([(2.0, None), (5.0, None)], 3.5),
    "a count on one alone": ([(2.0, None), (5.0, 3.0)], None),
    "a count on one alone, of equals": ([(5.0, None), (5.0, 3.0)], 5.0),
    "infinite": ([(np.inf, 1.0), (5.0, 3.0)], np.inf),
    "infinite of both signs": ([(np.inf, 1.0), (-np.inf, 3.0)], np.nan),
    "of equals to the last digit": ([(0.1, 3.0), (0.1, 7.0)], 0.1),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_and_what_is_no_number(tmp_path, case):
    given, expected = MISSING[case]
    table = load(write(tmp_path / "run", [[scalar(1, "q", *one)] for one in given]))
    table = table.tables.scalars(Selection()).table
    value = table["value"][0].as_py()
    assert (value is None) == (expected is None)
    if expected is not None:
        assert value == expected or (np.isnan(value) and np.isnan(expected))


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), min_size=1, max_size=4), scale=st.floats(-8, 8))
def test_merging_does_not_depend_on_the_split(seed, cuts, scale):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(40, 5)) + 3 * rng.normal()) * 10.0**scale
    first, second = (_merged(x, sizes) for sizes in (np.diff(np.sort([0, *cuts, 40])), [13, 27]))
    for name in first.keys() & second.keys():
        floor = 1e-12 * 10.0**scale if name.startswith("net_value") else 1e-12
        assert first[name] == close_to(second[name], rel=1e-11, floor=floor), name


MADE_UP = ["participation_ratio", "effective_rank", "node_correlation_items"]


def _merged(x, sizes):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = []
        for part in split(x, sizes):
            scalars, states = moment_rows(1, "net_value", part)
            correlations = [row for some in correlation_rows(1, part) for row in some]
            rows.append([*scalars, *states, *histogram(1, "net_value", part), *correlations])
        run = load(write(Path(folder) / "run", rows))
        assert run.histogram("net_value", "act") == Histogram.from_values(x)
        # where one rank alone has samples, it is what that rank recorded
        alone = sum(n > 0 for n in sizes) == 1
        return numbers(run).drop(MADE_UP if alone else MADE_UP[-1:]).to_dict()
