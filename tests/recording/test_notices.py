"""What is said of passes, from what the taps have noted."""

import re

import pytest

from dropdiag.recording.collector import Collector
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.notices import after_evaluation, after_step
from dropdiag.recording.overhead import Cost
from dropdiag.recording.passes import Taps


@pytest.fixture
def taps():
    return Taps(Collector([], print), Collector([], print), LossScale(None), Cost())


def test_nothing_is_said_of_plain_training(taps):
    assert list(after_step(taps, nothing_recorded=False)) == []
    assert list(after_step(taps, nothing_recorded=True)) == []
    assert list(after_evaluation(taps, "eval", nothing_recorded=False)) == []


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ("captured", "captured into a CUDA graph are not recorded"),
        ("transformed", "inside torch.func transforms"),
        ("several_backwards", "several backward passes"),
        ("direct", "without calling the model"),
        ("without_training_mode", r"call model.train\(\)"),
    ],
)
def test_each_thing_noted_is_said_once(taps, noted, said):
    setattr(taps, noted, True)
    (advice,) = after_step(taps, nothing_recorded=True)
    assert re.search(said, advice)
