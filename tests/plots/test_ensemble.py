"""The figure of the ensemble of masks, read back from its artists, beside numpy on what the runs hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from dropdiag.analysis import ensemble as analysis
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.plots.ensemble import ensemble
from dropdiag.plots.layout import MANY
from dropdiag.plots.style import save
from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import ScalarRow
from tests.versions import write_run

OUTPUTS = ("weight_scaled", "geometric", "arithmetic")
RATES = {"Dropout .2": 0.2, "Dropout .5": 0.5}
SEEDS = (0, 1, 2)
SITES = ("zdrop", "drop")


def values(rate: float, seed: int) -> dict[str, float]:
    """Numbers of the network in one run."""
    rng = np.random.default_rng([seed, int(10 * rate)])
    found = {"predictive_entropy": rate + rng.random(), "mutual_information": rate * rng.random()}
    for i, output in enumerate(OUTPUTS):
        found[f"nll_{output}"] = 0.3 + rate * i + 0.01 * rng.random()
        found[f"accuracy_{output}"] = 0.99 - 0.02 * rng.random()
        found[f"calibration_error_{output}"] = 0.02 * rate * (1 + i) + 0.1 * rng.random()
    for i, output in enumerate(OUTPUTS[1:]):
        found[f"ensemble_kl_{output}"] = rate**2 * 30.0**i * (0.01 + 0.001 * rng.random())
        found[f"ensemble_kl_{output}_bias"] = 0.3 * found[f"ensemble_kl_{output}"]
    return found


def regulariser(rate: float, seed: int, layer: str | None) -> float:
    return rate * (1.0 if layer is None else 0.4) + 0.01 * seed - 0.05 * (layer == "drop")


def rows_of(
    rate: float, seed: int, *, targets: bool = True, sites: tuple[str, ...] = SITES, step: int = 20
) -> Iterator[ScalarRow]:
    scored = ("nll", "accuracy", "calibration")
    for quantity, value in values(rate, seed).items():
        if targets or not quantity.startswith(scored):
            yield ScalarRow(step, "ensemble", None, 0, quantity, value)
    for layer in (None, *sites) if targets else ():
        yield ScalarRow(step, "ensemble", layer, 0, "regulariser", regulariser(rate, seed, layer))


def make(folder: Path, rows: dict[str, dict[int, list[ScalarRow]]], order: tuple[str, ...] = SITES) -> Runs:
    for name, seeds in rows.items():
        for seed, scalars in seeds.items():
            write_run(
                folder / f"{name}-{seed}", condition=name, seed=seed, order=[((one, 0),) for one in order],
                scalars=scalars,
            )  # fmt: skip
    return load({name: str(folder / f"{name}-*") for name in rows})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    earlier = {s: list(rows_of(0.9, s, step=10)) for s in SEEDS}  # what was measured last counts
    rows = {name: {s: [*earlier[s], *rows_of(rate, s)] for s in SEEDS} for name, rate in RATES.items()}
    return make(tmp_path_factory.mktemp("runs"), {"No dropout": {0: []}, **rows})


def by_title(figure: Figure) -> dict[str, object]:
    return {ax.get_title(): ax for ax in figure.axes}


def marks(ax) -> dict[str, np.ndarray]:
    """Means of each condition as they are drawn."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def of_runs(quantity: str, rate: float) -> np.ndarray:
    return np.array([values(rate, seed)[quantity] for seed in SEEDS])


def half(x: np.ndarray) -> float:
    return float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)


def segments(ax, x: float) -> np.ndarray:
    """Ends of the interval at one place."""
    every = [one for lines in ax.collections for one in lines.get_segments() if abs(one[0, 0] - x) < 1e-9]
    (found,) = every
    return found[:, 1]


def test_scores_of_weight_scaling_and_both_means_stand_side_by_side(runs: Runs) -> None:
    figure = ensemble(runs)
    panels = by_title(figure)
    assert list(panels) == [
        "NLL", "accuracy", "calibration error", "KL(mean ‖ weight scaling)", "predictive entropy",
        "mutual information", "regulariser: what masks add to the loss",
    ]  # fmt: skip
    for title, score, top in (("NLL", "nll", np.inf), ("accuracy", "accuracy", 1.0)):
        ax = panels[title]
        assert [text.get_text() for text in ax.get_xticklabels()] == [
            "weight\nscaling", "geometric\nmean", "arithmetic\nmean",
        ]  # fmt: skip
        assert set(marks(ax)) == set(RATES)
        for name, rate in RATES.items():
            drawn = marks(ax)[name]
            for place, output in enumerate(OUTPUTS):
                held = of_runs(f"{score}_{output}", rate)
                assert drawn[place, 1] == pytest.approx(held.mean())
                assert round(drawn[place, 0]) == place
                ends = held.mean() + half(held) * np.array([-1, 1])
                np.testing.assert_allclose(segments(ax, drawn[place, 0]), ends.clip(0.0, top))
    (dots,) = [line for line in panels["NLL"].lines if line.get_marker() == "." and line.get_color() == "#D55E00"]
    expected = [of_runs(f"nll_{output}", 0.2) for output in OUTPUTS]
    np.testing.assert_allclose(np.sort(dots.get_ydata()), np.sort(np.concatenate(expected)))


def test_divergences_have_a_log_axis_and_what_few_masks_make_of_them(runs: Runs) -> None:
    figure = ensemble(runs)
    ax = by_title(figure)["KL(mean ‖ weight scaling)"]
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "nats per case"
    hollow = sorted(float(line.get_ydata()[i]) for line in ax.lines for i in range(len(line.get_ydata()))
                    if line.get_markerfacecolor() == "none")  # fmt: skip
    expected = [of_runs(f"ensemble_kl_{of}_bias", rate).mean() for of in OUTPUTS[1:] for rate in RATES.values()]
    np.testing.assert_allclose(hollow, sorted(expected))
    assert ax.get_ylim()[0] < min(hollow)
    for name, rate in RATES.items():
        np.testing.assert_allclose(
            marks(ax)[name][:, 1], [of_runs(f"ensemble_kl_{of}", rate).mean() for of in OUTPUTS[1:]]
        )
    assert [text.get_text() for text in figure.legends[0].texts] == [*RATES, "part of KL due to few masks"]
    entropy = by_title(figure)["predictive entropy"]
    for name, rate in RATES.items():
        assert marks(entropy)[name][0, 1] == pytest.approx(of_runs("predictive_entropy", rate).mean())


def test_the_regulariser_has_a_row_for_all_and_one_for_each_dropout_in_network_order(runs: Runs) -> None:
    ax = ensemble(runs).axes[-1]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["all together", *SITES]
    for name, rate in RATES.items():
        drawn = marks(ax)[name]
        np.testing.assert_array_equal(np.round(drawn[:, 1]), [0, 1, 2])
        for x, layer in zip(drawn[:, 0], (None, *SITES), strict=True):
            assert x == pytest.approx(np.mean([regulariser(rate, seed, layer) for seed in SEEDS]))
    assert ax.get_xlabel().split("\n") == ["loss units", "no ensemble in No dropout"]


def test_without_targets_the_divergence_leads_and_all_masks_have_no_bias(tmp_path: Path) -> None:
    def exact(row: ScalarRow) -> ScalarRow:
        value = {"ensemble_kl_geometric": 0.0}.get(row.quantity, row.value)
        return row._replace(value=0.0 if row.quantity.endswith("_bias") else value)

    rows = {s: [exact(row) for row in rows_of(0.5, s, targets=False)] for s in SEEDS}
    figure = ensemble(make(tmp_path, {"A": rows}))
    assert list(by_title(figure)) == ["KL(mean ‖ weight scaling)", "predictive entropy", "mutual information"]
    ax = figure.axes[0]
    assert ax.get_yscale() == "linear"  # a divergence of 0 is shown
    assert marks(ax)["A"][0, 1] == 0.0
    assert all(line.get_markerfacecolor() != "none" for line in ax.lines if len(line.get_ydata()))
    assert [text.get_text() for text in figure.legends[0].texts] == ["A"]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    whole = {s: list(rows_of(0.5, s)) for s in SEEDS}
    some = {s: [row for row in rows if s or row.quantity != "nll_geometric"] for s, rows in whole.items()}
    none = {s: [row._replace(value=None) if row.layer == "drop" else row for row in rows] for s, rows in whole.items()}
    figure = ensemble(make(tmp_path, {"some": some, "none": none}))
    panels = by_title(figure)
    assert "runs without a value: some 1" in panels["NLL"].get_xlabel()
    assert "without a value" not in panels["accuracy"].get_xlabel()
    (dash,) = figure.axes[-1].texts
    assert (dash.get_text(), round(dash.get_position()[1])) == ("–", 2)
    table = analysis.table(load(str(tmp_path / "some-*")))
    row = table[(table["quantity"] == "nll") & (table["output"] == "geometric")].iloc[0]
    assert (row["seeds"], row["missing"]) == (2, 1)
    assert row["value"] == pytest.approx(of_runs("nll_geometric", 0.5)[1:].mean())


def test_targets_without_classes_leave_the_regulariser_and_say_what_is_lost(tmp_path: Path) -> None:
    rows = [
        row if row.quantity == "regulariser" else row._replace(value=None)
        for row in rows_of(0.5, 0)
        if not row.quantity.startswith(("nll", "accuracy", "calibration"))
    ]
    runs = make(tmp_path, {"A": {0: rows}})
    (ax,) = ensemble(runs).axes
    told = " ".join(ax.get_xlabel().split("\n"))
    assert "without a value in any run, as their warnings say: KL(mean ‖ weight scaling), predictive entropy" in told
    own = Figure().subplots()
    assert ensemble(runs, ax=own) is own.figure
    nothing = [row._replace(value=None) for row in rows]
    with pytest.raises(NotRecordedError, match="all numbers of the ensemble in the phase 'ensemble' are missing"):
        ensemble(make(tmp_path / "nothing", {"A": {0: nothing}}))


def test_where_nothing_was_measured_it_is_refused(runs: Runs) -> None:
    with pytest.raises(NotRecordedError, match=r"no run of 'No dropout' holds an ensemble in the phase 'ensemble'"):
        ensemble(runs, conditions=["No dropout"])
    with pytest.raises(NotRecordedError, match="in the phase 'late'"):
        ensemble(runs, phase="late")
    with pytest.raises(ArgumentError, match="no condition 'Dropout 2'"):
        ensemble(runs, conditions=["Dropout 2"])
    with pytest.raises(ArgumentError, match="ax holds one panel, and this figure has 7: draw one with by_output"):
        ensemble(runs, ax=Figure().subplots())


def test_many_dropouts_are_lines_over_them(tmp_path: Path) -> None:
    sites = tuple(f"block{i}.drop" for i in range(MANY + 8))
    figure = ensemble(make(tmp_path, {"A": {0: list(rows_of(0.5, 0, sites=sites))}}, sites))
    assert figure.get_figheight() < 12.0
    expected = [regulariser(0.5, 0, layer) for layer in (None, *sites)]
    np.testing.assert_allclose(marks(figure.axes[-1])["A"], np.c_[expected, range(MANY + 9)])


def test_words_stay_inside_and_apart(runs: Runs, tmp_path: Path) -> None:
    figure = ensemble(runs)
    figure.draw_without_rendering()
    words = [one for ax in figure.axes for one in (ax.title, ax.xaxis.label, ax.yaxis.label) if one.get_text()]
    for ax in figure.axes:
        ticks = [(text, ax.get_xlim(), text.get_position()[0]) for text in ax.get_xticklabels()]
        ticks += [(text, ax.get_ylim(), text.get_position()[1]) for text in ax.get_yticklabels()]
        words += [text for text, ends, at in ticks if text.get_text() and min(ends) <= at <= max(ends)]
    words += figure.legends[0].get_texts()
    boxes = [text.get_window_extent() for text in words]
    for i, box in enumerate(boxes):
        assert figure.bbox.padded(1.0).containsx(box.x0), words[i]
        assert figure.bbox.padded(1.0).containsx(box.x1), words[i]
        assert not any(box.padded(-1.0).overlaps(other.padded(-1.0)) for other in boxes[i + 1 :]), words[i]
    assert all(file.stat().st_size > 5000 for file in save(figure, tmp_path / "ensemble"))
