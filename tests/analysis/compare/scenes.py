"""Runs of which it is known whether each claim is true, false or cannot be decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dropdiag.store.reader import Runs, load
from tests.synthetic import BORDER, Content, write

LAYERS = 3


@dataclass(frozen=True)
class Scene:
    """What a condition does; every number is that of the first layer, plus a slope a layer where there is one."""

    flow: float = 1.0
    """Factor on the gradient flow."""
    correlation: float = 0.2
    """Mean |r|."""
    share: float = 0.2
    """Saturation share."""
    slope: float = 0.0
    normal: float = 0.0
    """Part of the weights that is normal; the rest is uniform."""
    apart: float = 0.4
    """How much of a layer's normal part is missing in the layer below."""
    widths: float = 0.3
    """How much wider the weights of a layer are than those of the first, a layer."""
    best: int = 8
    """Evaluation at which the accuracy is best, of 20."""
    spread: float = 1.0
    """Standard deviation over seeds, in units of a small one."""


def content(scene: Scene, seed: int, salt: int = 0, size: int = 4000) -> Content:
    rng = np.random.default_rng([seed, salt])
    made = Content()
    for i in range(LAYERS):
        name = f"layer{i + 1}"
        part = np.clip(scene.normal + scene.apart * i / (LAYERS - 1), 0.0, 1.0)
        bell = rng.random(size) < part
        made.weight[f"{name}.linear"] = (1.0 + scene.widths * i) * np.where(
            bell, rng.normal(0, 0.05, size), rng.uniform(-0.09, 0.09, size)
        )
        share = np.clip(scene.share + scene.slope * i + 0.01 * scene.spread * rng.normal(), 0.0, 1.0)
        inside = rng.random(size) >= share
        made.net_value[f"{name}.activation"] = np.where(inside, 0.5, BORDER + 0.5) * rng.choice([-1.0, 1.0], size)
        r = scene.correlation + 0.005 * scene.spread * rng.normal()
        made.node_correlation[f"{name}.activation"] = r * rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)
        level = 1e-3 * scene.flow * np.exp(0.05 * scene.spread * rng.normal())
        made.gradient_flow[f"{name}.activation"] = level * rng.lognormal(0, 0.2, 50)
    made.loss = np.linspace(2.0, 0.1, 50)
    best = int(np.clip(round(scene.best + scene.spread * rng.normal()), 1, 20))
    made.accuracy = 0.98 - 0.01 * np.abs(np.arange(1, 21) - best)
    return made


def play(
    folder: Path, scenes: Mapping[str, Scene], seeds: Sequence[int] = (0, 1, 2, 3, 4), *, paired: bool = True
) -> Runs:
    """Write and load the runs of some conditions; unpaired, no seed comes in two of them."""
    paths: dict[str, list[Path]] = {}
    for salt, (condition, scene) in enumerate(scenes.items()):
        for seed in seeds:
            number = seed if paired else 100 * salt + seed
            path = folder / f"{condition.replace(' ', '-')}-s{number}"
            paths.setdefault(condition, []).append(write(path, content(scene, number, salt), condition, number))
    return load(paths)
