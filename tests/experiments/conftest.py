from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dropdiag.experiments import page, recipes, reproduce, run_one
from dropdiag.experiments.data.datasets import ENVIRONMENT
from dropdiag.experiments.data.idx import write_idx
from dropdiag.experiments.data.mnist import FILES
from dropdiag.experiments.engines.inside import in_words
from dropdiag.experiments.engines.launch import End
from dropdiag.experiments.engines.report import Report
from dropdiag.plots.style import save

BESIDE = Path(__file__).parents[3] / "shared" / "data"
GIVEN = os.environ.get(ENVIRONMENT)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """The machine's own DROPDIAG_DATA must not change what a test sees."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture(scope="session")
def full_mnist() -> Path:
    """The folder of the full MNIST, or a skip that says how to get it."""
    for folder in (Path(GIVEN) if GIVEN else BESIDE, BESIDE):
        if any(folder.glob("**/train-images-idx3-ubyte*")):
            return folder
    pytest.skip(f"the full MNIST is not here; set {ENVIRONMENT} or put its files into {BESIDE}/mnist")


@pytest.fixture
def quick_figures(monkeypatch):
    """Write empty figures, for tests that look at something else: drawing takes seconds."""

    def draw(section, _runs, _layers, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{section.name}.png").write_bytes(b"")
        return [folder / f"{section.name}.png"]

    monkeypatch.setattr(page, "draw", draw)


@pytest.fixture
def png_alone(monkeypatch):
    """Draw figures, and write them once and not in three formats: that takes two thirds of the time."""
    monkeypatch.setattr(page, "draw", lambda section, runs, layers, folder: save(
        section.figure(runs, layers), folder / section.name, ["png"]
    ))  # fmt: skip


class InThisProcess:
    """An engine for tests of something else: a process a run takes seconds to start, and knows no patched function."""

    here = True

    def describe(self, launches):
        return "1 at a time"

    def run(self, launches):
        for launch in launches:
            yield End(launch.name, self.train(launch))

    def train(self, launch):
        launch.folder.mkdir(exist_ok=True)
        return self.train_one(run_one.One.of(launch.command[3:]), Report(launch.report))

    def train_one(self, one, report):
        threads = torch.get_num_threads()
        try:
            run_one.train_one(one, report)
        except Exception as error:  # noqa: BLE001 - as a process does
            return in_words(error)
        finally:
            torch.set_num_threads(threads)
        return None


@contextlib.contextmanager
def training_here():
    """Within it, the command line trains in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduce, "engine_named", lambda *_: InThisProcess())
        yield


@pytest.fixture
def here():
    with training_here():
        yield


@pytest.fixture
def train_with(monkeypatch):
    """Let trainings in this process call another function: settings, data, path, progress."""

    def put(train):
        original = recipes.recipe_of
        monkeypatch.setattr(recipes, "recipe_of", lambda key: dataclasses.replace(original(key), train=train))

    return put


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise with a bright block whose place tells the label: learnable, tiny."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 10).astype(np.uint8)
    images = random.integers(0, 60, (n, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 5)
        image[row * 14 : row * 14 + 8, column * 5 : column * 5 + 5] = 250
    return images, labels


def write_mnist(folder: Path, train: int = 200, test: int = 50, suffix: str = ".gz") -> Path:
    """Write the four files with `train` and `test` images; return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, n, seed in (("train", train, 0), ("test", test, 1)):
        images, labels = digits(n, seed)
        write_idx(folder / f"{FILES[f'{split} images']}{suffix}", images)
        write_idx(folder / f"{FILES[f'{split} labels']}{suffix}", labels)
    return folder


@pytest.fixture
def mnist(tmp_path) -> Path:
    """A folder with a tiny data set in the format of MNIST."""
    return write_mnist(tmp_path / "tiny")
