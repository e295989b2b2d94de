from __future__ import annotations

import pytest

from dropdiag.analysis.advice.outcome import Series, outcome
from dropdiag.errors import ArgumentError


def of(*names: str) -> list[Series]:
    return [Series(*name.split("/")) for name in names]


@pytest.mark.parametrize(
    ("recorded", "chosen", "reported"),
    [
        (
            ["train/loss", "validation/accuracy", "test/accuracy", "validation/loss"],
            "validation/accuracy",
            "test/accuracy",
        ),
        (["eval/accuracy", "test/accuracy"], "eval/accuracy", "test/accuracy"),
        (["eval/validation_accuracy", "eval/accuracy"], "eval/validation_accuracy", "eval/accuracy"),
        (["train/val_acc", "train/loss"], "train/val_acc", "train/val_acc"),
        (["test/loss", "train/loss"], "test/loss", "test/loss"),
        (["eval/score", "train/loss"], "eval/score", "eval/score"),
        (["eval/loss", "eval/mask_loss"], "eval/loss", "eval/loss"),
        (["training data/loss", "held-out/loss"], "held-out/loss", "held-out/loss"),
    ],
)
def test_it_is_chosen_on_validation_and_reported_on_test_data(recorded, chosen, reported):
    found = outcome(of(*recorded))
    assert (str(found.chosen), str(found.reported)) == (chosen, reported)
    assert found.same == (chosen == reported)


def test_nothing_held_out_is_no_outcome():
    assert outcome(of("train/loss", "training data/accuracy")) is None


def test_a_scalar_is_asked_for_by_name_by_what_it_measures_or_with_its_phase():
    recorded = of("validation/accuracy", "validation/loss", "test/loss", "a validation/f1", "b validation/f1")
    assert str(outcome(recorded, "loss").chosen) == "validation/loss"
    assert str(outcome(recorded, "test/loss").chosen) == "test/loss"
    assert str(outcome(recorded, "val_accuracy").chosen) == "validation/accuracy"
    assert outcome(recorded, "loss").less
    with pytest.raises(ArgumentError, match="several sets of data, 'a validation/f1', 'b validation/f1'; choose"):
        outcome(recorded, "f1")
    with pytest.raises(ArgumentError, match="no held-out scalar 'acuracy'.*'accuracy'"):
        outcome(recorded, "acuracy")


def test_of_several_scores_none_is_guessed():
    with pytest.raises(ArgumentError, match=r"'bleu', 'rouge'; choose one with scalar="):
        outcome(of("eval/bleu", "eval/rouge"))
