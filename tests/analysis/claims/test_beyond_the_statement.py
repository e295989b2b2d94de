"""Claims of the paper's text that are parts of others: who trained more, and what masks do, on recorded trainings."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import dropdiag as dd
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter

MEASURED = {}
"""Run -> what `Recorder.net_variance` returned."""


def train(path, p, seed, *, faster=3, masks=True):
    """Train a small network; its layers learn the faster the higher they are."""
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Dropout(p), nn.Linear(16, 16), nn.Tanh()) for _ in range(3)]
    model = nn.Sequential(*layers, nn.Linear(16, 4))
    for layer in layers:
        nn.init.normal_(layer[1].weight, std=0.5)
    groups = [{"params": layer.parameters(), "lr": 0.05 * faster**i} for i, layer in enumerate(layers)]
    optimiser = torch.optim.SGD(groups, lr=0.1)
    weights, measured = {}, MEASURED
    with dd.Recorder(model, path, config={"condition": f"p={p}", "seed": seed}) as recorder:
        before = [layer[1].weight.detach().numpy().copy() for layer in layers]
        for _ in range(8):
            optimiser.zero_grad()
            x = torch.randn(64, 16)
            nn.functional.cross_entropy(3.0 * model(x), (x[:, 0] > 0).long()).backward()
            optimiser.step()
            recorder.step()
        if masks and p:
            measured[path.name] = recorder.net_variance(torch.randn(32, 16), masks=24)
    for i, layer in enumerate(layers):
        weights[f"{i}.1"] = before[i], layer[1].weight.detach().numpy()
    return weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    weights = {(p, seed): train(folder / f"{p}-{seed}", p, seed) for p in (0.0, 0.5) for seed in range(3)}
    return folder, weights


@pytest.fixture(scope="module")
def compared(trained):
    folder, _ = trained
    return dd.compare([str(folder / "*")], on_unreadable="ignore")


def test_how_far_weights_have_come_is_that_of_the_weights_themselves(trained, compared):
    _, weights = trained
    measured = compared.measured[compared.measured["measure"] == "weight_w1_from_start"]
    assert len(measured) == 6 * 4  # the biases begin at a spread of their own; the last layer is there too
    for (p, seed), layers in weights.items():
        for name, (before, now) in layers.items():
            row = measured[(measured["run"] == f"{p}-{seed}") & (measured["layer"] == name)]
            expected = stats.wasserstein_distance(before.ravel(), now.ravel()) / before.std()
            assert row["value"].item() == pytest.approx(expected, rel=0.02, abs=2e-3)  # bins are 1 % wide


def test_the_top_layer_is_trained_more_in_both_networks(compared):
    part = compared.claims(claims="a").parts.set_index("part").loc["top layer trained more"]
    measured = compared.measured[compared.measured["measure"] == "weight_w1_from_start"]
    slopes = {}
    for run, rows in measured.groupby("run"):
        values = rows.set_index("layer")["value"]
        slopes[run] = np.polyfit(np.arange(4), [values[name] for name in ("0.1", "1.1", "2.1", "3")], 1)[0]
    means = [np.mean([slope for run, slope in slopes.items() if run.startswith(p)]) for p in ("0.0", "0.5")]
    assert part["effect"] == pytest.approx(min(means))
    assert "least in 'p=0." in part["reason"]


def test_what_comes_to_higher_layers_is_more_than_their_own_masks_give(compared):
    claims = compared.claims(claims="d", dropout="p=0.5").parts.set_index("part")
    part = claims.loc["variance transferred upward"]
    scalars = compared.measured[compared.measured["measure"] == "excess_net_variance"]
    assert set(scalars["condition"]) == {"p=0.5"}
    above = scalars[scalars["layer"] != "0.2"].groupby("run")["value"].mean()
    assert part["effect"] == pytest.approx(above.mean())
    assert part["effect"] > 0.0
    interval = stats.ttest_1samp(above, 0.0).confidence_interval(0.95)
    assert (part["low"], part["high"]) == pytest.approx(tuple(interval))
    assert (part["n"], part["n_baseline"]) == (3, 0)


def test_the_gradient_far_out_is_that_of_the_outermost_tenth_of_the_means(compared):
    part = compared.claims(claims="d").parts.set_index("part").loc["no gradient far out"]
    rows = compared.measured[compared.measured["measure"] == "far_gradient_probability"]
    assert len(rows) == 3 * 3
    for row in rows.itertuples():
        layer = MEASURED[row.run][row.layer]
        size = np.sort(np.abs(layer.mean[layer.saturated]))
        counts, with_gradient = (h.counts.sum() for h in (layer.saturated_net_means, layer.gradient_net_means))
        assert counts == size.size
        # no more than all of the gradient can be far out, and none of it more than the masks
        assert 0.0 <= row.value <= min(1.0, with_gradient / (24 * 0.1 * size.size) + 1e-9)
    whole = rows.groupby("run")["value"].mean()
    assert part["effect"] == pytest.approx(whole.mean())
    assert part["threshold"] == 0.05
    expected = "supported" if part["high"] < 0.05 else "contradicted" if part["low"] > 0.05 else "undecided"
    assert part["verdict"] in (expected, "undecided")


def test_what_fits_record_of_net_variance_takes_nothing_from_what_is_asked(tmp_path):
    """GAAF that is fitted in training records net variance in a phase of its own, beside that of the masks."""
    sites = [{"layer": f"phi{i}", "call": 0, "kind": "activation", "type": "Tanh", "activation": "Tanh", "shape": []} for i in range(2)]  # fmt: skip
    paths = {"No dropout": [], "Fitted": []}
    for condition, those in paths.items():
        for seed in range(2):
            those.append(tmp_path / f"{condition}-{seed}")
            writer = RunWriter(those[-1], {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": sites,
                                           "order": [[[site["layer"], 0]] for site in sites], "activations": {}})  # fmt: skip
            for phase, measured in (("fit", 9.0), ("masks", 2.0 + 0.1 * seed)):
                if phase == "masks" or condition == "Fitted":
                    writer.add_scalars([ScalarRow(1, phase, site["layer"], 0, name, value) for site in sites
                                        for name, value in (("net_variance_mean", measured), ("net_variance_closed_form_mean", 1.5))])  # fmt: skip
            writer.close("completed")
    found = dd.compare(paths, on_unreadable="ignore")
    assert not any("phase" in problem for problem in found.problems)
    measured = found.measured[found.measured["measure"] == "excess_net_variance"]
    assert sorted(measured["value"].round(9)) == [0.5] * 4 + [0.6] * 4
    effect = found.table[found.table["measure"] == "net_variance_mean"]["effect"]
    assert effect.tolist() == [0.0, 0.0]
