from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.analysis import net_variance as measured
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError

BORDER = np.arctanh(np.sqrt(0.9))


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight *= 4
    return net


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Runs of two rates and two seeds, and what was measured in each."""
    folder, kept = tmp_path_factory.mktemp("runs"), {}
    x = torch.randn(24, 10, generator=torch.Generator().manual_seed(0))
    for name, p in (("high", 0.5), ("low", 0.1)):
        for seed in (0, 1):
            net = network(seed)
            with dd.Recorder(net, folder / f"{name}{seed}", config={"condition": name, "seed": seed}) as rec:
                rec.net_variance(x, 4, p=0.9)
                net(x).sum().backward()
                rec.step()  # and the last measurement counts
                kept[name, seed] = rec.net_variance(x, 20, p=p)
    return dd.load({"high": str(folder / "high*"), "low": str(folder / "low*")}), kept


def test_the_table_is_the_mean_over_runs_of_the_last_measurement(found):
    runs, kept = found
    frame = measured.table(runs).set_index(["condition", "layer"])
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == ["high", "low"]
    for name in ("high", "low"):
        for layer in ("1", "3", "5"):
            row, parts = frame.loc[(name, layer)], [kept[name, seed][layer] for seed in (0, 1)]
            assert row["seeds"] == 2
            means = [part.variance.mean() for part in parts]
            assert row["net_variance_mean"] == pytest.approx(np.mean(means), rel=1e-12)
            assert row["net_variance_mean_sd"] == pytest.approx(np.std(means, ddof=1), rel=1e-9, abs=1e-15)
            assert row["gradient_probability"] == pytest.approx(np.mean([p.gradient_probability for p in parts]))
    assert np.isnan(frame.loc[("high", "1"), "net_variance_closed_form_mean"])
    assert frame.loc[("high", "1"), "missing"] == 2


def test_spread_holds_the_quantiles_of_all_net_values(found):
    runs, kept = found
    frame = measured.spread(runs, layers=["5"], conditions=["low"])
    values = np.concatenate([kept["low", seed]["5"].variance.ravel() for seed in (0, 1)])
    row = frame.iloc[0]
    assert (len(frame), row["n"]) == (1, values.size)
    for column, q in measured.QUANTILES.items():
        assert row[column] == pytest.approx(np.quantile(values, q), rel=0.05)


def test_masked_net_values_stand_beside_the_saturated_means(found):
    runs, kept = found
    frame = measured.masked_net_values(runs, limits=(-24, 24), bins=240)
    for (name, layer), part in frame.groupby(["condition", "layer"]):
        for border in (-BORDER, BORDER):
            assert np.isclose(part["left"], border, rtol=1e-12).sum() == 1
        width = part["right"] - part["left"]
        centre = (part["right"] + part["left"]) / 2
        assert (part.loc[centre.abs() < BORDER, "means"] == 0).all()
        assert (width * part["means"]).sum() == pytest.approx(1)
        outside = (width * part["masks"])[centre.abs() < BORDER].sum()
        parts = [kept[name, seed][layer] for seed in (0, 1)]
        weights = [p.masked_net_values.n for p in parts]
        expected = np.average([p.gradient_probability for p in parts], weights=weights)
        assert outside == pytest.approx(expected, abs=0.02)


def test_what_was_measured_on_a_model_reads_like_runs(found):
    runs, kept = found
    one = kept["high", 0]
    alone = dd.load(next(run.path for run in runs if (run.condition, run.seed) == ("high", 0)))
    for function in (measured.spread, measured.masked_net_values, measured.areas):
        left, right = function(one), function(dd.load({"model": alone.path}))
        pd.testing.assert_frame_equal(left, right, check_dtype=False, check_categorical=False)
    left, right = measured.table(one), measured.table(dd.load({"model": alone.path}))
    pd.testing.assert_frame_equal(left[right.columns], right, check_dtype=False)
    slopes = measured.slopes(one, (-3, 3), layers=["3"])
    assert set(slopes["layer"]) == {"3"}
    np.testing.assert_allclose(slopes["slope"], 1 - np.tanh(slopes["z"]) ** 2, atol=1e-6)
    pd.testing.assert_frame_equal(slopes, measured.slopes(dd.load({"model": alone.path}), (-3, 3), layers=["3"]))


def test_what_there_is_not(found, tmp_path):
    runs, kept = found
    with pytest.raises(ArgumentError, match="no layer 'x'"):
        measured.table(runs, layers=["x"])
    with pytest.raises(ArgumentError, match="no layer 'x'; there are '1', '3', '5'"):
        measured.table(kept["low", 0], layers=["x"])
    with pytest.raises(ArgumentError, match="no condition 'x'"):
        measured.table(kept["low", 0], conditions=["x"])
    net = network(0)
    with dd.Recorder(net, tmp_path / "run") as rec:
        net(torch.ones(2, 10)).sum().backward()
        rec.step()
    with pytest.raises(NotRecordedError):
        measured.table(dd.load(tmp_path / "run"))


def test_figures_of_runs_and_of_a_model(found):
    runs, kept = found
    figure = dd.plots.net_variance(runs, layers={"3": "Second", "5": "Third"})
    titles = [ax.get_title() for ax in figure.axes]  # each layer's two panels stand one below the other
    assert titles == ["Net variance", "Second", "Third", "", "Second, by distance", "Third, by distance"]
    texts = [text.get_text() for text in figure.axes[2].texts]
    table = measured.table(runs).set_index(["condition", "layer"])
    for text, name in zip(texts, ("high", "low"), strict=True):
        assert text.startswith(f"{100 * table.loc[(name, '5'), 'gradient_probability']:.0f} % leave it")
    dots = [x for line in figure.axes[0].lines if line.get_marker() in ("o", "s") for x in line.get_xdata()]
    assert dots == pytest.approx(
        table.loc[[("high", "3"), ("high", "5"), ("low", "3"), ("low", "5")], "net_variance_mean"].tolist()
    )
    alone = dd.plots.net_variance(kept["high", 0])
    labels = [text.get_text() for text in alone.legends[0].get_texts()]
    assert "the same nodes, mask by mask" in labels
    assert len([ax for ax in alone.axes if ax.get_title()]) == 7


def test_nothing_saturated_is_said():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 4), nn.Tanh())
    with pytest.raises(ArgumentError, match="no net value has its mean in a saturation area"):
        measured.masked_net_values(
            dd.measure.net_variance(nn.Sequential(*net[:4], nn.PReLU()), torch.zeros(2, 4) + 0.1, 4, include="4")
        )


def test_panels_of_layers_have_one_scale_of_probabilities(found):
    figure = dd.plots.net_variance(found[0])
    panels = [ax for ax in figure.axes if ax.get_title().endswith("by distance")]
    assert len({ax.get_ylim() for ax in panels}) == 1
    # no mask reaches the first layer: its zeros, drawn on a scale up to 1, do not press the others down
    drawn = [max(np.nanmax(line.get_ydata(), initial=0.0) for line in ax.lines) for ax in panels]
    assert drawn[0] == 0.0
    assert max(drawn) <= panels[0].get_ylim()[1] < 1.0


def test_a_condition_without_masks_is_not_in_the_legend_and_has_no_row(found, tmp_path):
    net = network(0)
    with dd.Recorder(net, tmp_path / "none", config={"condition": "none", "seed": 0}) as rec:
        net(torch.ones(2, 10)).sum().backward()
        rec.step()
    paths = [run.path for run in found[0]]
    with pytest.warns(DropdiagWarning, match="left out"):
        figure = dd.plots.net_variance(dd.load({"none": tmp_path / "none", "high": paths[:2], "low": paths[2:]}))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["high", "low"]
    assert "none" not in labels
    # the two rows of a layer stand to both sides of its name
    rows = {round(float(y), 6) for line in figure.axes[0].lines if line.get_marker() == "x" for y in line.get_ydata()}
    assert {round(6 * (y % 1)) for y in rows} == {1, 5}


def test_words_about_conditions_stand_close_and_above_the_curves(found):
    from dropdiag.plots.net_variance import masked_densities
    from dropdiag.plots.style import looks

    runs = found[0]
    read = measured.read(runs, layers=["3"], conditions=["high"])
    frames = [
        measured.masked_net_values(read),
        measured.slopes(read, (-3, 3)),
        measured.areas(read),
        measured.table(read),
    ]
    names = [f"c{i}" for i in range(8)]
    many = [pd.concat([frame.assign(condition=name) for name in names]) for frame in frames]
    ax = masked_densities(*many, styles=looks(names))
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 8
    for upper, lower in zip(boxes, boxes[1:], strict=False):
        assert lower.y1 < upper.y0 + 2  # one below the other ...
        assert upper.y0 - lower.y1 < lower.height  # ... without half a panel between them
    curve = ax.transData.transform((0.0, float(frames[1]["slope"].max())))[1]
    assert boxes[-1].y0 > curve


def test_means_of_many_layers_are_lines_on_a_log_axis_where_they_differ_much(found):
    from dropdiag.plots.net_variance import variance

    read = measured.read(found[0], layers=["3"], conditions=["high"])
    spread, numbers = measured.spread(read), measured.table(read)
    for factor, scale in ((1.5, "linear"), (10.0, "log")):
        many = [
            pd.concat([frame.assign(layer=f"l{i}") for i in range(40)], ignore_index=True)
            for frame in (spread, numbers)
        ]
        many[1]["net_variance_mean"] = 2.0 * np.linspace(1.0, factor, 40) ** 3
        ax = variance(*many)
        assert ax.get_xscale() == scale
        np.testing.assert_allclose(ax.lines[0].get_xdata(), many[1]["net_variance_mean"])
        assert ax.get_xlim()[0] <= 2.0


def test_rows_of_conditions_that_would_overlap_are_lines(found):
    from dropdiag.plots.net_variance import variance

    read = measured.read(found[0], layers=["3"], conditions=["high"])
    frames = [
        pd.concat([frame.assign(condition=f"c{c}", layer=f"l{i}") for c in range(8) for i in range(12)])
        for frame in (measured.spread(read), measured.table(read))
    ]
    ax = variance(*(frame.reset_index(drop=True) for frame in frames))
    assert [len(line.get_xdata()) for line in ax.lines if line.get_linestyle() != "None"] == [12] * 8
