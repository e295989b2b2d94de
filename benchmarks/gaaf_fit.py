"""How far off is `dropdiag.gaaf.fit` with few masks? Beside the fit under very many masks, on the same network.

Run as ``python benchmarks/gaaf_fit.py``: about three minutes on one core. The table in docs/gaaf.md is what it prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from dropdiag.gaaf import GAAF, Fit, fit

ACTIVATIONS = ("tanh", "relu", "hardtanh", "gelu", "sigmoid")
MASKS = (4, 16, 64, 256)
WIDTH, SAMPLES, RATE = 128, 48, 0.5


def network(name: str) -> tuple[nn.Module, Tensor]:
    """Two hidden layers behind dropouts; the second one's net values vary with the first one's masks as well."""
    torch.manual_seed(0)
    scale = 3.0 if name == "sigmoid" else 1.5  # so that there are net values in the area
    parts: list[nn.Module] = []
    for _ in range(2):
        linear = nn.Linear(WIDTH, WIDTH)
        nn.init.normal_(linear.weight, 0.0, scale / WIDTH**0.5)
        nn.init.normal_(linear.bias, 0.0, 0.3)
        parts += [nn.Dropout(RATE), linear, GAAF(name)]
    return nn.Sequential(*parts), torch.randn(SAMPLES, WIDTH)


def errors(name: str, repeats: int, reference: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield numbers of masks and errors of gain and height in per cent, shape (repeats, layers, 2)."""
    model, x = network(name)
    true = numbers(fit(model, x, RATE, masks=reference, seed=10**6, apply=False))
    for masks in MASKS:
        times = max(repeats // masks, 4)
        found = [numbers(fit(model, x, RATE, masks=masks, seed=seed, apply=False)) for seed in range(times)]
        yield masks, 100 * (np.array(found) / true - 1)


def numbers(found: Fit) -> np.ndarray:
    """Return gain and height of each layer."""
    return np.array([[layer.dropout_gain, layer.height] for layer in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=256, help="passes in all for each number of masks")
    parser.add_argument("--reference", type=int, default=4096, help="masks of the reference")
    given = parser.parse_args()
    print("| activation, layer | " + " | ".join(f"{masks} masks" for masks in MASKS) + " |")
    print("|---|" + "---|" * len(MASKS))
    for name in ACTIVATIONS:
        cells = [found for _, found in errors(name, given.repeats, given.reference)]
        for layer in range(2):
            texts = []
            for cell in cells:
                gain, height = cell[:, layer].T
                texts.append(
                    f"{gain.mean():+.1f} ± {gain.std(ddof=1):.1f}, {height.mean():+.1f} ± {height.std(ddof=1):.1f}"
                )
            print(f"| {name}, {layer + 1} | " + " | ".join(texts) + " |", flush=True)


if __name__ == "__main__":
    main()
