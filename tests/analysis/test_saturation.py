from __future__ import annotations

import numpy as np
import pytest

from dropdiag.analysis import saturation
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.schema import line_bins, line_centres
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


def test_wrong_questions_are_refused(runs, tmp_path) -> None:
    for eps in (0.0, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="eps must lie between 0 and 1"):
            saturation.share(runs, eps)
    run = load(write(tmp_path / "r", content("GAAF", 0), "GAAF", 0))
    for entry in run.meta["layers"]:
        entry["activation"] = None
    with pytest.raises(NotRecordedError, match=r"does not say which activation function 'layer1\.activation'"):
        saturation.share(run)
