from __future__ import annotations

import numpy as np
import pytest

from dropdiag.analysis import gradient_flow
from dropdiag.analysis.equal_loss import SMOOTHED
from dropdiag.analysis.seeds import t_interval
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.store.reader import Runs, load
from tests.flows import NET, write_flow

STEPS = 400


def run(folder, condition: str, seed: int, loss: np.ndarray, flow: np.ndarray, order=("act1",)):
    made = {(NET, layer): flow for layer in order}
    return write_flow(folder / f"{condition}-{seed}", made, order, condition=condition, seed=seed, loss=loss)


def falling(start: float, end: float, steps: int = STEPS) -> np.ndarray:
    return np.geomspace(start, end, steps)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    """Flow is a power of the loss times a factor of the seed; B trains twice as slowly and has 1.5 times the flow."""
    folder, paths = tmp_path_factory.mktemp("loss"), {"A": [], "B": []}
    for seed in range(3):
        own = np.exp(0.1 * seed)
        for condition, end, factor in (("A", 0.01, own), ("B", 0.1, 1.5 * own * np.exp(0.02 * seed))):
            loss = falling(2.0, end)
            paths[condition].append(run(folder, condition, seed, loss, factor * loss**0.7))
    return load(paths)


def test_conditions_are_compared_where_both_had_the_same_loss(runs) -> None:
    frame = gradient_flow.at_equal_loss(runs, baseline="A")
    mine = frame[frame["condition"] == "B"]
    expected = np.exp(t_interval([np.log(1.5) + 0.02 * seed for seed in range(3)]))
    known = mine[mine["ratio"].notna()]
    np.testing.assert_allclose(
        known[["ratio", "ratio_low", "ratio_high"]], np.tile(expected, (len(known), 1)), rtol=5e-3
    )
    # the flow is a line on both logarithms: at the middle of each bin it is known
    for row in known.itertuples():
        assert row.value == pytest.approx(1.5 * np.exp(0.12) * row.loss**0.7, rel=0.02)
    assert 0.1 < known["loss"].min() < 0.16
    assert 0.01 < frame[frame["condition"] == "A"]["loss"].min() < 0.016
    assert (mine["loss"].diff().dropna() < 0).all()
    # over the same steps the slower condition seems to have far more
    steps = gradient_flow.table(runs, baseline="A").set_index("condition")["ratio"]
    assert steps["B"] > 1.8


def test_steps_whose_loss_has_no_logarithm_are_left_out_with_a_warning(tmp_path) -> None:
    loss = np.linspace(2.0, -2.0, STEPS)  # a negative log-likelihood
    flow = np.exp(loss)
    runs = load({"A": run(tmp_path, "A", 0, loss, flow), "B": run(tmp_path, "B", 0, loss, 3.0 * flow)})
    with pytest.warns(DropdiagWarning, match="400 of 800 values of 'loss', smoothed, are not above 0"):
        frame = gradient_flow.at_equal_loss(runs, baseline="A")
    np.testing.assert_allclose(frame.loc[frame["condition"] == "B", "ratio"], 3.0, rtol=1e-12)


def test_a_bin_holds_all_steps_whose_smoothed_loss_is_in_it(tmp_path) -> None:
    rng = np.random.default_rng(0)
    loss = falling(2.0, 0.1) * rng.lognormal(0.0, 0.2, STEPS)
    flow = rng.lognormal(0.0, 1.0, STEPS)
    runs = load({"A": run(tmp_path, "A", 0, loss, flow), "B": run(tmp_path, "B", 0, loss, 2.0 * flow)})
    frame = gradient_flow.at_equal_loss(runs, baseline="A", bins=5)
    half = round(SMOOTHED * STEPS) // 2
    smooth = np.array([loss[t - h : t + h + 1].mean() for t in range(STEPS) for h in [min(half, t, STEPS - 1 - t)]])
    edges = np.geomspace(smooth.min(), smooth.max(), 6)
    at = np.clip(np.searchsorted(edges, smooth, side="right") - 1, 0, 4)
    middles = np.sqrt(edges[1:] * edges[:-1])
    means = [(np.log(smooth[at == b]).mean(), np.log(flow[at == b]).mean()) for b in range(5)]
    own, logs = np.array(means).T
    # the steps of a bin lie around its middle, not on it; beyond the first and the last nothing is made up
    expected = np.interp(np.log(middles), own, logs)
    inside = (np.log(middles) >= own.min()) & (np.log(middles) <= own.max())
    found = frame[frame["condition"] == "A"].sort_values("loss")
    np.testing.assert_allclose(found["loss"], middles[inside])
    np.testing.assert_allclose(np.log(found["value"]), expected[inside], atol=1e-9)
    np.testing.assert_allclose(frame[frame["condition"] == "B"]["ratio"], 2.0)


def test_a_ratio_is_taken_only_where_every_run_has_been(tmp_path) -> None:
    paths = {"A": [], "B": []}
    for seed, end in ((0, 0.1), (1, 0.4)):
        for condition in ("A", "B"):
            loss = falling(2.0, end)
            paths[condition].append(run(tmp_path, condition, seed, loss, loss))
    frame = gradient_flow.at_equal_loss(load(paths), baseline="A")
    mine = frame[frame["condition"] == "B"]
    assert mine["loss"].min() < 0.14
    assert set(mine[mine["loss"] < 0.38]["seeds"]) == {1}
    assert mine[mine["loss"] < 0.38]["ratio"].isna().all()
    assert mine[mine["loss"] > 0.46]["ratio"].notna().all()


def test_losses_that_never_meet_are_refused_with_their_ranges(tmp_path) -> None:
    paths = {"A": run(tmp_path, "A", 0, falling(2.0, 1.0), np.ones(STEPS)),
             "B": run(tmp_path, "B", 0, falling(0.5, 0.1), np.ones(STEPS))}  # fmt: skip
    with pytest.raises(
        ArgumentError, match="'B' never had the same 'loss' as 'A' .* 'A' from 2 to 1; 'B' from 0.5 to 0.1"
    ):
        gradient_flow.at_equal_loss(load(paths), baseline="A")
    paths["C"] = run(tmp_path, "C", 0, falling(2.0, 1.0), np.ones(STEPS))
    with pytest.warns(DropdiagWarning, match="'B' never had the same"):
        frame = gradient_flow.at_equal_loss(load(paths), baseline="A")
    assert frame[frame["condition"] == "C"]["ratio"].notna().all()


def test_a_loss_that_was_not_recorded_says_how(runs, tmp_path) -> None:
    with pytest.raises(NotRecordedError, match="no run holds 'eval_loss', a scalar of the network: give it to step"):
        gradient_flow.at_equal_loss(runs, loss="eval_loss", baseline="A")
    made = run(tmp_path, "A", 0, np.full(STEPS, -1.0), np.ones(STEPS))
    with pytest.raises(NotRecordedError, match="'loss' is never above 0: it has no logarithm"):
        gradient_flow.at_equal_loss(load(made))
