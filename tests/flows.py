"""Run folders with a decomposed gradient flow: readings at random, or of a network that is told, by the real writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter

OUTPUT, PATH, INPUT_PATH, NODE, NET, ABOVE, BELOW = (
    f"{name}_grad_abs_mean" for name in ("output", "path", "input_path", "node", "net", "mask_output", "mask_input")
)
Readings = dict[tuple[str, str], np.ndarray]
"""(Quantity, layer) -> a value a step; NaN is a row without a value."""


def readings(
    activations: Sequence[str], dropouts: Iterable[str] = (), paths: Iterable[str] = (), *, steps: int, seed: int
) -> Readings:
    """Readings at random, each a few times larger or smaller than the others."""
    rng = np.random.default_rng(seed)
    names = [(OUTPUT, "(output)"), *((NODE, one) for one in activations), *((NET, one) for one in activations)]
    names += [(side, one) for one in dropouts for side in (ABOVE, BELOW)] + [(PATH, one) for one in paths]
    return {name: rng.lognormal(rng.normal(-6.0, 1.0), 0.5, steps) for name in names}


def chain_rows(order: Sequence[str], dropouts: Iterable[str], between: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the chain of a network that does not branch, as ``run.json`` has it."""
    kinds = {name: ("mask_input", "mask_output") if name in dropouts else ("net", "node") for name in order}
    places = [(kind, name) for name in order for kind in kinds[name]] + [("output", "(output)")]
    return [
        {"kind": kind, "layer": layer, "call": 0, "next": at + 1 if at + 1 < len(places) else None,
         "between": between.get(layer, "") if kind in ("node", "mask_output") else "", "same": False, "why": None}
        for at, (kind, layer) in enumerate(places)
    ]  # fmt: skip


def write_flow(
    path: Path,
    made: Mapping[tuple[str, str], np.ndarray],
    order: Sequence[str],
    *,
    condition: str,
    seed: int | None,
    every: int = 1,
    between: Mapping[str, str] | None = None,
    loss: np.ndarray | None = None,
) -> Path:
    """Write a run: sites in the given order of execution, dL/dz at every step and the rest at every ``every``-th."""
    dropouts = {layer for quantity, layer in made if quantity == ABOVE}
    layers = [
        {"layer": name, "call": 0, "kind": "dropout" if name in dropouts else "activation", "shape": [],
         "type": "Dropout" if name in dropouts else "Tanh", "activation": None if name in dropouts else "Tanh"}
        for name in order
    ]  # fmt: skip
    steps = max(len(values) for values in made.values())
    config = {"condition": condition} | ({} if seed is None else {"seed": seed})
    meta = {"config": config, "versions": {}, "layers": layers, "order": [[[name, 0]] for name in order],
            "activations": {}, "steps": steps, "chain": chain_rows(order, dropouts, between or {})}  # fmt: skip
    writer = RunWriter(path, meta)
    for step in range(1, steps + 1):
        rows = [
            ScalarRow(step, "train", layer, 0, quantity, float(values[step - 1]))
            for (quantity, layer), values in made.items()
            if (quantity == NET or step % every == 0) and step <= len(values)
        ]
        if loss is not None:
            rows.append(ScalarRow(step, "train", None, 0, "loss", float(loss[step - 1])))
        writer.add_scalars(rows)
    writer.close("completed")
    return path


BETWEEN = {"act1": "fc2", "drop1": "fc2", "act2": "fc3, batch norm", "drop2": "fc3, batch norm", "act3": "fc4"}


def flow_runs(
    folder: Path, seeds: Sequence[int] = (0, 1, 2), *, every: int = 1, steps: int = 40, paths: Sequence[str] = ()
) -> Runs:
    """Two conditions of three activations; one has a dropout behind the first two, the other none."""
    acts, drops = ["act1", "act2", "act3"], ["drop1", "drop2"]
    found: dict[str, list[Path]] = {"No dropout": [], "Dropout": []}
    for seed in seeds:
        plain = readings(acts, paths=paths, steps=steps, seed=seed)
        dropped = readings(acts, drops, paths, steps=steps, seed=100 + seed)
        for condition, made, order in (
            ("No dropout", plain, acts),
            ("Dropout", dropped, ["act1", "drop1", "act2", "drop2", "act3"]),
        ):
            at = folder / f"{condition.lower().replace(' ', '-')}-s{seed}"
            next_ = {one: BETWEEN[one] for one in order if f"drop{one[-1]}" not in order or one in drops}
            found[condition].append(
                write_flow(at, made, order, condition=condition, seed=seed, every=every, between=next_)
            )
    return load(found)
