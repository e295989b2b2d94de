"""Models whose own forward is never called: their parts are."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(6, 4), nn.Tanh()

    def forward(self, x):
        return F.relu(self.linear(self.activation(x)))


def test_functions_of_parts_called_one_by_one_are_recorded_or_missed_aloud(tmp_path):
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": Encoder(), "decoder": nn.Linear(4, 6)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", dd.DropdiagWarning)
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
            for _ in range(3):
                x = torch.randn(5, 6)
                F.mse_loss(model["decoder"](model["encoder"](x)), x).backward()
                rec.step()
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean' and layer == 'encoder:relu'")
    aloud = any(
        "functional calls in them are not seen" in str(w.message)
        for w in caught
        if issubclass(w.category, dd.DropdiagWarning)
    )
    assert aloud or flow["step"].tolist() == [1, 2, 3]
    assert flow["value"].notna().all()


def test_calls_are_counted_anew_where_only_the_parts_are_called(tmp_path):
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": Encoder(), "decoder": nn.Linear(4, 6)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dd.DropdiagWarning)  # of the functions: see above
        with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
            for _ in range(3):
                x = torch.randn(5, 6, requires_grad=True)
                F.mse_loss(model["decoder"](model["encoder"](x)), x).backward()
                rec.step()
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean' and layer == 'encoder.activation'")
    assert flow["call"].tolist() == [0, 0, 0]
    assert (flow["value"] > 0).all()
