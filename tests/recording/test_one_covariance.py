"""Numbers of one correlation matrix are the same whoever makes it, and it is made once."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.probes import chosen_probes
from dropdiag.sketches import covariance

OF_MATRIX = ["effective_rank", "multiple_correlation"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 2))


def evaluated(folder, probes):
    model = network().eval()
    with dd.Recorder(model, folder, probes=probes, strict=True) as rec, rec.evaluation(), torch.no_grad():
        for part in torch.randn(3000, 6, generator=torch.Generator().manual_seed(1)).split(700):
            model(part)
    return dd.load(folder)


def numbers(run):
    frame = run.scalars
    frame = frame[frame["quantity"].isin([*OF_MATRIX, "multiple_correlation_null"])]
    return frame[["layer", "call", "quantity", "value"]].sort_values(["layer", "quantity"], ignore_index=True)


def test_beside_the_node_correlation_they_are_what_they_are_alone(tmp_path):
    alone = [numbers(evaluated(tmp_path / name, [name])) for name in OF_MATRIX]
    together = evaluated(tmp_path / "together", ["node_correlation", *OF_MATRIX])
    expected = pd.concat(alone).sort_values(["layer", "quantity"], ignore_index=True)
    assert len(expected) == 2 * 3
    pd.testing.assert_frame_equal(numbers(together), expected)
    assert together.meta["probes"] == ["node_correlation", *OF_MATRIX]


@pytest.mark.parametrize("probes", ["full", ["node_correlation", *OF_MATRIX]])
def test_each_site_makes_one_matrix(tmp_path, monkeypatch, probes):
    products = covariance._products
    made = []
    monkeypatch.setattr(covariance, "_products", lambda x: made.append(x.shape) or products(x))
    evaluated(tmp_path / "run", probes)
    assert sorted(made) == [(2048, 9), (2048, 20)]


def test_the_order_in_which_they_are_named_does_not_matter(tmp_path):
    first, last = (
        numbers(evaluated(tmp_path / str(k), names))
        for k, names in enumerate((["node_correlation", *OF_MATRIX], [*OF_MATRIX, "node_correlation"]))
    )
    pd.testing.assert_frame_equal(first, last)
    assert np.isfinite(first["value"]).all()


def test_probes_of_a_preset_are_not_changed_by_what_was_chosen_before():
    names = [probe.name for probe in chosen_probes("full")]
    assert names == [probe.name for probe in chosen_probes("full")]
    (alone,) = chosen_probes("effective_rank")
    assert alone.sketch.__func__ is type(alone).sketch
    assert not alone._told_elsewhere
