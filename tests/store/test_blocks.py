"""Scalars of many runs, whatever their keys have in common, are those of each run by itself."""

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import gradient_flow, learning
from dropdiag.store import batches
from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.run import Run
from dropdiag.store.writer import RunWriter

FLOW = "net_grad_abs_mean"


def write(path, seed, *, steps, flush=1000, condition="A"):
    """Record gradient flow of two layers, with values that are missing or infinite, and a loss."""
    config = {"condition": condition, "seed": seed}
    meta = {"config": config, "versions": {}, "layers": [], "activations": {}, "steps": steps, "warnings": []}
    writer = RunWriter(path, meta)
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        flow = [float(rng.lognormal()), None if step == 3 else float("inf") if step == 4 else float(rng.lognormal())]
        writer.add_scalars([ScalarRow(step, "train", None, 0, "loss", float(rng.normal()))])
        writer.add_scalars([ScalarRow(step, "train", f"layer{i}", 0, FLOW, value) for i, value in enumerate(flow)])
        if step % flush == 0:
            writer.flush()
    writer.close("completed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return equal runs, one in more segments, others of other lengths between them, equal ones again."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, steps in enumerate([12, 12, 12, 7, 9, 12, 12, 5]):
        write(folder / f"r{seed}", seed, steps=steps, condition="AB"[seed % 2], flush=2 if seed == 2 else 1000)
    return load([folder / f"r{seed}" for seed in range(8)])


def again(runs):
    """Return the runs without what they remember."""
    return Runs(runs.runs, ordered=runs.ordered)


def one_by_one(runs, **asked):
    frames = [run.select(**asked).assign(condition=run.condition, run=run.name) for run in runs]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("rows", [400_000, 80, 1])
@pytest.mark.parametrize(
    "asked", [{}, {"quantity": FLOW, "steps": (2, 8)}, {"layer": [None]}, {"quantity": "none", "missing_ok": True}]
)
def test_rows_are_those_of_each_run_in_their_order(runs, monkeypatch, rows, asked):
    monkeypatch.setattr(batches, "ROWS", rows)
    expected = one_by_one(runs, **asked)
    found = again(runs).select(**asked)
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_exact=True)
    kept = again(runs)
    assert kept.scalars["value"].size > 0  # from here on, answers come from memory
    pd.testing.assert_frame_equal(kept.select(**asked), found, check_exact=True)
    some = kept.select(condition="B", **asked)
    assert some.equals(found[found["condition"] == "B"].reset_index(drop=True))
    parts = [frame.astype({"condition": "str"}) for frame in kept.batches(columns=["value"], **asked)]
    assert [value for part in parts for value in part["value"].fillna(0)] == list(expected["value"].fillna(0))


def test_equal_keys_are_kept_once_and_runs_that_differ_share_a_block(runs):
    found = list(again(runs).blocks())
    assert [(block.positions.tolist(), block.slots is None) for block in found] == [
        ([0, 1, 2], True), ([3, 4], False), ([5, 6], True), ([7], False),
    ]  # fmt: skip
    assert found[0].matrix.shape == (3, 36)


@pytest.mark.parametrize("conditions", [None, ["B"]])
def test_gradient_flow_is_what_pandas_makes_of_the_rows(runs, conditions):
    rows = one_by_one(runs, quantity=FLOW)
    rows = rows if conditions is None else rows[rows["condition"].isin(conditions)]
    usable = rows[np.isfinite(rows["value"])]
    expected = usable.groupby(["run", "layer"])["value"].mean()
    found = gradient_flow.per_run(again(runs), conditions=conditions)
    assert found.set_index(["run", "layer"])["mean"].sort_index().to_numpy() == pytest.approx(expected.to_numpy())
    dropped = rows.groupby(["run", "layer"]).size() - usable.groupby(["run", "layer"]).size()
    assert found.set_index(["run", "layer"])["dropped"].sort_index().tolist() == dropped.tolist()
    short = gradient_flow.per_window(again(runs), [2, None])
    two = usable[usable["step"] <= 2].groupby(["run", "layer"])["value"].mean()
    first = short[short["until"] == 2].set_index(["run", "layer"])["mean"].sort_index()
    assert first[two.index].to_numpy() == pytest.approx(two.to_numpy())


@pytest.mark.parametrize("waiting", [400_000, 3])
def test_curves_are_what_pandas_makes_of_the_rows(runs, monkeypatch, waiting):
    monkeypatch.setattr("dropdiag.analysis.training.MERGED_ROWS", waiting)
    rows = one_by_one(runs, quantity=FLOW)
    rows = rows[np.isfinite(rows["value"])].assign(log=lambda one: np.log(one["value"]))
    groups = rows.groupby(["condition", "layer", "step"])["log"]
    found = gradient_flow.curves(again(runs)).set_index(["condition", "layer", "step"]).sort_index()
    assert found.index.tolist() == [(*key[:2], float(key[2])) for key in groups.mean().index]
    assert found["value"].to_numpy() == pytest.approx(np.exp(groups.mean()).to_numpy())
    assert found["high"].to_numpy() == pytest.approx(np.exp(groups.mean() + groups.std()).to_numpy(), nan_ok=True)
    assert found["seeds"].tolist() == groups.size().tolist()


def test_curves_of_few_bins_average_the_steps_of_each_run_first(runs):
    rows = one_by_one(runs, quantity="loss").assign(bin=lambda one: (one["step"] - 1) * 3 // 12)
    each = rows.groupby(["condition", "run", "bin"])[["step", "value"]].mean()
    expected = each.groupby(["condition", "bin"])
    found = learning.curves(again(runs), "loss", bins=3)
    assert found["value"].to_numpy() == pytest.approx(expected["value"].mean().to_numpy())
    # the place of a bin is that of all steps in it, whichever runs have come so far
    assert found["step"].tolist() == [2.5, 6.5, 10.5] * 2
    assert (found["value"] - found["low"]).to_numpy() == pytest.approx(expected["value"].std().to_numpy(), nan_ok=True)


def test_what_is_too_large_is_not_kept(runs, monkeypatch):
    monkeypatch.setattr(batches, "CACHED_BYTES", 1000)
    large = again(runs)
    assert large.scalars.equals(runs.scalars)
    asked = []
    real = Run.read_scalars
    monkeypatch.setattr(Run, "read_scalars", lambda *given: asked.append(given[1]) or real(*given))
    assert large.select("loss").equals(runs.select("loss"))
    assert {selection.quantity for selection in asked} == {("loss",)}  # what is not kept is not read
