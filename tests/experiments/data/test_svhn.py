from __future__ import annotations

import numpy as np
import pytest

from dropdiag.errors import DataError
from dropdiag.experiments.data.load import load_images
from tests.experiments.image_files import images, write_svhn


def test_digits_and_labels_come_back_with_ten_as_zero(tmp_path):
    data = load_images("svhn", write_svhn(tmp_path))
    for seed, (got, labels) in enumerate(
        ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
    ):
        values, digits = images(20, 10, seed)
        np.testing.assert_array_equal(got.numpy(), values)
        np.testing.assert_array_equal(labels.numpy(), digits)
    assert 0 in digits
    assert not data.dataset.flip
    assert data.checked == (
        "files that are not the published ones: the MD5 of train_32x32.mat, test_32x32.mat is another"
    )


def test_a_subfolder_and_a_limit(tmp_path):
    write_svhn(tmp_path / "svhn")
    data = load_images("svhn", tmp_path, limit=5)
    assert (len(data.train_labels), len(data.test_labels)) == (5, 5)


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"no SVHN in .*train_32x32\.mat.*Yuval Netzer.*Stanford University"):
        load_images("svhn", tmp_path)
    write_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(DataError, match=r"test_32x32\.mat: missing; the other file of SVHN lies there"):
        load_images("svhn", tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X": None}, "holds no 'X' and 'y'"),
        ({"y": None}, "holds no 'X' and 'y'"),
        ({"X": np.zeros((32, 32, 3, 20))}, r"'X' is float64 of shape \(32, 32, 3, 20\), expected uint8"),
        ({"X": np.zeros((3, 32, 32, 20), np.uint8)}, r"'X' is uint8 of shape \(3, 32, 32, 20\)"),
        ({"X": np.zeros((32, 32, 3), np.uint8)}, r"'X' is uint8 of shape \(32, 32, 3\)"),
        ({"X": np.zeros((32, 32, 3, 0), np.uint8)}, "holds no image|is uint8 of shape"),
        ({"y": np.full((20, 1), 11)}, r"label 11 is outside 1\.\.10, in which 10 means the digit 0"),
        ({"y": np.zeros((20, 1))}, r"label 0\.0 is outside 1\.\.10"),
        ({"y": np.full((20, 1), 1.5)}, r"label 1\.5 is outside"),
        ({"y": np.full((20, 1), np.nan)}, "label nan is outside"),
        ({"y": np.ones((19, 1))}, "holds 20 images but 19 labels"),
        ({"y": np.array(["a"] * 20)}, "'y' is <U1, expected labels"),
    ],
)
def test_wrong_content_names_the_file(tmp_path, changes, words):
    write_svhn(tmp_path, **changes)
    with pytest.raises(DataError, match=words) as caught:
        load_images("svhn", tmp_path)
    assert str(tmp_path / "train_32x32.mat") in str(caught.value)


def test_damaged_files(tmp_path):
    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    whole = path.read_bytes()
    header = b"MATLAB 7.3 MAT-file".ljust(124, b" ") + b"\x00\x02IM"
    for content in (b"", b"no MATLAB file", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train_32x32\.mat: is damaged, or no MATLAB file"):
            load_images("svhn", tmp_path)
    path.write_bytes(header + bytes(1000))
    with pytest.raises(DataError, match=r"train_32x32\.mat: is a MATLAB file of version 7\.3"):
        load_images("svhn", tmp_path)
