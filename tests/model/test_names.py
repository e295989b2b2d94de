"""Names of modules, with and without wrappers around them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from dropdiag.model.names import named_modules, weight_layer
from dropdiag.model.sites import survey


class Wrapping(nn.Module):
    """A user's own, whose attributes are called as those of wrappers are."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self._orig_mod = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Tanh())


def test_a_users_own_attributes_are_no_wrappers():
    model = Wrapping()
    assert list(named_modules(model)) == list(model.named_modules())


@pytest.mark.parametrize("wrap", [partial(torch.compile, backend="eager"), checkpoint_wrapper, AveragedModel])
def test_wrappers_are_left_out_of_names_wherever_they_are(wrap):
    model = nn.Sequential(Wrapping(), nn.Linear(2, 2))
    model[0]._orig_mod = wrap(model[0]._orig_mod)
    plain = [name for name, _ in nn.Sequential(Wrapping(), nn.Linear(2, 2)).named_modules()]
    assert list(dict.fromkeys(name for name, _ in named_modules(model))) == plain
    layers = {site.layer: site for site in survey(model) if site.skipped is None}
    assert list(layers) == ["0.module", "0._orig_mod.0", "0._orig_mod.1", "1"]
    inside = next(name for name, module in model.named_modules() if isinstance(module, nn.Tanh))
    assert inside != "0._orig_mod.1"  # which is what the run is to be found under that version 1 wrote
    assert layers["0._orig_mod.1"].aliases == (inside,)
    assert layers["0._orig_mod.0"].aliases == (inside[:-1] + "0",)
    assert layers["0.module"].aliases == ()


def test_a_wrapper_around_the_model_and_one_around_that():
    model = AveragedModel(checkpoint_wrapper(nn.Sequential(nn.Linear(2, 2), nn.Tanh())))
    assert [site.layer for site in survey(model) if site.skipped is None] == ["0", "1"]
    assert [name for name, _ in named_modules(model)] == ["", "", "", "0", "1"]


def test_weights_are_called_as_their_module_or_in_full():
    assert [weight_layer("a.b", "weight"), weight_layer("", "weight")] == ["a.b", "(model)"]
    assert [weight_layer("a", "w1"), weight_layer("", "w1")] == ["a.w1", "w1"]
