from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from dropdiag.errors import DataError
from dropdiag.experiments.data import files
from dropdiag.experiments.data.datasets import ENVIRONMENT, MNIST
from dropdiag.experiments.data.idx import read_idx, write_idx
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.data.make_sample import make_sample, stratified
from dropdiag.experiments.data.mnist import FILES
from tests.experiments.conftest import digits, write_mnist

SAMPLE = MNIST.sample
IMAGES, LABELS = FILES["train images"], FILES["train labels"]


def raw(magic: int, shape: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(">I", magic) + struct.pack(f">{len(shape)}I", *shape) + values


def test_reads_what_the_format_says(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(raw(2051, (2, 2, 3), bytes(range(12))))
    np.testing.assert_array_equal(read_idx(path, 3), np.arange(12).reshape(2, 2, 3))
    path.write_bytes(gzip.compress(raw(2049, (3,), b"\x07\x00\xff")))  # gzipped, whatever its name
    assert read_idx(path, 1).tolist() == [7, 0, 255]


def test_writing_twice_gives_the_same_bytes(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("a.gz", "b.gz", "c"):
        write_idx(tmp_path / name, values)
        np.testing.assert_array_equal(read_idx(tmp_path / name, 3), values)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("subfolder", ["", "mnist", "MNIST/raw"])
def test_finds_the_files_in_their_usual_places(tmp_path, suffix, subfolder):
    write_mnist(tmp_path / subfolder, 20, 10, suffix)
    data = load_images("mnist", tmp_path)
    images, labels = digits(20, 0)
    assert data.train_images.dtype == torch.uint8
    assert np.array_equal(data.train_images, images)
    assert data.train_labels.dtype == torch.int64
    assert np.array_equal(data.train_labels, labels)
    assert data.test_images.shape == (10, 28, 28)


def test_the_order_in_which_places_are_tried(tmp_path, monkeypatch):
    assert load_images("mnist").source == "the sample of MNIST shipped with dropdiag"
    monkeypatch.setenv(ENVIRONMENT, str(write_mnist(tmp_path / "named", 20, 10)))
    named = load_images("mnist")
    assert named.source == f"MNIST from {tmp_path / 'named'} (DROPDIAG_DATA)"
    given = load_images("mnist", write_mnist(tmp_path / "given", 30, 10))
    assert given.source == f"MNIST from {tmp_path / 'given'}"
    assert given.describe() == f"30 training and 10 test images, MNIST from {tmp_path / 'given'}"
    assert (len(named.train_labels), len(given.train_labels)) == (20, 30)
    monkeypatch.setenv(ENVIRONMENT, "")
    assert load_images("mnist").folder == SAMPLE


def test_the_digest_is_of_the_content_not_of_the_packing(tmp_path):
    packed = load_images("mnist", write_mnist(tmp_path / "a", 20, 10, ".gz")).digest
    assert packed == load_images("mnist", write_mnist(tmp_path / "b", 20, 10, "")).digest
    assert packed != load_images("mnist", write_mnist(tmp_path / "c", 21, 10)).digest
    assert len(packed) == 64


def damage(folder: Path, name: str, change) -> str:
    path = folder / f"{name}.gz"
    path.write_bytes(change(path.read_bytes()))
    return str(path)


def repacked(change):
    return lambda packed: gzip.compress(change(gzip.decompress(packed)))


DAMAGE = {
    "magic": (
        IMAGES,
        repacked(lambda b: b"\0\0\x08\x01" + b[4:]),
        "wrong magic number 0x00000801, expected 0x00000803",
    ),
    "other": (
        LABELS,
        lambda _: b"<html>not found</html>",
        "wrong magic number 0x3c68746d, expected 0x00000801",
    ),
    "short": (
        IMAGES,
        repacked(lambda b: b[:-1]),
        "its header announces 200 x 28 x 28 = 156800 values, got 156799",
    ),
    "header": (IMAGES, repacked(lambda b: b[:10]), "truncated inside its header (10 of 16 bytes)"),
    "empty": (LABELS, lambda _: b"", "truncated inside its header (0 of 8 bytes)"),
    "long": (
        LABELS,
        repacked(lambda b: b + b"\0\0"),
        "2 trailing bytes; its header announces 200 = 200 values, got 202",
    ),
    "cut": (IMAGES, lambda b: b[: len(b) // 2], "its gzip stream ends too early"),
    "flipped": (IMAGES, lambda b: b[:2000] + bytes([b[2000] ^ 255]) + b[2001:], "its gzip stream is damaged"),
    "trailing": (LABELS, lambda b: b + b"xx", "its gzip stream is damaged"),
    "digit": (LABELS, repacked(lambda b: b[:-1] + b"\x0a"), "label 10 is outside 0..9"),
    "size": (
        IMAGES,
        lambda _: raw(2051, (200, 2, 3), bytes(1200)),
        "images of 2 x 3 pixels, expected 28 x 28",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named(mnist, case):
    name, change, message = DAMAGE[case]
    path = damage(mnist, name, change)
    with pytest.raises(DataError) as caught:
        load_images("mnist", mnist)
    assert path in str(caught.value)
    assert message in str(caught.value)


def test_counts_that_disagree(mnist):
    write_idx(mnist / f"{LABELS}.gz", np.zeros(199, np.uint8))
    with pytest.raises(DataError, match=rf"{IMAGES}.gz holds 200 images but .*{LABELS}.gz holds 199 labels"):
        load_images("mnist", mnist)


def test_no_image_at_all(mnist):
    write_idx(mnist / f"{IMAGES}.gz", np.zeros((0, 28, 28), np.uint8))
    write_idx(mnist / f"{LABELS}.gz", np.zeros(0, np.uint8))
    with pytest.raises(DataError, match=rf"{LABELS}.gz: holds no image"):
        load_images("mnist", mnist)


def test_one_file_missing(mnist):
    (mnist / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"{LABELS}: missing, with and without .gz"):
        load_images("mnist", mnist)


def test_nothing_there_says_where_it_looked(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        load_images("mnist", tmp_path / "nowhere")
    for part in (tmp_path / "nowhere", tmp_path / "nowhere" / "mnist", IMAGES, LABELS, "without .gz"):
        assert str(part) in str(caught.value)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(DataError, match="is what the environment variable DROPDIAG_DATA names"):
        load_images("mnist")


def test_an_unreadable_file_is_named(mnist, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open_regular", refuse)
    with pytest.raises(DataError, match=rf"{IMAGES}.gz: cannot be read \(Permission denied\)"):
        load_images("mnist", mnist)


def test_the_sample_is_small_and_holds_every_digit():
    data = load_images("mnist")
    assert (len(data.train_labels), len(data.test_labels)) == (10_000, 2_000)
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 2_500_000
    assert data.train_labels.bincount().tolist() == [987, 1124, 993, 1022, 974, 904, 986, 1044, 975, 991]
    assert data.digest == "66fc60632305587ea6a455ae82a54e0d89314f59680d551c9720436e5c1d33bc"
    notice = (SAMPLE / "NOTICE.md").read_text(encoding="utf-8")
    assert all(word in notice for word in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "subset"))


def test_a_limit_takes_the_first_images():
    whole, data = load_images("mnist"), load_images("mnist", limit=7)
    assert data.train_images.equal(whole.train_images[:7])
    assert data.test_labels.equal(whole.test_labels[:7])
    assert data.source == "the sample of MNIST shipped with dropdiag, the first 7 of each"


def test_stratified_keeps_shares_and_order():
    labels = np.repeat(np.arange(3), [50, 30, 20]).astype(np.uint8)
    chosen = stratified(np.random.default_rng(0).permutation(labels), 10)
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(np.random.default_rng(0).permutation(labels)[chosen]).tolist() == [5, 3, 2]


def test_the_sample_is_what_the_script_makes(full_mnist, tmp_path):
    make_sample(full_mnist, tmp_path)
    assert load_images("mnist", tmp_path).digest == load_images("mnist").digest


def test_the_full_mnist(full_mnist):
    data = load_images("mnist", full_mnist)
    assert (len(data.train_labels), len(data.test_labels)) == (60_000, 10_000)
    assert data.train_labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
