from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.gaaf import GAAF, replace


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)), nn.Linear(8, 2)
    )


def test_there_and_back():
    net, x = model(), torch.randn(4, 6)
    before, parameters = net(x), [id(p) for p in net.parameters()]
    old = net[1]
    done = replace(net, {nn.Tanh: GAAF("tanh")})
    assert [swap.name for swap in done.swaps] == ["1"]
    assert isinstance(net[1], GAAF)
    assert isinstance(net[2][1], nn.ReLU)
    assert [id(p) for p in net.parameters()] == parameters
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-3)
    done.restore()
    done.restore()
    assert net[1] is old
    assert torch.equal(net(x), before)


def test_every_known_activation_by_default_with_its_own_settings():
    kinds = [
        nn.Tanh(),
        nn.Sigmoid(),
        nn.ReLU(inplace=True),
        nn.LeakyReLU(0.2),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.Hardtanh(-2, 2),
    ]
    net = nn.ModuleList(kinds)
    x = torch.linspace(-4, 4, 33)
    before = [kind(x.clone()) for kind in kinds]
    with replace(net) as done:
        assert list(done.modules) == [str(i) for i in range(7)]
        for i, value in enumerate(before):
            assert isinstance(net[i], GAAF)
            torch.testing.assert_close(net[i](x), value, rtol=0, atol=6e-5)
        assert net[3].base.negative_slope == 0.2
    assert list(net) == kinds


def test_each_place_has_its_own_and_a_shared_module_one():
    shared = nn.Tanh()
    net = nn.Sequential(shared, nn.Linear(3, 3), shared, nn.Tanh())
    given = GAAF("tanh", height=0.5)
    done = replace(net, {nn.Tanh: given})
    assert net[0] is net[2] is not net[3]
    assert given not in set(net.modules())
    assert net[3].height == 0.5
    assert [swap.name for swap in done.swaps] == ["0", "2", "3"]
    done.restore()
    assert net[0] is net[2] is shared


def test_the_mode_is_kept_and_state_dicts_fit():
    net = model().eval()
    state = copy.deepcopy(net.state_dict())
    replace(net)
    assert not net[1].training
    net.load_state_dict(state)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = self.b = nn.Tanh()

    def forward(self, x):
        return self.b(self.a(x))


def test_a_module_under_two_names_in_one_parent():
    net = Twice()
    done = replace(net)
    assert isinstance(net.a, GAAF)
    assert net.a is net.b
    done.restore()
    assert isinstance(net.a, nn.Tanh)
    assert net.a is net.b


def test_what_cannot_be_replaced_leaves_the_model_alone(tmp_path):
    net = model()
    before = [id(module) for module in net.modules()]
    for mapping, message in (
        ({nn.Sigmoid: GAAF("sigmoid")}, "the model has no module of Sigmoid"),
        ({nn.Tanh: GAAF("relu")}, "1 is Tanh(), but the GAAF for it is over another function"),
        ({nn.Tanh: lambda old: old}, "1 must be replaced by a GAAF, got Tanh"),
        ({nn.Tanh: GAAF("tanh"), nn.ReLU: GAAF("leaky_relu")}, "2.1 is ReLU(inplace=True), but"),
    ):
        with pytest.raises(ArgumentError) as caught:
            replace(net, mapping)
        assert message in str(caught.value)
        assert [id(module) for module in net.modules()] == before
    with pytest.raises(ArgumentError, match="the model itself is one"):
        replace(nn.Tanh())
    with dd.Recorder(net, tmp_path / "run"):
        with pytest.raises(ArgumentError, match="1 has hooks, which would be lost"):
            replace(net)


def test_what_was_exchanged_since_is_not_restored():
    net = model()
    done = replace(net)
    net[1] = nn.Identity()
    with pytest.raises(ArgumentError, match="1 is no longer the GAAF that was put there, but Identity"):
        done.restore()
    assert isinstance(net[2][1], GAAF)


def test_replaced_fitted_and_trained(tmp_path):
    net = model()
    with torch.no_grad():
        net[2][0].weight *= 6
    x, y = torch.randn(64, 6), torch.arange(64) % 2
    replace(net)
    assert dd.gaaf.fit(net, x, 0.5, masks=16)[1].height > 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with dd.Recorder(net, tmp_path / "run", every=1, strict=True) as rec:
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        rec.step(loss=loss)
    run = dd.load(tmp_path / "run")
    assert set(run.meta["activations"]) == {
        net[1].__class__.__name__ + f"({net[1].extra_repr()})",
        f"GAAF({net[2][1].extra_repr()})",
    }


def test_other_activations_are_named_and_gaafs_are_not_entered():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU6())
    with pytest.raises(ArgumentError, match="it has ReLU6: name their classes"):
        replace(net)
    inner = nn.Sequential(nn.Linear(2, 2), GAAF(nn.Sequential(nn.ReLU()), shape="shifted_sigmoid"), nn.Tanh())
    assert [place.name for place in replace(inner).swaps] == ["2"]
    assert inner[2](input=torch.zeros(1)).item() == pytest.approx(0, abs=1e-4)
