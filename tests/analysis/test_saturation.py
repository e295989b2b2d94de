from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.analysis import saturation
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.histograms.grid import line_bins, line_centres
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.synthetic import BORDER, content, write

LAYER = "layer3.activation"


def test_table_holds_the_exact_shares(runs) -> None:
    table = saturation.table(runs)
    row = table[(table["condition"] == "Dropout") & (table["layer"] == LAYER)].iloc[0]
    raw = [content("Dropout", s).net_value[LAYER].astype(np.float64) for s in range(3)]
    assert row["left"] == pytest.approx(np.mean([(z <= -BORDER).mean() for z in raw]))
    assert row["share"] == pytest.approx(np.mean([(np.abs(z) >= BORDER).mean() for z in raw]))
    assert row["right"] + row["left"] == pytest.approx(row["share"])
    assert (row["seeds"], row["missing"]) == (3, 0)


def test_an_unknown_layer_is_refused_with_those_that_there_are(runs) -> None:
    for function in (saturation.table, saturation.share, saturation.areas):
        with pytest.raises(ArgumentError, match=f"no layer 'fc'; there are 'layer1.activation', .*'{LAYER}'"):
            function(runs, layers=["fc"])


def test_shares_that_were_recorded_without_histograms_are_read(tmp_path) -> None:
    bare = RunWriter(
        tmp_path / "bare", {"config": {"condition": "GAAF"}, "versions": {}, "layers": [], "activations": {}}
    )
    bare.add_scalars([
        ScalarRow(5, "eval", LAYER, 0, f"saturation_share_{side}", value) for side, value in (("left", 0.1), ("right", 0.3))
    ])  # fmt: skip
    bare.close("completed")
    whole = write(tmp_path / "whole", content("Dropout", 0), "Dropout", 0)
    for paths in ([tmp_path / "bare"], [tmp_path / "bare", whole]):
        table = saturation.table(load(paths), layers=[LAYER]).set_index("condition")
        assert len(table) == len(paths)
        assert table.loc["GAAF", "share"] == pytest.approx(0.4)
        assert (table["missing"] == 0).all()


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3, 0.9])
def test_share_for_any_eps_is_within_its_error(runs, eps: float) -> None:
    frame = saturation.share(runs, eps)
    border = np.arctanh(np.sqrt(1 - eps))
    assert len(frame) == 27
    for row in frame.itertuples():
        z = content(row.condition, row.seed).net_value[row.layer].astype(np.float64)
        assert abs(row.left - (z <= -border).mean()) <= row.error
        assert abs(row.right - (z >= border).mean()) <= row.error
        assert row.error < 0.06
        assert (row.n, row.dropped, row.activation) == (4000, 0, "Tanh")


def test_share_leaves_out_what_is_not_finite(tmp_path) -> None:
    made = content("Dropout", 0)
    made.net_value[LAYER][:1000] = np.nan
    made.net_value["layer1.activation"][:] = np.nan
    frame = saturation.share(load(write(tmp_path / "r", made, "Dropout", 0))).set_index("layer")
    rest = made.net_value[LAYER][1000:]
    assert frame.loc[LAYER, "share"] == pytest.approx((np.abs(rest) >= BORDER).mean(), abs=0.02)
    assert frame.loc[LAYER, "dropped"] == 1000
    assert np.isnan(frame.loc["layer1.activation", "share"])


def test_relu_is_saturated_at_the_left_alone() -> None:
    slope = (line_centres() > 0).astype(np.float64)
    z = saturation.Histogram.from_values([-2.0, -1.0, 0.5, 3.0])
    got = saturation._shares(z, line_bins(), slope, 0.1)
    assert (got["left"], got["right"], got["error"]) == (0.5, 0.0, 0.0)


def test_areas_are_the_recorded_intervals(runs) -> None:
    frame = saturation.areas(runs, layers=[LAYER])
    assert len(frame) == 6
    left = frame[frame["side"] == "left"].iloc[0]
    assert (left["low"], left["high"], left["eps"]) == (-np.inf, -BORDER, 0.1)


def test_wrong_questions_are_refused(runs) -> None:
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="eps must lie between 0 and 1"):
            saturation.share(runs, eps)


def test_runs_in_folders_of_one_name_are_told_apart(tmp_path) -> None:
    made = {seed: content("Dropout", seed) for seed in (0, 1)}
    paths = [write(tmp_path / f"s{seed}" / "run", made[seed], "Dropout", seed) for seed in made]
    frame = saturation.share(load(paths), layers=[LAYER])
    assert list(frame["run"]) == [str(path) for path in paths]
    for row in frame.itertuples():
        z = made[row.seed].net_value[LAYER].astype(np.float64)
        assert row.share == pytest.approx((np.abs(z) >= BORDER).mean(), abs=row.error)
    assert len(saturation.areas(load(paths), layers=[LAYER])) == 2


def test_exact_zeros_of_relu_are_saturated_all_of_them(tmp_path) -> None:
    made = content("Dropout", 0)
    made.net_value["layer1.activation"][:] = 0.0
    made.net_value["layer2.activation"][:] = -0.0
    made.net_value[LAYER][:1000] = 0.0
    frame = saturation.share(load(write(tmp_path / "r", made, "Dropout", 0, activation="ReLU"))).set_index("layer")
    for layer in ("layer1.activation", "layer2.activation"):
        row = frame.loc[layer]
        assert (row["left"], row["right"], row["share"], row["error"]) == (1.0, 0.0, 1.0, 0.0)
    z = made.net_value[LAYER]
    assert frame.loc[LAYER, "share"] == pytest.approx((z <= 0).mean(), abs=1e-12)
    assert frame.loc[LAYER, "error"] == 0.0


def test_exact_zeros_of_tanh_are_not_saturated(tmp_path) -> None:
    made = content("Dropout", 0)
    made.net_value[LAYER][:] = 0.0
    row = saturation.share(load(write(tmp_path / "r", made, "Dropout", 0)), layers=[LAYER]).iloc[0]
    assert (row["share"], row["error"]) == (0.0, 0.0)


def test_an_activation_without_known_derivative_has_no_share(tmp_path) -> None:
    paths = [
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0, activation="PReLU(num_parameters=1)"),
        write(tmp_path / "b", content("GAAF", 0), "GAAF", 0),
    ]
    frame = saturation.share(load(paths), layers=[LAYER]).set_index("condition")
    assert frame.loc["Dropout", ["left", "right", "share", "error"]].isna().all()
    assert frame.loc["Dropout", "n"] == 4000
    assert frame["activation"].isna().tolist() == [True, False]
    assert frame.loc["GAAF", "share"] > 0
    assert set(saturation.areas(load(paths))["condition"]) == {"GAAF"}
    assert saturation.areas(load(paths[0])).empty
    run = load(paths[1])
    for entry in run.meta["layers"]:
        entry["activation"] = None
    assert saturation.share(run)["share"].isna().all()


def test_the_last_rows_are_those_of_one_phase(tmp_path) -> None:
    test, train = content("Dropout", 0), content("No dropout", 1)
    run = load(write(tmp_path / "r", test, "Dropout", 0, phase="test", also={"train": train}))
    for phase, made in ((None, test), ("test", test), ("train", train)):
        row = saturation.table(run, layers=[LAYER], phase=phase).iloc[0]
        z = made.net_value[LAYER].astype(np.float64)
        assert row["share"] == pytest.approx((np.abs(z) >= BORDER).mean())
        assert row["seeds"] == 1
        share = saturation.share(run, layers=[LAYER], phase=phase).iloc[0]
        assert share["share"] == pytest.approx(row["share"], abs=share["error"])
        assert share["phase"] == (phase or "test")


def test_runs_without_the_phase_of_the_others_are_left_out_of_the_table(tmp_path) -> None:
    runs = load([
        write(tmp_path / "a", content("Dropout", 0), "Dropout", 0),
        write(tmp_path / "b", content("GAAF", 0), "GAAF", 0, phase="train"),
    ])  # fmt: skip
    with pytest.warns(DropdiagWarning, match="no 'saturation_share_left' in phase 'eval': 'b'"):
        assert set(saturation.table(runs)["condition"]) == {"Dropout"}
    assert set(saturation.table(runs, conditions=["GAAF"])["condition"]) == {"GAAF"}
    with pytest.raises(NotRecordedError, match="in phase 'test'; recorded are 'eval', 'train'"):
        saturation.table(runs, phase="test")


def test_a_recorded_network_that_has_diverged_has_no_share_and_no_histogram_is_asked(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    with torch.no_grad():
        model[0].weight[0, 0] = torch.inf
    with dd.Recorder(model, tmp_path / "run", probes=["net_values", "saturation"]) as rec, rec.evaluation():
        model.eval()(torch.ones(8, 3))
    run = dd.load(tmp_path / "run")
    assert run.select("saturation_share_right")["value"].isna().all()
    for file in (tmp_path / "run" / "rank-0").glob("histograms-*"):
        file.unlink()
    with pytest.warns(DropdiagWarning, match="lacks segments"):
        assert saturation.table(run)[["left", "right", "share"]].isna().all(axis=None)
