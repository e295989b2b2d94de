"""Small files in the formats of CIFAR and SVHN, written by other means than those that read them."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import scipy.io

BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


def images(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one bright colour channel and row that tell the label: learnable, tiny; (n, 3, 32, 32)."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) + seed) % classes
    values = random.integers(0, 90, (n, 3, 32, 32)).astype(np.uint8)
    for image, label in zip(values, labels, strict=True):
        image[label % 3, 3 * (label % 10) : 3 * (label % 10) + 3] = 240
    return values, labels


def python_batch(n: int, seed: int, *, labels: str = "labels", classes: int = 10, protocol: int = 2) -> bytes:
    """A pickle as the publisher's: bytes for texts, as Python 2 wrote them, if `protocol` is below 3."""
    values, given = images(n, classes, seed)
    content = {b"data": values.reshape(n, -1), labels.encode(): [int(label) for label in given], b"batch_label": b"x"}
    return pickle.dumps(content, protocol=protocol)


def binary_batch(n: int, seed: int, classes: int = 10, *, coarse: bool = False) -> bytes:
    values, given = images(n, classes, seed)
    columns = [given[:, None] // 5] * coarse + [given[:, None], values.reshape(n, -1)]
    return np.concatenate(columns, axis=1).astype(np.uint8).tobytes()


def cifar10_python(folder: Path, n: int = 20) -> dict[str, bytes]:
    return {f"{folder}/{name}": python_batch(n, seed) for seed, name in enumerate((*BATCHES, "test_batch"))}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def pack(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def published(key: str, n: int = 20, version: str = "python") -> dict[str, bytes]:
    """Files of CIFAR by their names in the published archive, `n` images each."""
    if key == "cifar10" and version == "python":
        return cifar10_python(Path("cifar-10-batches-py"), n)
    if key == "cifar10":
        names = [f"cifar-10-batches-bin/{name}.bin" for name in (*BATCHES, "test_batch")]
        return {name: binary_batch(n, seed) for seed, name in enumerate(names)}
    if version == "python":
        return {
            f"cifar-100-python/{name}": python_batch(n, seed, labels="fine_labels", classes=100)
            for seed, name in enumerate(("train", "test"))
        }
    return {
        f"cifar-100-binary/{name}.bin": binary_batch(n, seed, 100, coarse=True)
        for seed, name in enumerate(("train", "test"))
    }


def write_svhn(folder: Path, n: int = 20, **changes: object) -> Path:
    """The two files, digits 0..9 as labels 10, 1, ..., 9; `changes` replace variables of both."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("train_32x32.mat", "test_32x32.mat")):
        values, labels = images(n, 10, seed)
        content = {"X": values.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        scipy.io.savemat(folder / name, {k: v for k, v in {**content, **changes}.items() if v is not None})
    return folder
