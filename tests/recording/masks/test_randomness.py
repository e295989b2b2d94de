"""Which generators have drawn between two readings, and that reading draws nothing."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from dropdiag.recording.masks.randomness import RandomStates, changed


def draws():
    return {
        "torch": lambda: torch.rand(3),
        "numpy": np.random.rand,
        "many of numpy": lambda: np.random.rand(312),  # noqa: NPY002 - 624 words: its place is where it was
        "python": random.random,
        "nothing": lambda: None,
    }


@pytest.mark.parametrize("thorough", [False, True])
def test_every_draw_is_seen_and_nothing_else(thorough):
    names = {"torch": "torch's default generator", "python": "Python's random", "nothing": None}
    states = RandomStates(nn.Linear(2, 2))
    states.find()
    for what, draw in draws().items():
        before = states.read(thorough=thorough)
        assert changed(before, states.read(thorough=thorough)) == []
        draw()
        expected = names.get(what, "numpy's global state")
        assert changed(before, states.read(thorough=thorough)) == ([] if expected is None else [expected]), what


def test_the_second_normal_of_a_pair_is_seen_by_a_thorough_reading():
    states = RandomStates(nn.Linear(2, 2))
    np.random.seed(0)  # noqa: NPY002
    np.random.randn()  # noqa: NPY002
    before = states.read(thorough=True)
    np.random.randn()  # noqa: NPY002 - was drawn with the first
    assert changed(before, states.read(thorough=True)) == ["numpy's global state"]


def test_reading_changes_no_state():
    states = RandomStates(nn.Linear(2, 2))
    states.find()

    def numbers(*, reading):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        for thorough in (True, False) if reading else ():
            states.read(thorough=thorough)
        return torch.rand(2).tolist(), random.random(), np.random.randn()  # noqa: NPY002

    assert numbers(reading=True) == numbers(reading=False)


def test_generators_of_the_model_are_found_wherever_its_modules_keep_them():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[0].own = torch.Generator()
    model[1].bit = [np.random.Generator(np.random.Philox(0)), np.random.Generator(np.random.MT19937(0))]
    model[1].old = {"a": np.random.RandomState(0)}
    states = RandomStates(model)
    states.find()
    before = states.read(thorough=False)
    torch.rand(1, generator=model[0].own)
    assert changed(before, states.read(thorough=False)) == ["torch's generator at 0.own"]
    model[1].bit[1].random()
    model[1].old["a"].rand()
    assert changed(before, states.read(thorough=False)) == [
        "torch's generator at 0.own",
        "numpy's generator at 1.bit[1]",
        "numpy's generator at 1.old['a']",
    ]
