"""The page's numbers are those of the runs, computed here another way."""

# ruff: noqa: PD011 - a Series of the report has values, and is none of pandas

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag import analysis
from dropdiag.analysis import correlation
from dropdiag.analysis import gradient_flow as flow
from dropdiag.analysis.claims.claims import LAYERS, PARTS, TABLE, Claims
from dropdiag.analysis.claims.roles import Roles
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.report import data, series
from dropdiag.report.binary import Blob, read
from dropdiag.report.cache import RunCache, state
from dropdiag.report.data import gather
from dropdiag.report.diagnostics import measures_of
from dropdiag.report.distributions import Distributions, Measures
from dropdiag.report.series import Scalars, Track
from dropdiag.report.verdicts import verdicts
from dropdiag.store.reader import load
from tests.openings import openings
from tests.report.folders import own, transformer
from tests.report.stand_in import comparison
from tests.synthetic import content, write, write_runs
from tests.versions import DROPOUTS, drop_run, write_run


def densities(runs, quantity, measures=None, **options):
    return Distributions(runs, lambda _: Measures(measures or {}), **options).of(quantity)


def tables(content):
    return {one.section.name: one.table for one in content.diagnostics}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return transformer(tmp_path_factory.mktemp("deep"), layers=3, steps=12, seeds=3, size=400)


def test_a_density_is_numpys_histogram_averaged_over_seeds(deep):
    made = densities(deep, "net_value", bins=40)
    assert made.sites == [(f"encoder.layers.{i}.mlp.act", 0) for i in range(3)]
    assert made.steps == [list(range(1, 13))] * 3
    site, step, c = 1, 7, 1
    runs = [run for run in deep if run.condition == "Dropout"]
    grid = np.linspace(*made.edges[site], 41)
    each = []
    for run in runs:
        low, high, counts = run.histogram("net_value", "encoder.layers.1.mlp.act", step=step).bounds()
        # spread each recorded bin's values over it, and count with numpy
        values = np.concatenate([np.linspace(a, b, 202)[1:-1] for a, b in zip(low, high, strict=True)])
        weights = np.repeat(counts / 200.0, 200)
        each.append(np.histogram(values, grid, weights=weights)[0] / (np.diff(grid) * counts.sum()))
    row = 12 * c + step - 1
    assert made.n[site, row] == 3
    assert np.allclose(made.mean[site, row], np.mean(each, axis=0), rtol=0.02, atol=2e-3)
    assert np.allclose(made.sd[site, row], np.std(each, axis=0, ddof=1), rtol=0.05, atol=2e-3)


def test_packing_costs_less_than_a_line_s_width(deep):
    made, blob = densities(deep, "weight"), Blob()
    packed = made.packed(blob)
    text = blob.text()
    mean = (
        read(text, packed["mean"]).reshape(made.mean.shape)
        / 65_535
        * read(text, packed["peak"]).reshape(made.mean.shape[:2])[..., None]
    )
    sd = (
        read(text, packed["sd"]).reshape(made.sd.shape)
        / 255
        * read(text, packed["most"]).reshape(made.sd.shape[:2])[..., None]
    )
    peak = made.mean.max(axis=-1, keepdims=True)
    assert np.abs((mean - made.mean) / peak).max() < 1e-4
    assert np.abs((sd - made.sd) / made.sd.max(axis=-1, keepdims=True)).max() < 1 / 255


def test_each_run_is_kept_at_its_last_step(deep):
    made = densities(deep, "weight")
    assert made.last_steps == [12] * 9
    own = deep[4].histogram("weight", "encoder.layers.2.mlp.fc")
    assert np.allclose(made.last[2, 4], own.density(np.linspace(*made.edges[2], 73)))


def test_too_many_steps_are_thinned_evenly_and_counted(deep):
    made = densities(deep, "weight", cells=3 * 72 * 3 * 4)
    assert made.steps == [[1, 5, 8, 12]] * 3
    assert made.left_out == 8


def test_runs_that_record_at_other_steps_keep_their_own(tmp_path):
    a = load([write(tmp_path / "a", content("Dropout", 0, steps=20), "Dropout", 0)])
    b = load([write(tmp_path / "b", content("No dropout", 0, steps=30), "No dropout", 0)])
    made = densities(type(a)([*a, *b]), "weight")
    assert made.steps == [[20], [30]]
    assert made.n.tolist() == [[1, 1]] * 3
    assert np.isnan(made.sd).all()


def test_measures_are_taken_of_each_run_and_step(deep):
    made = densities(deep, "weight", {"sd": lambda h: h.std()})
    found = made.measures["sd"]
    assert found.values.shape == (3, 9, 12)
    run = deep[5]
    alone = run.histogram("weight", "encoder.layers.1.mlp.fc", step=4)
    assert found.values[1, 5, 3] == pytest.approx(alone.std(), rel=1e-12)


def test_gradient_flow_agrees_with_the_curves_of_the_analysis(deep):
    made = Scalars(deep, deep[0].quantities).tracks["net_grad_abs_mean", "train"].series()
    curves = flow.curves(deep, bins=series.BINS)
    want = curves[(curves["condition"] == "GAAF") & (curves["layer"] == "encoder.layers.1.mlp.act")]["value"]
    members = [i for i, run in enumerate(deep) if run.condition == "GAAF"]
    assert np.allclose(np.exp(np.log(made.values[1, members]).mean(axis=0)), want)


def test_the_saturation_share_is_left_and_right_together(deep):
    measures = gather(deep[:1]).figures["sections"]["net_values"]["measures"]
    made = Scalars(deep, deep[0].quantities)
    left, right = (made.common(f"saturation_share_{side}") for side in ("left", "right"))
    rows = deep[0].select(
        ["saturation_share_left", "saturation_share_right"], layer="encoder.layers.0.mlp.act", steps=5
    )
    assert measures["saturation share"]["phase"] == "train"
    assert (left.series() + right.series()).values[0, 0, 4] == pytest.approx(rows["value"].sum())
    last = deep[0].select(
        ["saturation_share_left", "saturation_share_right"], layer="encoder.layers.0.mlp.act", steps=12
    )
    assert left.last[0, 0] + right.last[0, 0] == pytest.approx(last["value"].sum())


def test_layers_restrict_figures_and_tables(deep):
    made = gather(deep[:3], layers=["encoder.layers.1.mlp.act"])
    sections = made.figures["sections"]
    assert sections["net_values"]["density"]["sites"] == [["encoder.layers.1.mlp.act", 0]]
    assert "weights" not in sections
    assert {row[1].shown for row in tables(made)["gradient_flow"].rows} == {"encoder.layers.1.mlp.act"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "encoder"}, r"layers must be a list of names, got the string 'encoder'"),
        ({"layers": ["nowhere"]}, "no layer 'nowhere'; there are 'encoder.layers.0.mlp.act', '"),
        ({"layers": []}, "layers is empty; leave it out for all of 'encoder"),
        ({"baseline": "Base"}, "no condition 'Base'; there are 'No dropout'"),
    ],
)
def test_options_that_cannot_be_met_are_named(deep, options, message):
    with pytest.raises(ArgumentError, match=message):
        gather(deep[:3], **options)


def test_a_comparison_keeps_its_own_baseline(deep):
    made = comparison(deep, baseline="Dropout")
    assert gather(made).baseline == "Dropout"
    with pytest.raises(ArgumentError, match=r"baseline is 'Dropout', got baseline='GAAF'; compare\(\) anew"):
        gather(made, baseline="GAAF")


def test_anything_else_is_refused():
    with pytest.raises(ArgumentError, match=r"takes runs as dropdiag.load\(\) returns them, or a Comparison, got str"):
        gather("runs/*")


def test_one_condition_needs_no_comparison(deep):
    made = gather(deep[:3])
    assert made.uncompared == "All runs are of one condition: there is nothing to compare."
    assert made.verdicts == []
    assert made.figures["effects"] is None


def test_what_was_not_recorded_is_named_with_its_reason(deep):
    made = gather(deep[:3])
    assert [line for line in made.absent if line.startswith("Node correlation: no run holds 'node_correlation'")]


def test_a_quantity_of_no_wanted_layer_is_not_recorded(deep):
    with pytest.raises(NotRecordedError, match="no layer that was asked for holds 'weight'"):
        densities(deep, "weight", keep=lambda _: False)


def test_problems_of_a_comparison_and_of_runs_stand_in_the_page(tmp_path):
    runs = write_runs(tmp_path, seeds=(0, 1), steps=20)
    made = gather(comparison(runs, problems=("runs/torn cannot be read: it is cut off",)), problems=["another"])
    assert made.problems[:2] == ["another", "runs/torn cannot be read: it is cut off"]
    unseeded = load({"A": write(tmp_path / "x", content("A", 0, steps=10), "A", None)})
    assert any("No seed in the config of x" in line for line in gather(unseeded).problems)


def test_claims_that_cannot_be_judged_are_a_problem(deep):
    class Unjudged(type(comparison(deep))):
        def claims(self, **_options):
            raise NotRecordedError("no claim applies")

    made = comparison(deep)
    found = gather(Unjudged(made.runs, made.baseline, made.conditions, made.table))
    assert "The claims could not be judged: no claim applies" in found.problems
    assert found.cards


def test_headlines_say_the_geometric_mean_and_its_range(runs):
    made = {(one.condition, one.measure): one for card in gather(comparison(runs)).cards for one in card.lines}
    ratios = flow.table(runs, conditions=["Dropout"])["ratio"]
    one = made["Dropout", "gradient flow"]
    assert float(one.effect.split()[0].removeprefix("×")) == pytest.approx(np.exp(np.log(ratios).mean()), rel=5e-3)
    assert one.detail.startswith("geometric mean over 3 layers, from ×")
    assert one.detail.endswith("3 of 3 intervals lie wholly on one side of no effect; n = 3 and 3")


def test_the_table_of_the_gradient_flow_has_the_numbers_of_the_comparison(runs):
    made = comparison(runs)
    table = tables(gather(made))["gradient_flow"]
    rows = made.table[made.table["measure"] == "gradient_flow"]
    assert [float(row[2].value) for row in table.rows] == rows["value"].tolist()
    assert [float(row[4].value) for row in table.rows] == pytest.approx(np.exp(rows["effect"]).tolist())
    assert table.note == "Over all recorded training steps."


def test_options_of_claims_are_passed_on_and_unknown_ones_refused(runs):
    taken = {}

    class Asked(type(comparison(runs))):
        def claims(self, **options):
            taken.update(options)
            return super().claims()

    made = comparison(runs)
    gather(Asked(made.runs, made.baseline, made.conditions, made.table), claims={"gaaf": "GAAF"})
    assert taken == {"gaaf": "GAAF"}
    with pytest.raises(ArgumentError, match="claims have no option 'gaff'; there are claims, dropout, gaaf, scalar"):
        gather(made, claims={"gaff": "GAAF"})


def test_a_claim_that_no_condition_plays_has_no_condition():
    rows = [("c", "More.", "Dropout", "Base", "supported", True, "It is -0.5.", "", 3), ("e", "Alike.", "", np.nan, "undecided", False, "None.", "", 0)]  # fmt: skip
    part = {"claim": "c", "condition": "Dropout", "baseline": "Base", "part": "more", "measure": "gradient_flow", "scale": "log ratio", "verdict": "supported",
            "effect": np.log(2.0), "low": 0.0, "high": np.log(4.0), "p_attainable": 0.25, "threshold": 0.0, "provisional": True, "counts": True,
            "test": "sign flip", "n": 3, "n_baseline": 3}  # fmt: skip
    layer = {**part, "layer": "fc1", "call": 0, "p_holm": 0.75, "joint_low": np.log(0.5), "joint_high": np.log(8.0)}
    frames = [pd.DataFrame(some, columns=columns) for some, columns in (([dict(zip(TABLE, row, strict=True)) for row in rows], TABLE),
                                                                        ([part], PARTS), ([layer], LAYERS))]  # fmt: skip
    first, second = verdicts(Claims(*frames, {"c": "Rule.", "e": "Rule."}, Roles(None, (), ()), 0.05, ""))
    assert (second.condition, second.baseline) == ("", "")
    assert (first.reason, first.provisional, first.tested) == ("It is −0.5.", True, True)
    assert (second.provisional, second.tested) == (False, False)
    shown = [[cell.shown for cell in row] for row in first.layers.rows]
    assert [row[0] for row in shown] == ["more, mean over layers", "fc1"]
    assert [row[2] for row in shown] == ["×2 [1, 4]"] * 2
    assert [row[3] for row in shown] == ["–", "[0.5, 8]"]
    assert shown[1][6] == "0.75"


def numbers(table, column):
    at = list(table.heads).index(column)
    return [float(row[at].value) for row in table.rows]


def test_tables_have_the_numbers_of_the_analysis(runs):
    made = tables(gather(comparison(runs)))
    weights, saturated, correlated = (
        analysis.weights.table(runs),
        analysis.saturation.table(runs),
        correlation.table(runs),
    )
    for head, column in (("Mean", "mean"), ("Standard deviation", "sd"), ("Excess kurtosis", "excess_kurtosis"),
                         ("Peak density", "peak_density"), ("Seeds", "seeds"), ("Weights", "weights")):  # fmt: skip
        assert numbers(made["weights"], head) == pytest.approx(weights[column].tolist(), rel=1e-12)
    for head, column in (("Share", "share"), ("Left", "left"), ("Right", "right"), ("Seeds", "seeds")):
        assert numbers(made["net_values"], head) == pytest.approx(saturated[column].tolist(), rel=1e-12)
    for head, column in (("Mean |r|", "mean_abs_r"), ("By chance", "null_mean_abs_r"), ("sd of r", "sd_r"),
                         ("Samples", "samples"), ("Nodes", "nodes"), ("Constant nodes", "constant_nodes")):  # fmt: skip
        assert numbers(made["node_correlation"], head) == pytest.approx(correlated[column].round(12).tolist(), rel=1e-9)
    where = [(row[0].shown, row[1].shown) for row in made["weights"].rows]
    assert where == list(weights[["condition", "layer"]].itertuples(index=False, name=None))


def test_a_users_own_quantities_are_shown(tmp_path):
    runs = own(tmp_path)
    made = gather(runs)
    sections = made.figures["sections"]
    curvature = sections["other_scalars"]["measures"]["curvature of φ"]
    assert (curvature["unit"], curvature["log"], curvature["sites"]) == (
        "1/net-value unit",
        True,
        [["fc1", 0], ["fc2", 0]],
    )
    table = tables(made)["other_scalars"]
    assert list(table.heads) == ["Measure", "Unit", "Phase", "Condition", "Layer", "Last value", "Seeds"]
    assert [row[4].shown for row in table.rows] == ["fc1", "fc2"] * 2
    last = runs[0].select("curvature", layer="fc2", steps=5)["value"].iloc[0]
    other = runs[1].select("curvature", layer="fc2", steps=5)["value"].iloc[0]
    assert numbers(table, "Last value")[1] == pytest.approx((last + other) / 2)
    density = sections["distribution-own-values"]["density"]
    assert (density["quantity"], density["label"], density["steps"]) == ("own values", "value |v|", [[1, 5], [1, 5]])
    shown = tables(made)["distribution-own-values"]
    expected = np.mean([run.histogram("own values", "fc1").mean() for run in runs[:2]])
    assert numbers(shown, "Mean")[0] == pytest.approx(expected)
    titles = [one.section.title for one in made.diagnostics]
    assert titles == ["Learning curves", "Value |v|", "Other measures of layers"]


def test_a_reports_histograms_are_opened_twice_and_of_a_small_one_once(tmp_path):
    runs = write_runs(tmp_path, seeds=(0, 1), steps=20)
    for room, most in ((0, 2), (200_000_000, 1)):
        with openings(tmp_path) as opened:
            Distributions(runs, measures_of, room=room)
        files = {name: times for name, times in opened.items() if "histograms" in name}
        assert len(files) == len(runs)
        assert set(files.values()) == {most}


def test_a_whole_report_opens_each_file_of_numbers_once_its_comparison_included(tmp_path):
    runs = write_runs(tmp_path, ["No dropout", "Dropout"], seeds=(0, 1), steps=20)
    with openings(tmp_path) as opened:
        dd.report(runs, tmp_path / "report.html")
    for table in ("histograms", "scalars"):
        assert [number for name, number in opened.items() if table in name] == [1] * len(runs)


@pytest.mark.parametrize("table", ["histograms", "scalars"])
def test_what_could_not_be_read_to_compare_is_named_in_the_page(tmp_path, table):
    runs = write_runs(tmp_path, ["No dropout", "Dropout"], seeds=(0, 1), steps=20)
    segment = next(runs[0].path.glob(f"rank-0/{table}-*.parquet"))
    segment.write_bytes(segment.read_bytes()[:100])
    assert any(str(segment) in problem for problem in gather(runs).problems)


def test_what_was_kept_and_what_was_read_again_are_the_same(runs):
    kept, again = (Distributions(runs, measures_of, room=room).of("net_value") for room in (200_000_000, 0))
    assert np.array_equal(kept.mean, again.mean, equal_nan=True)
    assert np.array_equal(kept.last, again.last, equal_nan=True)
    assert kept.table.equals(again.table)


def test_a_torn_segment_is_named_also_of_a_run_that_was_read_before(tmp_path):
    runs = write_runs(tmp_path, ["No dropout"], seeds=(0,), steps=20)
    segment = next(runs[0].path.glob("rank-0/histograms-*.parquet"))
    segment.write_bytes(segment.read_bytes()[:100])
    cache = RunCache()
    cache.look(state(tmp_path))
    for _ in range(2):
        assert any(segment.name in problem for problem in gather(runs, cache=cache).problems)


def test_many_runs_get_wider_bins():
    made = Track(
        "train", np.arange(1, 1001), [(f"fc{i}", 0) for i in range(40)], [f"run{i}" for i in range(2000)], log=False
    )
    rows = pd.DataFrame({"run": pd.Categorical(["run3"] * 2), "layer": pd.Categorical(["fc1"] * 2), "call": 0,
                         "step": [1000, 1], "value": [3.0, np.nan]})  # fmt: skip
    made.add(rows)
    found = made.series()
    assert (found.values.shape, found.dropped) == ((40, 2000, 1), 1)
    assert made.last[1, 3] == 3.0
    assert found.steps[0] == pytest.approx(969, abs=1), "16 bins of 62 or 63 steps"


def test_dropouts_have_a_section_with_the_numbers_of_their_table(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"base-s{seed}", condition="No dropout", seed=seed)
        drop_run(tmp_path / f"drop-s{seed}", seed)
    runs = load({"No dropout": str(tmp_path / "base-*"), "Dropout": str(tmp_path / "drop-*")})
    made = gather(runs)
    measures = made.figures["sections"]["dropouts"]["measures"]
    assert list(measures) == ["dropout rate", "dropped share", "noise-to-signal ratio of dropout"]
    assert all(one["sites"] == [[site, 0] for site in DROPOUTS] for one in measures.values())
    rows, table = tables(made)["dropouts"].rows, analysis.dropouts.table(runs)
    assert [[cell.shown for cell in row[:6]] for row in rows] == [
        ["Dropout", "c1:dropout", "Dropout", "element", "c1:relu", "c2"],
        ["Dropout", "fc1.drop", "Dropout", "element", "c1:relu", "–"],
    ]
    assert [float(row[8].value) for row in rows] == table["dropped_share"].tolist()
    low, high = table.loc[0, ["noise_to_signal_low", "noise_to_signal_high"]]
    assert rows[0][9].shown == f"{table['noise_to_signal'][0]:.3g} [{low:.3g}, {high:.3g}]"
    assert "Other measures of layers" not in {one.section.title for one in made.diagnostics}
    assert made.figures["ordered"]


def test_networks_without_dropout_miss_no_section_of_it(tmp_path):
    write_run(tmp_path / "run", schema=1)
    made = gather(load(tmp_path / "run"))
    assert "dropouts" not in made.figures["sections"]
    assert not any("ropout" in line for line in made.absent)
    assert not made.figures["ordered"]


def test_long_names_have_titles_of_their_own(deep):
    long = [f"encoder.layers.{i}.feed_forward.activation{j}:gelu" for i in range(2) for j in (1, 2)]
    assert gather(deep).figures["titles"] == {}
    runs = SimpleNamespace(meta={"layers": [{"layer": name} for name in long]})
    titles = data._titles([runs])
    assert titles[long[3]] == "…1…activation2:gelu"
    assert len(set(titles.values())) == 4
