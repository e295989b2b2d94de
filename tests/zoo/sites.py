"""Where sites stand in a network: the order in which they ran, and the layers whose nodes they have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from torch import nn

import dropdiag as dd
from tests.zoo.folder import Reading

PARTS = {
    ("functions_inplace_on_views", "b:elu"): "three of its eight features",
    ("densely_connected", "layers.0:leaky_relu(0.1)"): "the image beside the layer's output",
    ("normalising_flow", "nets.0.2:tanh"): "the half of its features that scales",
    ("normalising_flow", "nets.1.2:tanh"): "the half of its features that scales",
    ("normalising_flow", "nets.2.2:tanh"): "the half of its features that scales",
    ("gated_units", "slope"): "the half that a gate lets through",
}
"""Sites that have some of the nodes of the layer before them, and why."""
SIZES = ("out_features", "out_channels", "num_features", "hidden_size", "nf", "embedding_dim", "embed_dim")


def assert_in_order(run: dd.Run, recorded: Iterable[Reading], read: Iterable[Reading], where: str) -> int:
    """Assert that a step's passes came in the order that the run tells; return how many pairs could be told apart."""
    rank = {(layer, call): at for at, group in enumerate(run.meta["order"]) for layer, call in group}
    seen = [reading.histograms for reading in read]
    position = {key: seen.index(key) for key, times in Counter(seen).items() if times == 1}
    # Where a network runs several times in a step, its passes are pooled, and are none of those that were read.
    found = sorted(
        (position[r.histograms], rank[r.layer, r.call], r.where) for r in recorded if r.histograms in position
    )
    for (_, before, first), (_, after, second) in zip(found, found[1:], strict=False):
        assert before <= after, f"{where}: {first} ran before {second}, and is said to come after it"
    return sum(before[1] < after[1] for before, after in zip(found, found[1:], strict=False))


def assert_widths(name: str, model: nn.Module, rows: Iterable[dd.store.coverage.CoverageRow], run: dd.Run) -> int:
    """Assert that a site has as many nodes as the layer that it is said to come after; return how many were."""
    frame = run.scalars[run.scalars["quantity"] == "node_correlation_width"]
    widths = {(r.layer, r.call): r.value for r in frame.itertuples()}
    modules = dict(model.named_modules())
    checked = 0
    for row in rows:
        after = re.fullmatch(r"dims? [\d and]+, after (\S+)", row.nodes or "")
        module = modules.get(after[1]) if after else None
        size = next((getattr(module, name) for name in SIZES if isinstance(getattr(module, name, None), int)), None)
        if size is not None and (row.layer, row.call) in widths and (name, row.layer) not in PARTS:
            halved = row.layer.endswith(":glu") or isinstance(modules.get(row.layer), nn.GLU)
            assert widths[row.layer, row.call] == size // (2 if halved else 1), row
            checked += 1
    return checked
