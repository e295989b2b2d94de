"""Between which layers a dropout stands, told by whoever wrote the network."""

import json

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.recording.masks.places import MaskPlaces


class Net(nn.Module):
    """Dropouts between layers: as modules and as functions, before and behind, on the input, in two places."""

    def __init__(self):
        super().__init__()
        self.first, self.drop_input = nn.Linear(8, 6), nn.Dropout(0.05)
        self.conv, self.norm, self.drop = nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Dropout1d(0.2)
        self.mixed, self.twice = nn.Conv1d(4, 4, 3), nn.Dropout(0.3)
        self.fc1, self.fc2, self.left, self.right = nn.Linear(8, 5), nn.Linear(5, 5), nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, x):
        x = self.first(self.drop_input(x))[:, None]
        x = self.mixed(self.drop(F.relu(self.norm(self.conv(x)))))
        x = F.relu(self.fc1(F.dropout(x, 0.4, self.training).flatten(1)))
        x = torch.tanh(self.fc2(self.twice(x)))
        return self.left(self.twice(x).clone()) + self.right(F.dropout(x, 0.1, self.training))


def test_what_a_dropout_is_applied_to_and_what_takes_its_output(tmp_path):
    model = Net()
    dd.interventions.insert(model, "fc2", 0.2)
    with dd.Recorder(model, tmp_path, every=1) as rec:
        for _ in range(2):
            model(torch.randn(4, 8)).sum().backward()
            with torch.no_grad():
                model.fc1.weight.mul_(0.9)
            rec.step()
        model.eval()
        with rec.evaluation():
            model(torch.randn(4, 8))
    layers = json.loads((tmp_path / "run.json").read_text())["layers"]
    assert {row["layer"]: (row["applied_to"], row["feeds"]) for row in layers if row["kind"] == "dropout"} == {
        "drop_input": (None, "first"),
        "drop": ("conv", "mixed"),
        "mixed:dropout": ("mixed", None),  # what fc1 takes is another tensor
        "fc2:dropout": ("fc2", None),
        "twice": (None, None),  # behind fc1 and behind fc2, before fc2 and before a copy
        "fc2:dropout@(model)": ("fc2", "right"),
    }


def with_number(number):
    """Return a tensor with the number of one that is gone."""
    others = []
    for _ in range(1000):
        others.append(torch.ones(2))
        if id(others[-1]) == number:
            return others[-1]
    raise AssertionError("no tensor got that number")


def test_what_no_layer_takes_is_known_where_another_tensor_gets_its_number():
    places, y = MaskPlaces(), torch.ones(2)
    places.gives("twice", y)
    places.used([y], ["fc"])
    places.clear()
    del y
    y = torch.ones(2)
    places.gives("twice", y)  # and is taken by no layer
    number = id(y)
    del y
    z = with_number(number)
    places.gives("other", z)
    places.used([z], ["out"])
    places.clear()
    assert places.of("twice")["feeds"] is None
    assert places.of("other")["feeds"] == "out"
