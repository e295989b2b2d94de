"""A figure opens a run's file of histograms once, whatever it draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag import plots
from dropdiag.store.reader import load
from tests.openings import openings
from tests.synthetic import content, write


def opened(folder, draw) -> int:
    """Openings of the run's file of histograms while a figure is drawn from runs that were just loaded."""
    draw(load(folder))  # what is imported at the first drawing opens nothing here
    with openings(folder) as counted:
        draw(load(folder))
    return max(times for name, times in counted.items() if "histograms" in name)


@pytest.mark.parametrize("name", ["weights", "correlation", "saturation"])
def test_a_figure_opens_the_histograms_once(tmp_path, name: str) -> None:
    folder = write(tmp_path / "run", content("Dropout", 0), "Dropout", 0)
    assert opened(folder, getattr(plots, name)) == 1


def test_the_net_variance_opens_the_histograms_once(tmp_path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Dropout(), nn.Linear(32, 16), nn.Tanh())
    with dd.Recorder(net, tmp_path / "run", config={"condition": "Dropout"}) as rec:
        x = 9 * torch.randn(24, 10)
        net(x).sum().backward()
        rec.step()
        rec.net_variance(x, 20)
    assert opened(tmp_path / "run", plots.net_variance) == 1


@pytest.mark.parametrize("draw", [plots.gradient_flow, plots.learning, lambda runs: plots.scalar(runs, "loss")])
def test_curves_open_no_histograms(tmp_path, draw) -> None:
    folder = write(tmp_path / "run", content("Dropout", 0), "Dropout", 0)
    with openings(folder) as counted:
        draw(load(folder))
    assert not any("histograms" in name for name in counted)
