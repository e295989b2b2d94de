"""Small data sets in which one file is to be replaced by a hostile one; written without torch, to be quick to start."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import scipy.io

from tests.experiments.image_files import images, published, python_batch, write, write_svhn

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
ARCHIVE = "cifar-100-python.tar.gz"

# Kind of reader -> its data set and the file, below the folder, that a hostile one replaces.
READERS = {
    "idx": ("mnist", MNIST[0]),
    "cifar pickle": ("cifar100", "cifar-100-python/train"),
    "cifar binary": ("cifar100", "cifar-100-binary/train.bin"),
    "svhn": ("svhn", "train_32x32.mat"),
    "archive": ("cifar100", ARCHIVE),
}


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def mat(*, compress: bool = True, **values: object) -> bytes:
    packed = io.BytesIO()
    scipy.io.savemat(packed, values, do_compression=compress)
    return packed.getvalue()


def whole(reader: str) -> bytes:
    """A good file of a reader, of two images."""
    pixels, labels = images(2, 10, 1)
    return {
        "idx": lambda: idx((2, 28, 28), bytes(2 * 784)),
        "cifar pickle": lambda: python_batch(2, 0, labels="fine_labels", classes=100),
        "cifar binary": lambda: published("cifar100", 2, "binary")["cifar-100-binary/train.bin"],
        "svhn": lambda: mat(X=pixels.transpose(2, 3, 1, 0), y=labels[:, None] + 1),
        "archive": lambda: gzip.compress(tar(published("cifar100", 2))),
    }[reader]()


def make(reader: str, folder: Path) -> Path:
    """Write a data set of two images of a reader; return the file that is to be replaced."""
    if reader == "idx":
        labels = idx((2,), b"\1\2")
        good = idx((2, 28, 28), bytes(2 * 784))
        write(folder, dict(zip(MNIST, (good, labels, good, labels), strict=True)))
    elif reader == "svhn":
        write_svhn(folder, 2)
    elif reader == "archive":
        write(folder, {ARCHIVE: whole(reader)})
    else:
        write(folder, published("cifar100", 2, "python" if reader == "cifar pickle" else "binary"))
    return folder / READERS[reader][1]
