"""Networks in which one known thing is changed: the term that it is about moves, and no other."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.recording.chain.reading import after, layout, read, recorded

X = torch.randn(16, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
G = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 6), nn.Hardtanh(-1e3, 1e3), nn.Dropout(0.5), nn.Linear(6, 6), nn.Hardtanh(-1e3, 1e3),
        nn.Linear(6, 6), nn.LeakyReLU(0.5), nn.Linear(6, 3),
    ).double()  # fmt: skip


def linear_loss(scale=1.0):
    """A loss whose gradient is the same whatever the network gives."""
    return lambda model: (scale * (model(X) * G).sum()).backward()


def terms(folder, model, steps) -> dict[str, float]:
    """Return the output error, and the ratio of each pair of neighbours down to the first net value."""
    run = recorded(folder, model, steps)
    values, keys = read(run), layout(run)
    assert all(after(run, *lower) == upper for lower, upper in pairwise(keys))
    found = {"output error": values[keys[-1]]}
    for lower, upper in pairwise(keys):
        found[f"{lower[0]} {lower[1]}"] = values[lower] / values[upper]
    return found


def moved(before, now):
    return {name: now[name] / before[name] for name in before if now[name] != pytest.approx(before[name], rel=1e-12)}


@pytest.fixture
def before(tmp_path):
    return terms(tmp_path / "before", network(), linear_loss())


def test_the_terms_are_those_that_are_known(before):
    names = ["output error", "net 1", "node 1", "mask_input 2", "mask_output 2", "net 4", "node 4", "net 6", "node 6"]
    assert list(before) == names
    assert before["output error"] == pytest.approx(G.abs().mean().item(), rel=1e-12)
    assert before["net 1"] == before["net 4"] == pytest.approx(1)  # hardtanh in its linear region
    assert before["node 1"] == 1  # what enters the dropout
    assert 0.5 < before["net 6"] < 1


def test_the_scale_of_the_loss_is_in_the_output_error_alone(tmp_path, before):
    now = terms(tmp_path / "now", network(), linear_loss(3.0))
    assert moved(before, now) == {"output error": pytest.approx(3)}


@pytest.mark.parametrize(("layer", "term"), [("7", "node 6"), ("3", "mask_output 2")])
def test_weights_are_in_the_transport_through_them(tmp_path, before, layer, term):
    model = network()
    with torch.no_grad():
        model.get_submodule(layer).weight.mul_(2)
        if layer == "3":  # and its share of what follows is taken back: net values keep their signs, not their sizes
            model[3].bias.mul_(2)
            model[5].bias.mul_(2)
    now = terms(tmp_path / "now", model, linear_loss())
    assert moved(before, now) == {term: pytest.approx(2)}


@pytest.mark.parametrize("at", [1, 4])
def test_the_slope_of_an_activation_is_in_its_own_term(tmp_path, before, at):
    model = network()
    model[at] = nn.PReLU(init=1.0).double()  # linear, and its own half is as well
    unchanged = terms(tmp_path / "same", copy.deepcopy(model), linear_loss())
    assert moved(before, unchanged) == {}

    class Half(nn.PReLU):
        def forward(self, z):
            return super().forward(z) * 0.5

    half = copy.deepcopy(model)
    half[at] = Half(init=1.0).double()
    with torch.no_grad():  # biases that keep the signs of net values that come after it
        for layer in (model[3], model[5]) if at == 1 else (model[5],):
            half[list(model).index(layer)].bias.mul_(0.5)
    now = terms(tmp_path / "now", half, linear_loss())
    assert moved(before, now) == {f"net {at}": pytest.approx(0.5)}


def test_the_mask_is_in_its_own_term(tmp_path, before):
    model = network()
    model[2].p = 0.0
    # the net values behind it are others with other masks, so the leaky ReLU's slope would move as well
    model[6], masked = nn.Hardtanh(-1e3, 1e3), network()
    masked[6] = nn.Hardtanh(-1e3, 1e3)
    with_mask = terms(tmp_path / "masked", masked, linear_loss())
    now = terms(tmp_path / "now", model, linear_loss())
    assert set(moved(with_mask, now)) == {"mask_input 2"}
    assert now["mask_input 2"] == 1
    assert with_mask["mask_input 2"] == pytest.approx(1, abs=0.3)  # half is dropped, and what is kept is doubled
