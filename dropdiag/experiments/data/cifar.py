"""CIFAR-10 and CIFAR-100: python pickles or the binary version, from a folder or the published archive.

Formats: www.cs.toronto.edu/~kriz/cifar.html. A pickle is a dict of ``data`` (uint8, one row of 3,072 values an
image: red, green, blue, each row by row) and ``labels`` or ``fine_labels``; a binary record is the label (for
CIFAR-100 the coarse one, then the fine one) and the same 3,072 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.archive import compared, read_archive, read_folder
from dropdiag.experiments.data.datasets import CIFAR10, CIFAR100, Contents, Dataset, Split, checked_labels
from dropdiag.experiments.data.files import there
from dropdiag.experiments.data.restricted_pickle import read_pickle

VALUES: Final = math.prod(CIFAR10.shape)
COARSE: Final = 20
"""Coarse classes of CIFAR-100, which are checked and not used."""


@dataclass(frozen=True)
class Version:
    """One published version of a data set.

    Attributes
    ----------
    archive : str
        File name of the published archive.
    archive_md5 : str
        As its publisher gives it.
    folder : str
        Name of the folder in it.
    train, test : mapping of str to (str or None)
        File name -> MD5 of the extracted file, None where none is known.
    read : callable
        Content of a file and its name for messages -> images and labels.
    """

    archive: str
    archive_md5: str
    folder: str
    train: Mapping[str, str | None]
    test: Mapping[str, str | None]
    read: Callable[[bytes, str], Split]

    @property
    def names(self) -> tuple[str, ...]:
        """All files."""
        return (*self.train, *self.test)


def read(dataset: Dataset, directory: Path) -> Contents:
    """Read a data set from the first of its versions that `directory` holds.

    Parameters
    ----------
    dataset : Dataset
        `CIFAR10` or `CIFAR100`.
    directory : Path
        The extracted folder, one that holds it or a published archive, or such an archive itself. Extracted
        files come before archives, pickles before the binary version.

    Returns
    -------
    Contents

    Raises
    ------
    DataError
        If there is none, or one of its files is missing or damaged. The message names the file.
    """
    version, path, archived = _find(dataset, directory)
    if archived:
        content = read_archive(path, version.folder, version.names)
        published: dict[Path, str | None] = {path: version.archive_md5}
    else:
        content = read_folder(path, version.names)
        published = {path / name: digest for name, digest in (*version.train.items(), *version.test.items())}
    where = {name: f"{path}: {version.folder}/{name}" if archived else str(path / name) for name in version.names}
    parts = {name: version.read(content[name], where[name]) for name in version.names}
    train, test = (_joined([parts[name] for name in names]) for names in (version.train, version.test))
    return Contents(train, test, path, compared(published))


def _find(dataset: Dataset, directory: Path) -> tuple[Version, Path, bool]:
    versions = VERSIONS[dataset.key]
    if there(directory):
        named = [v for v in versions if v.archive == directory.name]
        if named:
            return named[0], directory, True
    # Files that lie open are read at once; an archive has to be unpacked in memory first.
    for version in versions:
        for place in (directory, directory / version.folder):
            if any(there(place / name) for name in version.names) and _is_of(version, place):
                return version, place, False
    for version in versions:
        if there(directory / version.archive):
            return version, directory / version.archive, True
    wanted = " or ".join(f"{v.folder}/ or {v.archive}" for v in versions)
    raise DataError(
        f"no {dataset.title} in {directory}; looked for {wanted}; {dataset.title} is published {dataset.publisher}: "
        f"fetch one of the two archives from there and name its folder"
    )


def _is_of(version: Version, place: Path) -> bool:
    """Whether a folder is one of this data set: CIFAR-100's file names (train, test) are anybody's."""
    if version.folder == "cifar-100-python":
        return place.name == version.folder or there(place / "meta")
    return True


def _joined(parts: list[Split]) -> Split:
    images, labels = zip(*parts, strict=True)
    # Copies also where there is one part: the bytes of a file are read-only, and torch warns of such tensors.
    return Split(np.concatenate(images), np.concatenate(labels))


def _from_pickle(content: bytes, where: str, *, labels: str, classes: int) -> Split:
    pickled = read_pickle(content, where)
    if not (isinstance(pickled, dict) and {"data", labels} <= pickled.keys()):
        raise DataError(f"{where}: is no pickle of {'data'!r} and {labels!r}; is this the right file?")
    images = _pickled_images(pickled["data"], where)
    given = _pickled_labels(pickled[labels], labels, where)
    if len(images) != len(given):
        raise DataError(f"{where}: holds {len(images)} images but {len(given)} {labels}; fetch it again")
    return Split(images, checked_labels(given, classes, where))


def _pickled_images(data: Any, where: str) -> NDArray[np.uint8]:
    if not (isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == VALUES):
        got = f"an array of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{where}: 'data' is {got}, expected images of {VALUES} bytes each")
    return data.reshape(-1, *CIFAR10.shape)


def _pickled_labels(given: Any, name: str, where: str) -> NDArray[np.int64]:
    # Not isinstance: True is an int to Python, and no label.
    if not (isinstance(given, list) and all(type(label) is int for label in given)):
        raise DataError(f"{where}: {name!r} is not a list of integers; fetch it again")
    try:
        return np.array(given, dtype=np.int64)
    except OverflowError:
        raise DataError(f"{where}: {name!r} holds a number that is no label; fetch it again") from None


def _from_binary(content: bytes, where: str, *, label_bytes: int, classes: int) -> Split:
    record = label_bytes + VALUES
    if len(content) % record:
        raise DataError(
            f"{where}: truncated, or another file; {len(content)} bytes are no whole number of records "
            f"of {record} bytes; fetch it again"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    labels = checked_labels(rows[:, label_bytes - 1].astype(np.int64), classes, where)
    # CIFAR-10's records are a byte shorter: read as CIFAR-100's they drift, which the coarse labels show.
    if label_bytes > 1 and rows[:, 0].max() >= COARSE:
        raise DataError(f"{where}: coarse label {rows[:, 0].max()} is outside 0..{COARSE - 1}")
    return Split(rows[:, label_bytes:].reshape(-1, *CIFAR10.shape), labels)


VERSIONS: Final = {
    CIFAR10.key: (
        Version(
            archive="cifar-10-python.tar.gz",
            archive_md5="c58f30108f718f92721af3b95e74349a",
            folder="cifar-10-batches-py",
            train={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            test={"test_batch": "40351d587109b95175f43aff81a1287e"},
            read=partial(_from_pickle, labels="labels", classes=CIFAR10.classes),
        ),
        Version(
            archive="cifar-10-binary.tar.gz",
            archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
            folder="cifar-10-batches-bin",
            train=dict.fromkeys(f"data_batch_{i}.bin" for i in range(1, 6)),
            test={"test_batch.bin": None},
            read=partial(_from_binary, label_bytes=1, classes=CIFAR10.classes),
        ),
    ),
    CIFAR100.key: (
        Version(
            archive="cifar-100-python.tar.gz",
            archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
            folder="cifar-100-python",
            train={"train": "16019d7e3df5f24257cddd939b257f8d"},
            test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            read=partial(_from_pickle, labels="fine_labels", classes=CIFAR100.classes),
        ),
        Version(
            archive="cifar-100-binary.tar.gz",
            archive_md5="03b5dce01913d631647c71ecec9e9cb8",
            folder="cifar-100-binary",
            train={"train.bin": None},
            test={"test.bin": None},
            read=partial(_from_binary, label_bytes=2, classes=CIFAR100.classes),
        ),
    ),
}
"""Published versions of each data set, in the order in which they are looked for. The MD5 of the archives are
those of the publisher's page, those of the extracted files the ones torchvision lists."""
