"""What users are told of passes, given what was noticed of them."""

import pytest

from dropdiag.recording.notices import OF_STEPS, Notice, after_evaluation, after_step


def test_nothing_is_told_of_plain_training():
    assert after_step(set(), nothing_recorded=False) == []
    assert after_step(set(), nothing_recorded=True) == []
    assert after_evaluation(set(), "eval", nothing_recorded=False) == []


@pytest.mark.parametrize("notice", [*OF_STEPS, Notice.NOT_TRAINING])
def test_each_notice_of_a_step_is_told_once(notice):
    assert after_step({notice}, nothing_recorded=True) == [notice.value]


def test_all_notices_of_a_step_are_told_in_one_order():
    assert after_step(set(Notice), nothing_recorded=True) == [*(n.value for n in OF_STEPS), Notice.NOT_TRAINING.value]


def test_evaluation_mode_is_told_only_where_nothing_was_recorded():
    assert after_step({Notice.NOT_TRAINING}, nothing_recorded=False) == []


@pytest.mark.parametrize(
    ("notices", "nothing", "told"),
    [
        (set(Notice), True, "forward passes in training mode inside evaluation 'test' were not recorded"),
        ({Notice.MASKS_IN_EVALUATION}, True, "a dropout was active inside evaluation 'test'"),
        (set(), True, "evaluation 'test' saw no forward pass through a recorded activation"),
        ({Notice.COMPILED, Notice.DIRECT_CALL}, False, None),
    ],
)
def test_an_evaluation_is_told_of_once_by_its_first_cause(notices, nothing, told):
    sentences = after_evaluation(notices, "test", nothing_recorded=nothing)
    assert len(sentences) == (told is not None)
    assert all(sentence.startswith(told) for sentence in sentences)
