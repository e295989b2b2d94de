from __future__ import annotations

import numpy as np
import pytest

from dropdiag.analysis import gradient_flow, learning, scalar
from dropdiag.analysis.common_steps import at_common_steps, mean_steps
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter


def run(path, evaluations: dict[int, float], seed: int, condition: str = "A", layer: str | None = None, loss=()):
    meta = {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": [], "activations": {}}
    writer = RunWriter(path, meta)
    writer.add_scalars([ScalarRow(step, "eval", layer, 0, "accuracy", value) for step, value in evaluations.items()])
    writer.add_scalars([ScalarRow(step, "train", None, 0, "loss", value) for step, value in loss])
    writer.close("completed")
    return path


def expected(runs: list[dict[int, float]], at: float) -> tuple[float, int]:
    """Mean and number of the runs that reach to both sides of a step, by numpy's own interpolation."""
    values = [np.interp(at, list(one), list(one.values())) for one in runs if min(one) <= at <= max(one)]
    return float(np.mean(values)), len(values)


def test_seeds_that_were_evaluated_at_different_steps_give_a_smooth_mean(tmp_path) -> None:
    line = {seed: {step: 0.2 * seed + step / 400 for step in range(10 + 5 * seed, 200, 20)} for seed in (0, 1, 2)}
    frame = learning.curves(load([run(tmp_path / str(seed), one, seed) for seed, one in line.items()]), "accuracy")
    assert frame["step"].tolist() == sorted({step for one in line.values() for step in one})
    for row in frame.itertuples():
        assert (row.value, row.seeds) == pytest.approx(expected(list(line.values()), row.step))
    assert set(frame["runs"]) == {3}
    assert frame["seeds"].tolist()[:3] == [1, 2, 3]  # nothing before a run's first value
    whole = frame[frame["seeds"] == 3]
    assert (whole["value"].diff().dropna() > 0).all()
    np.testing.assert_allclose(whole["high"] - whole["value"], 0.2)


def test_many_different_steps_share_bins(tmp_path) -> None:
    """Sixty seeds with ten evaluations each, at 600 steps: six times as many as there are bins."""
    line = {seed: {step: step / 1000 for step in range(1 + seed, 601, 60)} for seed in range(60)}
    runs = load([run(tmp_path / str(seed), one, seed) for seed, one in line.items()])
    frame = learning.curves(runs, "accuracy", bins=100)
    np.testing.assert_allclose(frame["step"], np.arange(100) * 6 + 3.5)
    middle = frame[(frame["step"] > 61) & (frame["step"] < 540)]
    np.testing.assert_allclose(middle["value"], middle["step"] / 1000)
    np.testing.assert_allclose(middle["high"], middle["value"])
    assert set(middle["seeds"]) == {60}


def test_where_a_run_ends_the_others_go_on_and_are_counted(tmp_path) -> None:
    runs = load([run(tmp_path / "a", dict.fromkeys(range(10, 60, 10), 0.9), 0),
                 run(tmp_path / "b", dict.fromkeys(range(10, 110, 10), 0.5), 1)])  # fmt: skip
    frame = learning.curves(runs, "accuracy").set_index("step")
    assert frame.loc[50, ["value", "seeds", "runs"]].tolist() == pytest.approx([0.7, 2, 2])
    assert frame.loc[60, ["value", "seeds", "runs"]].tolist() == pytest.approx([0.5, 1, 2])
    assert frame["low"].loc[60:].isna().all()


def test_the_steps_of_one_condition_are_not_those_of_another(tmp_path) -> None:
    runs = load([run(tmp_path / "a", {10: 0.1, 30: 0.3}, 0, "A"), run(tmp_path / "b", {20: 0.2, 40: 0.4}, 0, "B")])
    frame = learning.curves(runs, "accuracy")
    assert frame.groupby("condition")["step"].agg(list).to_dict() == {"A": [10, 30], "B": [20, 40]}


def test_a_stretch_without_values_is_not_made_up(tmp_path) -> None:
    values = {s: float(s) for s in range(1, 41)}
    holes = values | {5: np.nan} | dict.fromkeys(range(20, 31), np.nan) | {39: np.inf, 40: np.nan}
    runs = load([run(tmp_path / "a", values, 0), run(tmp_path / "b", holes, 1)])
    frame = learning.curves(runs, "accuracy").set_index("step")
    np.testing.assert_allclose(frame["value"], frame.index)
    assert frame.index[frame["seeds"] == 1].tolist() == [*range(20, 31), 39, 40]
    assert frame["dropped"].sum() == 14
    alone = scalar.curves(runs[1:], "accuracy").set_index("step")
    assert alone.index[alone["value"].isna()].tolist() == [5, *range(20, 31), 39, 40]
    assert (alone["seeds"] == alone["value"].notna()).all()


def test_missing_values_between_evaluations_are_no_stretch(tmp_path) -> None:
    """A scalar that is given at every step, NaN but at evaluations, is the same as one given at evaluations."""
    sparse = [{s: s / 10 for s in range(1 + seed, 40, 4)} for seed in (0, 2)]
    dense = [{s: one.get(s, np.nan) for s in range(1, 41)} for one in sparse]
    given, filled = (
        learning.curves(load([run(tmp_path / f"{name}{i}", one, i) for i, one in enumerate(kind)]), "accuracy")
        for name, kind in (("sparse", sparse), ("dense", dense))
    )
    same = ["step", "value", "low", "high", "seeds"]
    np.testing.assert_allclose(filled[same].to_numpy(float), given[same].to_numpy(float))


def test_ratios_are_interpolated_on_the_log_scale(tmp_path) -> None:
    paths = []
    for seed, steps in ((0, range(1, 30, 4)), (1, range(3, 32, 4))):
        writer = RunWriter(
            tmp_path / str(seed),
            {"config": {"condition": "A", "seed": seed}, "versions": {}, "layers": [], "activations": {}},
        )
        rows = [ScalarRow(step, "train", "l", 0, gradient_flow.QUANTITY, 10.0 ** (-step / 5)) for step in steps]
        writer.add_scalars(rows)
        writer.close("completed")
        paths.append(tmp_path / str(seed))
    frame = gradient_flow.curves(load(paths))
    np.testing.assert_allclose(frame["value"], 10.0 ** (-frame["step"] / 5))


def test_a_layer_that_some_runs_lack_is_counted(tmp_path) -> None:
    runs = load([run(tmp_path / "a", {1: 0.1}, 0, layer="x"), run(tmp_path / "b", {1: 0.1}, 1, layer="y")])
    frame = scalar.curves(runs, "accuracy")
    assert frame[["seeds", "runs"]].to_numpy().tolist() == [[1, 2], [1, 2]]


def test_an_array_of_runs_is_interpolated_at_once() -> None:
    rng = np.random.default_rng(3)
    steps = np.arange(90)
    bins = steps // 3
    common = mean_steps(steps, bins)
    np.testing.assert_allclose(common, np.arange(30) * 3 + 1)
    recorded = rng.random((4, 2, 30)) < 0.4
    own = np.where(recorded, common + rng.uniform(-1, 1, recorded.shape), np.nan)
    values = np.where(recorded, rng.normal(size=recorded.shape), np.nan)
    found = at_common_steps(values, recorded, common, own)
    for index in np.ndindex(4, 2):
        x, y, here = own[index], values[index], recorded[index]
        line = np.interp(common, x[here], y[here], left=np.nan, right=np.nan)
        np.testing.assert_allclose(found[index], np.where(np.isnan(line) & here, y, line))
    assert at_common_steps(values, np.ones_like(recorded), common)[~recorded].size
    assert np.isnan(at_common_steps(np.full((1, 3), np.nan), np.zeros((1, 3), bool), np.arange(3.0))).all()
