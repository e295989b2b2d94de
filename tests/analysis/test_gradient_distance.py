"""The gradient probability against how far out a saturated mean lies, beside all net values of all masks, kept."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.analysis import gradient_distance as distance
from dropdiag.analysis import net_variance as measured
from dropdiag.errors import ArgumentError
from dropdiag.histograms.grid import bin_numbers
from dropdiag.histograms.histogram import Histogram

MASKS = 25
BORDER = float(np.arctanh(np.sqrt(0.9)))
AREAS = ((-np.inf, -BORDER), (BORDER, np.inf))


def network(seed: int, act=nn.Tanh) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(10, 48), act(), nn.Dropout(), nn.Linear(48, 32), act(), nn.Dropout(), nn.Linear(32, 2)
    )
    with torch.no_grad():
        for layer in net[::3]:
            layer.weight *= 4
    return net


def train(net: nn.Module, x: torch.Tensor, rec: dd.Recorder) -> None:
    net(x).sum().backward()
    rec.step()


def all_kept(net: nn.Module, x: torch.Tensor, layer: str, masks: int) -> np.ndarray:
    """Net values of every mask: shape (masks, samples * nodes)."""
    kept: list[np.ndarray] = []
    handle = net.get_submodule(layer).register_forward_pre_hook(
        lambda _, args: kept.append(args[0].detach().double().flatten().numpy().copy())
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(masks):
            net(x)
    handle.remove()
    return np.stack(kept)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of two conditions and two seeds, with the net values of each, kept."""
    folder, kept = tmp_path_factory.mktemp("runs"), {}
    x = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    for name, p in (("high", 0.5), ("low", 0.1)):
        for seed in (0, 1):
            net = network(seed)
            for module in net.modules():
                if isinstance(module, nn.Dropout):
                    module.p = p
            with dd.Recorder(net, folder / f"{name}{seed}", config={"condition": name, "seed": seed}) as rec:
                train(net, x, rec)
                found = rec.net_variance(x, MASKS)
                kept[name, seed] = {layer: all_kept(net, x, layer, MASKS) for layer in ("1", "4")}
            assert found["4"].gradient_probability > 0.01
    return dd.load({"high": str(folder / "high*"), "low": str(folder / "low*")}), kept


def slowly(z: np.ndarray, share: float = 0.1) -> float:
    """Gradient probability of the outermost means: whole bins of |mean|, and a part of the last one."""
    mean = z.mean(0)
    saturated = np.abs(mean) >= BORDER
    leaves = (np.abs(z[:, saturated]) < BORDER).mean(0)
    level = bin_numbers(np.abs(mean[saturated]))
    left, total = share * saturated.sum(), 0.0
    for one in sorted(set(level.tolist()), reverse=True):
        inside = leaves[level == one]
        part = min(1.0, left / inside.size)
        total += part * inside.sum()
        left -= part * inside.size
        if left <= 0:
            break
    return total / (share * saturated.sum())


@pytest.mark.parametrize("share", [0.1, 0.37, 1.0])
def test_far_out_it_is_that_of_all_masks_kept(runs, share):
    frame = distance.far_probabilities(runs[0], share=share).set_index(["run", "layer"])
    for run, label in zip(runs[0], runs[0].labels(), strict=True):
        z = runs[1][run.condition, run.seed]["4"]
        found = frame.loc[(label, "4")]
        assert found["far_gradient_probability"] == pytest.approx(slowly(z, share), abs=1e-12)
        if share == 1.0:  # of all saturated means it is the recorded number
            assert found["far_gradient_probability"] == pytest.approx(found["gradient_probability"], abs=1e-12)
    assert (frame.xs("1", level="layer")["far_gradient_probability"] == 0.0).all()  # no mask before it
    assert len(frame) == 8


def test_bin_by_bin_it_is_that_of_all_masks_kept(runs):
    frame = distance.gradient_by_distance(runs[0], bins=7, runs=True)
    seen = 0
    for run, label in zip(runs[0], runs[0].labels(), strict=True):
        z = runs[1][run.condition, run.seed]["4"]
        mean = z.mean(0)
        part = frame[(frame["run"] == label) & (frame["layer"] == "4")]
        for row in part.itertuples():
            size = np.abs(mean.astype(np.float32)).astype(np.float64)
            inside = (np.abs(mean) >= BORDER) & (np.sign(mean) == (-1 if row.side == "left" else 1))
            inside &= (size >= row.low) & (size < row.high)
            assert row.means == inside.sum()
            if row.means:
                expected = (np.abs(z[:, inside]) < BORDER).mean()
                assert row.gradient_probability == pytest.approx(expected, abs=1e-12)
                seen += 1
            else:
                assert np.isnan(row.gradient_probability)
        assert part["means"].sum() == (np.abs(mean) >= BORDER).sum()  # none is left out
        assert set(part["side"]) == {"left", "right"}
    assert seen > 40
    over = distance.gradient_by_distance(runs[0], bins=7)
    key = [*measured.GROUP, "side", "low", "high"]
    expected = frame.groupby(key, sort=False)["gradient_probability"].agg(["mean", "std"]).reset_index()
    both = over.merge(expected, on=key)
    assert len(both) == len(over)
    np.testing.assert_allclose(both["gradient_probability"], both["mean"], atol=1e-15)
    np.testing.assert_allclose(both["gradient_probability_sd"], both["std"], atol=1e-15)
    assert set(over["seeds"]) == {2}
    assert over["means"].sum() == frame["means"].sum()
    # near the border a mask leads out of the area more often than far out
    right = over[(over["layer"] == "4") & (over["condition"] == "high") & (over["side"] == "right")]
    assert right["gradient_probability"].iloc[0] > 2 * right["gradient_probability"].iloc[-1]
    inside = (over["distance"] >= over["low"]) & (over["distance"] <= over["high"])
    assert inside.all()


def test_what_was_measured_on_a_model_reads_like_a_run(runs, tmp_path):
    net, x = network(3), torch.randn(20, 10)
    with dd.Recorder(net, tmp_path / "run", config={"condition": "model"}) as rec:
        train(net, x, rec)
        found = rec.net_variance(x, 8)
    run = dd.load(tmp_path / "run")
    left, right = (distance.gradient_by_distance(one) for one in (found, dd.load({"model": run.path})))
    pd.testing.assert_frame_equal(left, right, check_dtype=False, check_categorical=False)
    left, right = (distance.far_probabilities(one)["far_gradient_probability"] for one in (found, run))
    np.testing.assert_array_equal(left, right)
    layer = found["4"]
    assert layer.gradient_net_means.n == round(layer.gradient_probability * 8 * layer.saturated_net_means.n)
    assert run.histogram("saturated_net_mean", "4", phase="masks") == layer.saturated_net_means


def test_histograms_of_parts_add_up_to_that_of_the_whole():
    net, x = network(0), torch.randn(30, 10)
    whole = dd.measure.net_variance(net, x, 12)["4"]
    # means and masks of one measurement, cut by samples: what two processes would record of theirs
    mean, saturated = whole.mean, whole.saturated
    z = all_kept(net, x, "4", 12).reshape(12, *mean.shape)
    np.testing.assert_allclose(z.mean(0), mean, atol=1e-12)
    leaves = (np.abs(z) < BORDER).sum(0)
    parts = [Histogram.from_values(mean[i][saturated[i]], leaves[i][saturated[i]]) for i in range(len(mean))]
    assert sum(parts) == whole.gradient_net_means


def test_a_function_with_one_side_and_one_that_has_none(tmp_path):
    x = torch.randn(30, 10)
    for act in (nn.ReLU, nn.PReLU):
        found = dd.measure.net_variance(network(0, act), x, 10)
        frame = distance.gradient_by_distance(found)
        far = distance.far_probabilities(found).set_index("layer")["far_gradient_probability"]
        if act is nn.ReLU:
            assert set(frame["side"]) == {"left"}
            assert 0.0 <= far["4"] < found["4"].gradient_probability
        else:
            assert frame.empty
            assert far.isna().all()


def test_a_run_that_was_recorded_before_has_none(runs, tmp_path, monkeypatch):
    from dropdiag.store.net_variance import LayerNetVariance

    full = LayerNetVariance.histograms
    monkeypatch.setattr(LayerNetVariance, "histograms", lambda self: dict(list(full(self).items())[:3]))
    net, x = network(0), torch.randn(20, 10)
    with dd.Recorder(net, tmp_path / "run") as rec:
        train(net, x, rec)
        rec.net_variance(x, 8)
    run = dd.load(tmp_path / "run")
    assert distance.gradient_by_distance(run).empty
    assert distance.far_probabilities(run)["far_gradient_probability"].isna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = dd.plots.net_variance(run)
    assert [ax.get_title() for ax in figure.axes] == ["Net variance", "1", "4"]


def test_far_out_by_hand():
    means = Histogram.from_values([-8.0] * 4 + [8.0] * 6 + [4.0] * 10 + [-2.0] * 80)
    gradient = Histogram.from_values([-8.0, 8.0, 4.0, -2.0], [2, 3, 20, 400])
    far = distance.far_gradient_probability
    assert far(means, gradient, AREAS, 10) == pytest.approx(5 / 100)
    assert far(means, gradient, AREAS, 10, share=0.05) == pytest.approx(5 / 100)
    assert far(means, gradient, AREAS, 10, share=0.15) == pytest.approx((5 + 10) / 150)  # of the next bin, half
    assert far(means, gradient, AREAS, 10, share=1.0) == pytest.approx(425 / 1000)
    assert far(means, Histogram.from_values([]), AREAS, 10) == 0.0
    # means outside of the area are left out
    more = means + Histogram.from_values([0.5] * 1000)
    assert far(more, gradient, AREAS, 10) == pytest.approx(5 / 100)
    # an infinite mean is the farthest, a NaN is nowhere
    assert far(means + Histogram.from_values([np.inf] * 12), gradient, AREAS, 10) == pytest.approx(0.0)
    for unknown in (
        (means, None, AREAS, 10), (means, gradient, (), 10), (means, gradient, AREAS, np.nan),
        (Histogram.from_values([]), Histogram.from_values([]), AREAS, 10),
        (means + Histogram.from_values([np.nan]), gradient, AREAS, 10),
        (Histogram.from_values([0.1]), Histogram.from_values([]), AREAS, 10),
    ):  # fmt: skip
        assert np.isnan(far(*unknown))
    with pytest.raises(ArgumentError, match=r"share= must lie in \(0, 1\], got 0"):
        far(means, gradient, AREAS, 10, share=0)
    with pytest.raises(ArgumentError, match="not of one measurement"):
        far(means, gradient, AREAS, 4)
    with pytest.raises(ArgumentError, match="bins= must be at least 1, got 0"):
        distance.gradient_by_distance(dd.measure.net_variance(network(0), torch.randn(4, 10), 2), bins=0)


def test_a_layer_without_saturated_means_says_so():
    net = network(0)
    with torch.no_grad():
        net[3].weight *= 1e-3
    figure = dd.plots.net_variance(dd.measure.net_variance(net, torch.randn(20, 10), 5), layers=["1", "4"])
    (ax,) = [ax for ax in figure.axes if ax.get_title() == "4, by distance"]
    assert [text.get_text() for text in ax.texts] == ["no mean in the saturation area"]


def test_the_figure_draws_it(runs):
    figure = dd.plots.net_variance(runs[0], layers={"4": "Second"})
    assert [ax.get_title() for ax in figure.axes] == ["Net variance", "Second", "Second, by distance"]
    frame = distance.gradient_by_distance(runs[0], layers=["4"])
    frame = frame[frame["gradient_probability"].notna()]
    points = np.concatenate([
        np.column_stack(line.get_data()) for line in figure.axes[2].lines if line.get_marker() in ("o", "s")
    ])  # fmt: skip
    assert len(points) == len(frame)
    expected = np.column_stack([
        np.where(frame["side"] == "left", -frame["distance"], frame["distance"]), frame["gradient_probability"],
    ])  # fmt: skip
    key = np.lexsort(points.T), np.lexsort(expected.T)
    np.testing.assert_allclose(points[key[0]], expected[key[1]])


def test_no_bin_reaches_over_what_lies_between_two_parts_of_the_area():
    found = dd.measure.net_variance(network(0, nn.GELU), torch.randn(60, 10), 10)
    layer = found["4"]
    ends = sorted(-end for end in np.ravel(layer.left) if np.isfinite(end))  # 0.53 to 1.17, and from 1.73 on
    assert len(ends) == 3
    frame = distance.gradient_by_distance(found, layers=["4"], bins=4)
    held = frame[frame["means"] > 0]
    grain = 1 / 64
    for row in held.itertuples():
        assert row.high <= ends[1] * (1 + grain) or row.low >= ends[2] * (1 - grain)
    assert (held["high"] <= ends[1] * (1 + grain)).any()
    assert (held["low"] >= ends[2] * (1 - grain)).any()
    assert held["means"].sum() == layer.saturated.sum()
