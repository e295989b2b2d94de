"""Whether runs of one seed are pairs is found out, where they are and where they are not."""

from __future__ import annotations

import json

import pytest

from dropdiag.experiments.sweep.pairing import pairing

SAME = "Runs of one seed began with the same weights in all conditions."


def told(swept, tmp_path, name, over=None, **options):
    made = swept(name, over, **options)
    return made, json.loads((tmp_path / "out" / "sweep.json").read_text())


def test_a_loader_with_a_generator_of_its_own_gives_pairs(swept, tmp_path):
    made, found = told(swept, tmp_path, "well", seeds=2)
    assert made.remarks == (
        SAME,
        "Runs of one seed saw the same batches in all conditions (10 steps were looked at, the last one step 12 of 12).",
    )
    assert (found["pairs"]["weights"], found["pairs"]["batches"], found["pairs"]["differ_from"]) == (True, True, None)
    assert found["remarks"] == list(made.remarks)


def test_a_loader_that_draws_where_dropout_does_gives_none(swept, tmp_path):
    """Four batches an epoch: the order of the first one is drawn before the first mask is, that of the second after."""
    made, found = told(swept, tmp_path, "shuffled", seeds=2)
    assert made.remarks[0] == SAME
    assert made.remarks[1].startswith(
        "Runs of one seed did not see the same batches in all conditions, from step 5 on (the same up to step 4): "
    )
    assert 'generator=torch.Generator().manual_seed(config["seed"])' in made.remarks[1]
    assert found["pairs"] == {
        "weights": True, "batches": False, "same_up_to": 4, "differ_from": 5, "looked_at": 10, "last": 12, "steps": 12,
    }  # fmt: skip


def test_an_axis_without_effect_and_seeds_that_are_one_are_told(swept, tmp_path):
    made, _ = told(swept, tmp_path, "read_and_not_used", {"rate": [0, 0.5]}, seeds=2)
    assert any(
        one.startswith("rate=0 and rate=0.5 ended with the same weights, bit for bit (seed 0, 1)")
        for one in made.remarks
    )
    made, _ = told(swept, tmp_path, "seeds_itself", {"rate": [0.5]}, seeds=3, out=tmp_path / "again")
    (remark,) = made.remarks
    assert remark.startswith("Seeds 0, 1, 2 of rate=0.5 are one training, bit for bit, that counts several times")


def run(condition, seed, weights="w", batches=None, end=None, steps=100):
    origin = {"weights": weights, "batches": batches or {}, "end": end or f"{condition}{seed}"}
    return {"config": {"condition": condition, "seed": seed}, "origin": origin, "steps": steps}


def test_where_batches_differ_is_bounded_by_the_steps_that_were_looked_at():
    a = run("a", 0, batches={"1": "x", "8": "y", "20": "z"})
    b = run("b", 0, batches={"1": "x", "8": "y", "20": "q"})
    found = pairing([a, b])
    assert (found.same_up_to, found.differ_from) == (8, 20)
    assert "from step 20 on, or some steps before (the same up to step 8)" in found.remarks[1]
    b["origin"]["batches"]["1"] = "q"
    assert "in all conditions, from the first step on: " in pairing([a, b]).remarks[1]


def test_what_is_not_known_is_said():
    found = pairing([run("a", 0, weights=None), run("b", 0)])
    assert (found.weights, found.batches) == (None, None)
    assert found.remarks[0].startswith("Whether runs of one seed began with the same weights is not known")
    assert found.remarks[1].startswith("Whether runs of one seed saw the same batches is not known")
    without = [{key: value for key, value in one.items() if key != "origin"} for one in (run("a", 0), run("b", 0))]
    assert pairing(without).weights is None


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
def test_other_weights_are_told(seeds):
    found = pairing([run("a", seeds[0], weights="v"), run("b", seeds[1], weights="w")])
    assert found.weights is (None if seeds == (0, 1) else False)
    assert bool(found.remarks) == (seeds == (0, 0))
