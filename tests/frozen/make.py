"""Recorded the run folders in ``recorded/``: kept so that a reader can see how they came to be.

NEVER run this over the frozen folders, and never replace them by what it writes. They stand for runs that people
recorded with dropdiag 0.1.0, before the package was reorganised, and every later version has to read them; a
newer version of this script's output would prove nothing. It writes to a folder that must not exist yet, and it
uses private parts of the Recorder of that time (to be killed right after a flush), so it may well not run today.

    python -m tests.frozen.make NEW_FOLDER
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dropdiag as dd
from tests.frozen.expect import REPRODUCTIONS

WIDTHS = (20, 16, 12, 8)
CLASSES = 4


class FunctionalCNN(nn.Module):
    """Activations and dropout are functions, not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x)).flatten(1)
        return self.head(F.dropout(x, 0.3, training=self.training))


class Transformer(nn.Module):
    """Two encoder layers over twelve tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def mlp(rate: float) -> nn.Sequential:
    """Three hidden layers of tanh, with dropout where the rate is not 0."""
    layers: list[nn.Module] = []
    for a, b in zip(WIDTHS, WIDTHS[1:], strict=False):
        layers += [nn.Linear(a, b), nn.Tanh(), *([nn.Dropout(rate)] if rate else [])]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], CLASSES))


class Training:
    """A plain loop over random batches; everything is drawn from one seed."""

    def __init__(
        self, build: Callable[[], nn.Module], draw: Callable[[torch.Generator], Tensor], seed: int, lr: float = 0.5
    ) -> None:
        torch.manual_seed(seed)
        self.model = build()
        self.draw = draw
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)

    def batch(self) -> tuple[Tensor, Tensor]:
        x = self.draw(self.generator)
        return x, x.flatten(1)[:, :CLASSES].argmax(1)

    def steps(self, recorder: dd.Recorder, count: int) -> None:
        self.model.train()
        for _ in range(count):
            x, y = self.batch()
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            recorder.step(loss=loss)

    def evaluate(self, recorder: dd.Recorder, phase: str = "eval") -> None:
        self.model.eval()
        x, y = self.batch()
        with recorder.evaluation(phase), torch.no_grad():
            outputs = self.model(x)
            recorder.log(accuracy=(outputs.argmax(1) == y).double().mean())


def vectors(generator: torch.Generator) -> Tensor:
    return 3 * torch.randn(16, WIDTHS[0], generator=generator)  # wide enough to saturate tanh


def images(generator: torch.Generator) -> Tensor:
    return torch.randn(8, 1, 10, 10, generator=generator)


def tokens(generator: torch.Generator) -> Tensor:
    return torch.randint(30, (8, 12), generator=generator)


def plain(path: Path, training: Training, **config: object) -> None:
    """Twenty steps with an evaluation after ten and after twenty."""
    with dd.Recorder(training.model, path, every=5, config=dict(config)) as recorder:
        for _ in range(2):
            training.steps(recorder, 10)
            training.evaluate(recorder)


def record_mlps(root: Path) -> None:
    """Record two conditions, each with three seeds and one run without a seed."""
    for condition, rate in (("No dropout", 0.0), ("Dropout", 0.4)):
        name = condition.lower().replace(" ", "-")
        for seed in range(3):
            plain(root / f"{name}-s{seed}", mlp_training(rate, seed), condition=condition, seed=seed, rate=rate)
        plain(root / f"{name}-unseeded", mlp_training(rate, 99), condition=condition, rate=rate)


def mlp_training(rate: float, seed: int) -> Training:
    return Training(lambda: mlp(rate), vectors, seed)


def record_resumed(path: Path) -> None:
    """Record twenty steps, then go on from a checkpoint at step twelve: steps 13 to 20 are recorded twice."""
    training = mlp_training(0.4, 5)
    plain(path, training, condition="Dropout", seed=5)
    with dd.Recorder(training.model, path, every=5, config={"condition": "Dropout", "seed": 5}, resume=12) as recorder:
        training.steps(recorder, 13)
        training.evaluate(recorder)


def record_phases(path: Path) -> None:
    """Record two held-out sets at each evaluation, and the net variance at the end."""
    training = mlp_training(0.4, 6)
    with dd.Recorder(training.model, path, every=5, config={"condition": "Dropout", "seed": 6}) as recorder:
        for _ in range(2):
            training.steps(recorder, 10)
            for phase in ("validation", "test"):
                training.evaluate(recorder, phase)
        recorder.net_variance(vectors(training.generator), masks=16)


def record_killed(path: Path) -> None:
    """Flush twice, record some more, and die: the run stays "running", its segments are not compacted."""
    training = mlp_training(0.4, 3)
    recorder = dd.Recorder(training.model, path, every=5, config={"condition": "Dropout", "seed": 3, "rate": 0.4})
    for _ in range(2):
        training.steps(recorder, 8)
        training.evaluate(recorder)
        recorder._outbox.flush()
        recorder._writer.drain()
    training.steps(recorder, 4)
    os._exit(9)


def reproduce(root: Path, name: str) -> None:
    """Train what `dropdiag reproduce` trains, from tiny data; relative paths keep the machine's own out of run.json."""
    scene = REPRODUCTIONS[name]
    data, out = root / "data", root / "out"
    scene.write_data(data / name)
    command = [sys.executable, "-m", "dropdiag.cli", "reproduce", *scene.arguments]
    subprocess.run(command, cwd=root, check=True)
    (out / "runs").rename(root / name)
    for folder in (data, out):
        shutil.rmtree(folder)


def main(root: Path) -> None:
    root.mkdir(parents=True)
    torch.set_num_threads(1)
    record_mlps(root / "mlp")
    plain(root / "cnn", Training(FunctionalCNN, images, 0, lr=0.05), condition="CNN", seed=0)
    plain(root / "transformer", Training(Transformer, tokens, 0), condition="Transformer", seed=0)
    record_resumed(root / "resumed")
    record_phases(root / "two-phases")
    died = subprocess.run([sys.executable, "-m", "tests.frozen.make", "--killed", str(root / "killed")], check=False)
    if died.returncode != 9:
        raise SystemExit(f"the run that was to be killed ended with {died.returncode}")
    for name in REPRODUCTIONS:
        reproduce(root, name)


if __name__ == "__main__":
    if sys.argv[1] == "--killed":
        record_killed(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]).absolute())
