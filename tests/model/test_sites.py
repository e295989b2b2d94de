import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.model.sites import ACTIVATION, WEIGHT, select, survey
from tests.networks import mlp

NODES = {"unknown": [-1, -1, -1, 1, 1], "linear": [-1] * 5, "convolution": [-1, -1, 1, 1, 1]}


def recorded(model, kind):
    return [s.layer for s in survey(model) if s.kind == kind and s.skipped is None]


def skipped(model):
    return {s.layer: s.skipped for s in survey(model) if s.skipped}


def test_weights_activations_and_what_is_left_out():
    model = mlp()
    assert recorded(model, WEIGHT) == ["0", "3", "6", "9"]
    assert recorded(model, ACTIVATION) == ["1", "4", "7"]
    biases = dict.fromkeys(("0.bias", "3.bias", "6.bias", "9.bias"), "a bias or scale, not a weight matrix")
    assert skipped(model) == biases


def test_weights_of_other_names_go_by_their_parameters():
    assert recorded(nn.LSTM(3, 4), WEIGHT) == ["weight_ih_l0", "weight_hh_l0"]
    assert recorded(nn.Sequential(nn.MultiheadAttention(4, 2)), WEIGHT) == ["0.in_proj_weight", "0.out_proj"]


def test_tied_weights_and_shared_activations_come_once_with_their_aliases():
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "act": nn.ReLU(), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embedding"].weight
    model["again"] = model["act"]
    sites = {s.layer: s for s in survey(model)}
    assert sites["embedding"].aliases == ("head",)
    assert "head" not in sites
    assert sites["act"].aliases == ("again",)


def test_an_activation_inside_gaaf_is_not_a_site_of_its_own():
    model = nn.Sequential(nn.Linear(2, 2), dd.GAAF(nn.Tanh(), shape="gaussian"))
    assert recorded(model, ACTIVATION) == ["1"]
    assert skipped(model)["1.base"] == "inside another activation"


def test_the_model_itself_can_be_a_site():
    assert [s.layer for s in survey(nn.Linear(2, 2, bias=False))] == ["(model)"]


def test_nodes_are_features_tokens_last_and_channels_first():
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4), nn.ReLU())
    unknown, linear, convolution = (s for s in survey(model) if s.kind == ACTIVATION)
    for name, site in {"unknown": unknown, "linear": linear, "convolution": convolution}.items():
        assert [site.node_axis(n) for n in (1, 2, 3, 4, 5)] == NODES[name]


def test_patterns_choose_layers():
    sites = select(survey(mlp()), ["1", "4", "0"], "4")
    assert {s.layer for s in sites if s.skipped is None} == {"0", "1"}
    reasons = {s.layer: s.skipped for s in sites}
    assert (reasons["7"], reasons["4"]) == ("not in include", "in exclude")


def test_registered_activations_are_recorded(tmp_path):
    class Bump(nn.Module):
        def forward(self, x):
            return torch.exp(-x * x)

    model = nn.Sequential(nn.Linear(3, 3), Bump())
    assert recorded(model, ACTIVATION) == []
    dd.register_activation(Bump)
    try:
        assert recorded(model, ACTIVATION) == ["1"]
        with dd.Recorder(model, tmp_path / "run", every=1) as rec:
            model(torch.randn(5, 3)).sum().backward()
            rec.step()
        assert "Bump" in dd.load(tmp_path / "run").meta["activations"]
    finally:
        from dropdiag.model import activations

        del activations._KNOWN[Bump]
    with pytest.raises(dd.DropdiagError, match="takes an nn.Module class or a function of a tensor, got 3"):
        dd.register_activation(3)
