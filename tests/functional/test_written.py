"""Which functions the code of a module seems to call."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropdiag.functional.written import seems_to_call


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.part = nn.ReLU(), nn.Sequential()


class OfModule(Module):
    def forward(self, x):
        called = lambda v: self.relu(self.part(v))  # noqa: E731 - a function inside, without a name
        return called(self.part.relu(x))


class Method(Module):
    def forward(self, x):
        return self.part(x).relu_()


class Spelt(Module):
    def forward(self, x):
        return torch.special.expit(x)


class Inside(Module):
    def forward(self, x):
        def inner(v):
            return F.relu(self.part(v))

        return inner(x)


class Helper(Module):
    def forward(self, x):
        return self.helped(x)

    def helped(self, x):
        return torch.tanh(x)


class Below(Helper):
    def helped(self, x):
        return super().helped(x)


@pytest.mark.parametrize(
    ("kind", "called"),
    [(OfModule, None), (Method, "relu"), (Spelt, "sigmoid"), (Inside, "relu"), (Helper, "tanh"), (Below, "tanh")],
)
def test_functions_are_told_from_modules_of_their_names(kind, called):
    names = ("relu", "tanh", "sigmoid")
    assert [name for name in names if seems_to_call(kind(), {name})] == ([] if called is None else [called])


def test_functions_that_modules_hold():
    assert seems_to_call(nn.TransformerEncoderLayer(4, 1), {"relu"})
    assert not seems_to_call(nn.TransformerEncoderLayer(4, 1, activation=nn.ReLU()), {"relu"})
    assert not seems_to_call(nn.ReLU(), {"relu"})
