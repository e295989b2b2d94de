from __future__ import annotations

import numpy as np
import pytest
import torch

from dropdiag.errors import DataError
from dropdiag.experiments.data import fashion_mnist
from dropdiag.experiments.data.archive import md5
from dropdiag.experiments.data.load import load_images
from tests.experiments.conftest import digits, write_mnist


@pytest.mark.parametrize("subfolder", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_the_four_files_are_found_in_their_usual_places(tmp_path, subfolder):
    write_mnist(tmp_path / subfolder, 20, 10, suffix="")
    data = load_images("fashion-mnist", tmp_path, limit=15)
    images, labels = digits(20, 0)
    np.testing.assert_array_equal(data.train_images.numpy(), images[:15])
    np.testing.assert_array_equal(data.train_labels.numpy(), labels[:15])
    assert data.test_labels.dtype == torch.int64
    assert data.source == f"Fashion-MNIST from {tmp_path / subfolder}, the first 15 of each"
    assert data.checked == "files that may or may not be the published ones: no MD5 of theirs is published"


def test_packed_files_are_held_against_their_published_digests(tmp_path, monkeypatch):
    write_mnist(tmp_path, 20, 10, suffix=".gz")
    assert load_images("fashion-mnist", tmp_path).checked.startswith("files that are not the published ones: the MD5")
    monkeypatch.setattr(fashion_mnist, "MD5", {path.name: md5(path) for path in tmp_path.iterdir()})
    assert load_images("fashion-mnist", tmp_path).checked.startswith("the published files: the MD5 of train-images")


def test_none_is_shipped_and_a_folder_without_says_where_it_looked(tmp_path):
    with pytest.raises(DataError, match="Fashion-MNIST is not shipped with dropdiag: name the folder of its files"):
        load_images("fashion-mnist")
    with pytest.raises(DataError, match="no Fashion-MNIST file in .*FashionMNIST/raw for train-images.*four files$"):
        load_images("fashion-mnist", tmp_path)
