from __future__ import annotations

import pytest

from dropdiag.analysis.select import histograms, pooled, scalars
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.histograms.histogram import Histogram
from tests.synthetic import content


def test_rows_come_in_the_order_asked_for(runs) -> None:
    frame = histograms(runs, "weight", layers=["layer3.linear", "layer1.linear"], conditions=["GAAF", "Dropout"])
    assert list(frame["condition"].unique()) == ["GAAF", "Dropout"]
    assert list(frame["layer"].unique()) == ["layer3.linear", "layer1.linear"]
    assert len(frame) == 2 * 2 * 3


def test_pooling_is_the_exact_union_of_the_seeds(runs) -> None:
    frame = pooled(histograms(runs, "net_value", conditions=["Dropout"]))
    assert list(frame["runs"]) == [3, 3, 3]
    layer = "layer2.activation"
    union = sum(Histogram.from_values(content("Dropout", seed).net_value[layer]) for seed in range(3))
    assert frame.loc[frame["layer"] == layer, "histogram"].item() == union


def test_unknown_names_are_refused_with_those_that_exist(runs) -> None:
    with pytest.raises(ArgumentError, match=r"no layer 'l9'; there are 'layer1.linear', 'layer2.linear'"):
        histograms(runs, "weight", layers=["l9"])
    with pytest.raises(
        ArgumentError,
        match="no condition 'Drop'; did you mean 'Dropout' or 'No dropout'. there are 'No dropout', 'Dropout', 'GAAF'",
    ):
        scalars(runs, "loss", conditions=["Drop"])
    with pytest.raises(ArgumentError, match=r"got the string 'GAAF'; write \['GAAF'\]"):
        scalars(runs, "loss", conditions="GAAF")
    with pytest.raises(ArgumentError, match="layers is empty"):
        histograms(runs, "weight", layers=[])
    with pytest.raises(NotRecordedError, match="no run holds 'perplexity'"):
        scalars(runs, "perplexity")


def test_one_run_will_do(runs) -> None:
    assert len(histograms(runs[0], "weight")) == 3
