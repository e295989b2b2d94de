from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import DropdiagError
from dropdiag.histograms.histogram import Histogram
from dropdiag.integrations.event_files import buckets
from dropdiag.integrations.tensorboard import to_tensorboard
from tests.synthetic import content, write

from .test_csv import AWKWARD, awkward


def read(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        found = module.EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
        found.Reload()
    return found


@pytest.fixture
def run(tmp_path):
    return dd.load(write(tmp_path / "run", content("Dropout", 1, steps=30, size=3000), "Dropout", 1))


def test_scalars_are_read_back_by_tensorboard(run, tmp_path):
    pytest.importorskip("tensorboard")
    files = to_tensorboard(run, tmp_path / "out")
    assert [path.parent.name for path in files] == ["eval", "train"]
    assert all(path.is_file() for path in files)
    train = read(tmp_path / "out" / "train")
    assert set(train.Tags()["scalars"]) == {"loss", *(f"net_grad_abs_mean/layer{i}.activation" for i in (1, 2, 3))}
    for tag, layer in (("loss", [None]), ("net_grad_abs_mean/layer2.activation", "layer2.activation")):
        expected = run.select(tag.split("/")[0], layer=layer)
        assert [event.step for event in train.Scalars(tag)] == expected["step"].tolist()
        np.testing.assert_array_equal(
            [event.value for event in train.Scalars(tag)], expected["value"].to_numpy().astype(np.float32)
        )
    assert "accuracy" in read(tmp_path / "out" / "eval").Tags()["scalars"]


def test_histograms_are_read_back_by_tensorboard(run, tmp_path):
    pytest.importorskip("tensorboard")
    to_tensorboard(run, tmp_path / "out")
    held_out = read(tmp_path / "out" / "eval")
    (event,) = held_out.Histograms("net_value/layer3.activation")
    values = content("Dropout", 1, steps=30, size=3000).net_value["layer3.activation"].astype(np.float64)
    shown = event.histogram_value
    assert event.step == 30
    assert shown.num == 3000
    assert shown.min <= values.min() <= values.max() <= shown.max
    assert shown.sum == pytest.approx(values.sum(), abs=np.abs(values).sum() / 128)
    assert shown.sum_squares == pytest.approx((values**2).sum(), rel=0.02)
    counted, _ = np.histogram(values, np.array(shown.bucket_limit))
    assert shown.bucket[0] == 0
    np.testing.assert_array_equal(shown.bucket[1:], counted)


def test_buckets_of_everything_awkward():
    whole = Histogram.from_values(AWKWARD)
    limits, amounts = buckets(whole.bins, whole.counts)
    assert np.all(np.diff(limits) > 0)
    assert amounts.sum() == whole.n_finite
    for value, count in ((1.5, 2), (-1.5, 1), (3e38, 1)):
        assert amounts[np.searchsorted(limits, np.float32(value), side="right" if value > 0 else "left")] == count
    zero = np.abs(limits) <= 2.0**-132
    assert amounts[zero].sum() == 3


def test_buckets_against_brute_force():
    values = np.random.default_rng(0).normal(0, 2.0, 20_000).astype(np.float32)
    whole = Histogram.from_values(values)
    limits, amounts = buckets(whole.bins, whole.counts)
    counted, _ = np.histogram(values.astype(np.float64), limits)
    np.testing.assert_array_equal(amounts[1:], counted)
    wide = np.diff(limits)[(amounts[1:] > 0)]
    far = np.maximum(np.abs(limits[1:]), np.abs(limits[:-1]))[amounts[1:] > 0]
    assert np.all(wide <= far / 16.0)


def test_values_that_are_not_finite_are_counted_beside(tmp_path):
    pytest.importorskip("tensorboard")
    to_tensorboard(dd.load(awkward(tmp_path / "run", "fc")), tmp_path / "out")
    train = read(tmp_path / "out" / "train")
    assert [event.value for event in train.Scalars("not_finite/weight/fc")] == [5.0]
    assert train.Histograms("weight/fc")[0].histogram_value.num == len(AWKWARD) - 5
    assert "gone/fc#3" not in train.Tags()["scalars"], "a missing value is left out"


def test_without_tensorboard_it_says_what_to_install(run, tmp_path, monkeypatch):
    for name in ("tensorboard", "tensorboard.compat.proto", "tensorboard.summary.writer.record_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DropdiagError, match=r"needs the package tensorboard.*pip install 'dropdiag\[tensorboard\]'"):
        to_tensorboard(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
