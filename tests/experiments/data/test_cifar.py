from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dropdiag.errors import ArgumentError, DataError
from dropdiag.experiments.data import archive, cifar
from dropdiag.experiments.data.datasets import ENVIRONMENT
from dropdiag.experiments.data.load import load_images
from tests.experiments.image_files import BATCHES, binary_batch, images, pack, published, python_batch, write

CLASSES = {"cifar10": 10, "cifar100": 100}
ALL = [(key, version) for key in CLASSES for version in ("python", "binary")]
ARCHIVES = {
    ("cifar10", "python"): "cifar-10-python.tar.gz",
    ("cifar10", "binary"): "cifar-10-binary.tar.gz",
    ("cifar100", "python"): "cifar-100-python.tar.gz",
    ("cifar100", "binary"): "cifar-100-binary.tar.gz",
}


def expected(key: str, n: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    train = range(5) if key == "cifar10" else range(1)
    parts = [images(n, CLASSES[key], seed) for seed in train]
    return [tuple(map(np.concatenate, zip(*parts, strict=True))), images(n, CLASSES[key], len(train))]


def check(data, key: str) -> None:
    (train, train_labels), (test, test_labels) = expected(key)
    np.testing.assert_array_equal(data.train_images.numpy(), train)
    np.testing.assert_array_equal(data.train_labels.numpy(), train_labels)
    np.testing.assert_array_equal(data.test_images.numpy(), test)
    np.testing.assert_array_equal(data.test_labels.numpy(), test_labels)
    assert data.dataset.key == key


@pytest.mark.parametrize(("key", "version"), ALL)
def test_extracted_folders_and_archives_give_the_same_images(tmp_path, key, version):
    files = published(key, version=version)
    write(tmp_path / "extracted", files)
    archive = pack(tmp_path / "packed" / ARCHIVES[key, version], files)
    folder = tmp_path / "extracted" / next(iter(files)).split("/")[0]
    before = sorted(tmp_path.rglob("*"))
    found = [load_images(key, place) for place in (tmp_path / "extracted", folder, archive.parent, archive)]
    for data in found:
        check(data, key)
    assert len({data.digest for data in found}) == 1
    assert str(folder) in found[0].source
    assert str(archive) in found[2].source
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked to disk"


def test_pickles_of_python_3_are_read_too(tmp_path):
    files = {f"cifar-10-batches-py/{name}": python_batch(20, seed, protocol=4)
             for seed, name in enumerate((*BATCHES, "test_batch"))}  # fmt: skip
    check(load_images("cifar10", write(tmp_path, files)), "cifar10")


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(write(tmp_path, published("cifar10"))))
    check(load_images("cifar10"), "cifar10")
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(DataError, match=r"CIFAR-10 is not shipped.*DROPDIAG_DATA.*Alex Krizhevsky"):
        load_images("cifar10")


def test_a_limit_takes_the_first(tmp_path):
    data = load_images("cifar10", write(tmp_path, published("cifar10")), limit=7)
    (train, labels), (test, _) = expected("cifar10")
    np.testing.assert_array_equal(data.train_images.numpy(), train[:7])
    np.testing.assert_array_equal(data.train_labels.numpy(), labels[:7])
    np.testing.assert_array_equal(data.test_images.numpy(), test[:7])
    assert data.describe().startswith("7 training and 7 test images, CIFAR-10 from ")
    assert data.describe().endswith("the first 7 of each")
    with pytest.raises(ArgumentError, match="limit must be at least 1, got 0"):
        load_images("cifar10", tmp_path, limit=0)
    with pytest.raises(ArgumentError, match="unknown data set 'stl10'; the data sets are mnist, cifar10"):
        load_images("stl10", tmp_path)


def test_files_are_held_against_the_published_sums(tmp_path, monkeypatch):
    files = published("cifar100")
    write(tmp_path, files)
    folder = tmp_path / "cifar-100-python"
    assert load_images("cifar100", tmp_path).checked == (
        "files that are not the published ones: the MD5 of train, test is another"
    )
    version = cifar.VERSIONS["cifar100"][0]
    sums = {
        name: hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() for name in ("train", "test")
    }
    monkeypatch.setitem(version.train, "train", sums["train"])
    assert load_images("cifar100", tmp_path).checked.endswith("the MD5 of test is another")
    monkeypatch.setitem(version.test, "test", sums["test"])
    assert load_images("cifar100", tmp_path).checked == (
        "the published files: the MD5 of train, test is the published one"
    )
    binary = write(tmp_path / "binary", published("cifar100", version="binary"))
    assert load_images("cifar100", binary).checked.endswith("no MD5 of theirs is published")
    archive = pack(tmp_path / "packed" / "cifar-100-python.tar.gz", files)
    assert load_images("cifar100", archive).checked.endswith("the MD5 of cifar-100-python.tar.gz is another")


def test_the_sums_are_those_that_torchvision_lists():
    source = Path(find_spec("torchvision").origin).parent / "datasets"
    text = (source / "cifar.py").read_text()
    for key in CLASSES:
        python = cifar.VERSIONS[key][0]
        for digest in (python.archive_md5, *python.train.values(), *python.test.values()):
            assert digest in text
    from dropdiag.experiments.data.svhn import FILES

    assert all(digest in (source / "svhn.py").read_text() for digest in FILES.values())


def test_missing_data_say_where_they_are_published(tmp_path):
    with pytest.raises(DataError) as caught:
        load_images("cifar100", tmp_path)
    message = str(caught.value)
    assert f"no CIFAR-100 in {tmp_path}; looked for cifar-100-python/ or cifar-100-python.tar.gz" in message
    assert "Alex Krizhevsky, on his page at the University of Toronto" in message


@pytest.mark.parametrize("version", ["python", "binary"])
def test_a_missing_batch_is_named(tmp_path, version):
    files = published("cifar10", version=version)
    gone = next(name for name in files if "data_batch_3" in name)
    packed_files = {name: content for name, content in files.items() if name != gone}
    with pytest.raises(DataError, match=f"{gone}: missing"):
        load_images("cifar10", write(tmp_path / "a", packed_files))
    with pytest.raises(DataError, match=f"holds no {gone}"):
        load_images("cifar10", pack(tmp_path / "b" / ARCHIVES["cifar10", version], packed_files))


def wrong(changes: dict) -> bytes:
    values, labels = images(4, 10, 0)
    content = {"data": values.reshape(4, -1), "labels": [int(label) for label in labels], **changes}
    return pickle.dumps({k: v for k, v in content.items() if v is not None}, protocol=4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (wrong({"labels": None}), "is no pickle of 'data' and 'labels'"),
        (wrong({"labels": [1, 2, 3]}), "holds 4 images but 3 labels"),
        (wrong({"labels": [1, 2, 3, 10]}), r"label 10 is outside 0\.\.9"),
        (wrong({"labels": [1, 2, 3, -1]}), r"label -1 is outside 0\.\.9"),
        (wrong({"labels": [1, 2, 3, True]}), "'labels' is not a list of integers"),
        (wrong({"labels": [1, 2, 3, 1 << 70]}), "holds a number that is no label"),
        (wrong({"labels": "1234"}), "'labels' is not a list of integers"),
        (
            wrong({"data": np.zeros((4, 3071), np.uint8)}),
            r"an array of shape \(4, 3071\), expected images of 3072 bytes",
        ),
        (wrong({"data": np.zeros(3072, np.uint8)}), r"an array of shape \(3072,\)"),
        (wrong({"data": [1]}), "'data' is list"),
        (wrong({"data": np.zeros((0, 3072), np.uint8), "labels": []}), "holds no image"),
        (pickle.dumps([1], protocol=2), "is no pickle of 'data'"),
        (b"PK\x03\x04", "is damaged, or no pickle of arrays"),
        (python_batch(20, 0)[:-40], "is damaged, or no pickle of arrays"),
    ],
)
def test_damaged_pickles_name_the_file(tmp_path, content, words):
    write(tmp_path, {**published("cifar10"), "cifar-10-batches-py/data_batch_2": content})
    with pytest.raises(DataError, match=words) as caught:
        load_images("cifar10", tmp_path)
    assert str(tmp_path / "cifar-10-batches-py" / "data_batch_2") in str(caught.value)


@pytest.mark.parametrize(
    ("key", "name", "content", "words"),
    [
        ("cifar10", "cifar-10-batches-bin/test_batch.bin", binary_batch(3, 0)[:-1], "truncated, or another file; 9218 bytes"),
        ("cifar10", "cifar-10-batches-bin/test_batch.bin", b"", "holds no image"),
        ("cifar10", "cifar-10-batches-bin/test_batch.bin", b"\x0a" + bytes(3072), r"label 10 is outside 0\.\.9"),
        ("cifar100", "cifar-100-binary/train.bin", b"\x01\x64" + bytes(3072), r"label 100 is outside 0\.\.99"),
        ("cifar100", "cifar-100-binary/train.bin", b"\x14\x01" + bytes(3072), r"coarse label 20 is outside 0\.\.19"),
        ("cifar100", "cifar-100-binary/train.bin", binary_batch(3, 0), "records of 3074 bytes"),
    ],
)  # fmt: skip
def test_damaged_binary_files_name_the_file(tmp_path, key, name, content, words):
    write(tmp_path, {**published(key, version="binary"), name: content})
    with pytest.raises(DataError, match=words) as caught:
        load_images(key, tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_damaged_archives_name_the_file(tmp_path, monkeypatch):
    files = published("cifar10")
    path = pack(tmp_path / "cifar-10-python.tar.gz", files)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"no archive at all", whole[:5000] + whole[5100:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .*fetch it again"):
            load_images("cifar10", tmp_path)
    path.write_bytes(whole)
    monkeypatch.setattr(archive, "LIMIT", 1000)
    with pytest.raises(DataError, match=r"data_batch_1 in it announces 6\d,\d+ bytes, more than 1,000"):
        load_images("cifar10", tmp_path)


def test_links_and_doubles_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-python/train")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="cifar-100-python/train in it is no plain file"):
        load_images("cifar100", path)
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(2):
            member = tarfile.TarInfo("cifar-100-python/train")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"."))
    with pytest.raises(DataError, match="holds train twice"):
        load_images("cifar100", path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    write(tmp_path, published("cifar10"))
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.unlink()
    batch.mkdir()
    with pytest.raises(DataError, match="data_batch_1: cannot be read"):
        load_images("cifar10", tmp_path)
    with pytest.raises(DataError, match="nothing: cannot be read"):
        archive.md5(tmp_path / "nothing")
