"""Effects of weights and of masks over seeds, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dropdiag.analysis import masks_by_weights
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from tests.versions import write_run

LAYERS = ("c1:relu", "c2:relu")
STEPS = (100, 200)
SEEDS = (0, 1, 2, 3)


def flows(condition, seed, step):
    """Both log flows of each layer."""
    rng = np.random.default_rng([seed, step, len(condition)])
    trained = float(condition == "Dropout")
    off = np.array([0.6, 0.1]) * trained + rng.normal(0, 0.05, 2) - 9
    return off, off + np.array([-0.2, 0.3]) * (1 + trained) + rng.normal(0, 0.05, 2)


def rows_of(condition, seed, steps=STEPS, change=lambda value, **_: value):
    for step in steps:
        off, on = np.exp(flows(condition, seed, step))
        for quantity, values in (("flow_masks_off", off), ("flow_masks_on", on)):
            for layer, flow in zip(LAYERS, values, strict=True):
                value = change(float(flow), condition=condition, seed=seed, layer=layer)
                yield ScalarRow(step, "masks_by_weights", layer, 0, quantity, value)


def make(folder, seeds=SEEDS, conditions=("No dropout", "Dropout"), shift=0, **options):
    for name in conditions:
        for seed in seeds:
            own = seed + shift * (name == "Dropout")
            path = folder / f"{name}-{seed}"
            write_run(path, condition=name, seed=own, scalars=list(rows_of(name, seed, **options)))
    return load({name: str(folder / f"{name}-*") for name in conditions})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs"))


def expected(step, layer):
    """Log ratios seed by seed."""
    both = [[flows(name, seed, step) for seed in SEEDS] for name in ("No dropout", "Dropout")]
    (a0, a1), (b0, b1) = (np.array(one)[..., layer].T for one in both)
    return {
        "weights": (b0 - a0 + b1 - a1) / 2,
        "masks": (a1 - a0 + b1 - b0) / 2,
        "interaction": (b1 - b0) - (a1 - a0),
        "together": b1 - a0,
    }


def test_effects_are_means_over_pairs_of_seeds_with_t_intervals(runs):
    found = masks_by_weights.table(runs)
    assert set(found["step"]) == {200}
    assert set(found["condition"]) == {"Dropout"}
    assert set(found["baseline"]) == {"No dropout"}
    for place, layer in enumerate(LAYERS):
        part = found[found["layer"] == layer].set_index("effect")
        for effect, values in expected(200, place).items():
            row = part.loc[effect]
            assert row["value"] == pytest.approx(values.mean(), abs=1e-12)
            half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
            assert (row["low"], row["high"]) == pytest.approx((values.mean() - half, values.mean() + half))
            assert (row["pairs"], row["runs"], row["why"]) == (4, 8, "")
        assert part.loc["together", "value"] == pytest.approx(part.loc[["weights", "masks"], "value"].sum())


def test_one_step_and_all_steps(runs):
    every = masks_by_weights.table(runs, step="all")
    assert sorted(set(every["step"])) == [100, 200]
    first = masks_by_weights.table(runs, step=100, layers=["c2:relu"])
    assert set(first["layer"]) == {"c2:relu"}
    for found in (every[(every["step"] == 100) & (every["layer"] == "c2:relu")], first):
        values = found.set_index("effect")["value"]
        assert values.to_dict() == pytest.approx({name: v.mean() for name, v in expected(100, 1).items()})
    with pytest.raises(ArgumentError, match="step=150 was not measured; measured were steps 100, 200"):
        masks_by_weights.table(runs, step=150)


def test_runs_whose_seeds_do_not_pair_are_independent_samples(tmp_path):
    found = masks_by_weights.table(make(tmp_path, shift=100), layers=["c1:relu"]).set_index("effect")
    assert set(found["pairs"]) == {0}
    a, b = (np.array([flows(name, seed, 200) for seed in SEEDS])[..., 0] for name in ("No dropout", "Dropout"))
    mean = found.loc["weights", "value"]
    test = stats.ttest_ind(b.mean(1), a.mean(1), equal_var=False)
    assert mean == pytest.approx(b.mean() - a.mean())
    assert (found.loc["weights", "low"], found.loc["weights", "high"]) == pytest.approx(
        tuple(test.confidence_interval(0.95))
    )
    assert found.loc["masks", "value"] == pytest.approx(((a[:, 1] - a[:, 0]).mean() + (b[:, 1] - b[:, 0]).mean()) / 2)


def test_missing_values_drop_their_pair_or_say_why_there_is_none(tmp_path):
    def change(value, condition, seed, layer):
        gone = layer == "c1:relu" and condition == "Dropout"
        return None if gone or (layer == "c2:relu" and seed == 3) else value

    found = masks_by_weights.table(make(tmp_path, change=change))
    first, second = (found[found["layer"] == layer] for layer in LAYERS)
    assert first["value"].isna().all()
    assert set(first["why"]) == {"no run of the condition and of the baseline has both flows above 0 here"}
    assert set(second["pairs"]) == {3}


def test_cells_are_the_flows_of_the_runs(runs):
    cells = masks_by_weights.cells(runs)
    assert len(cells) == 2 * len(SEEDS) * len(LAYERS)
    row = cells[(cells["run"].str.contains("No dropout-2")) & (cells["layer"] == "c2:relu")].iloc[0]
    off, on = np.exp(flows("No dropout", 2, 200))
    assert (row["off"], row["on"]) == (off[1], on[1])
    means = masks_by_weights.over_runs(cells).set_index(["condition", "layer"])
    assert means.loc[("No dropout", "c2:relu"), "seeds"] == 4


def test_what_cannot_be_answered_says_so(runs, tmp_path):
    with pytest.raises(NotRecordedError, match="an effect takes two conditions, and there is 'No dropout' alone"):
        masks_by_weights.table(runs, conditions=["No dropout"])
    path = write_run(tmp_path / "run")
    with pytest.raises(NotRecordedError, match=r'call rec.measure\("masks_by_weights", batch, loss_fn\)'):
        masks_by_weights.cells(load(path))
