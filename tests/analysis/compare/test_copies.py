"""One training counts once, however often it is there."""

import numpy as np

import dropdiag as dd
from tests.synthetic import content, write


def compared(folder, salts, seeds=None):
    """Write runs of two conditions, each made of a salt; the same salt is the same training."""
    for condition in ("No dropout", "Dropout"):
        for place, salt in enumerate(salts):
            seed = place if seeds is None else seeds[place]
            write(folder / f"{condition}-{place}", content(condition, salt), condition, seed)
    return dd.compare([str(folder / "*")], on_unreadable="ignore")


def test_three_trainings_under_nine_seeds_are_three_runs(tmp_path):
    found = compared(tmp_path, [place % 3 for place in range(9)])
    assert set(found.table["n"]) == {3}
    assert len(found.problems) == 12
    assert "its seed is said to be 3, and that one's 0" in found.problems[0]
    three = compared(tmp_path / "three", [0, 1, 2])
    np.testing.assert_allclose(found.table["p"], three.table["p"])
    assert three.problems == ()


def test_one_training_twice_under_one_seed_is_one_run(tmp_path):
    found = compared(tmp_path, [0, 0, 1], seeds=[0, 0, 1])
    assert set(found.table["n"]) == {2}
    assert "both have the same seed" in found.problems[0]
    assert found.table["paired"].all()


def test_conditions_that_change_nothing_may_hold_the_same_numbers(tmp_path):
    for condition in ("rate=0", "none at all"):
        for seed in range(3):
            write(tmp_path / f"{condition}-{seed}", content("No dropout", seed), condition, seed)
    found = dd.compare([str(tmp_path / "*")], baseline="rate=0")
    assert set(found.table["n"]) == {3}
    assert found.problems == ()


def test_runs_that_share_a_few_numbers_are_not_taken_for_one(tmp_path):
    for condition in ("A", "B"):
        for seed in range(3):
            made = content(condition, seed)
            for part in (made.weight, made.net_value, made.node_correlation, made.gradient_flow):
                part.clear()
            # they end alike, and came there on different ways
            made.accuracy, made.loss = np.full(5, 0.9), np.array([1.0 + seed, *([0.5] * 40)])
            write(tmp_path / f"{condition}{seed}", made, condition, seed)
    assert len(dd.compare([str(tmp_path / "*")], baseline="A", on_unreadable="ignore").runs) == 6
