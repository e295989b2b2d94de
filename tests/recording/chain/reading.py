"""What a step records of the chain, and the same by autograd on tensors that are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import dropdiag as dd

Values = dict[tuple[str, str, int], float | None]
PROBES = ("gradient_flow", "flow_decomposition")


def read(run: dd.Run, step: int = 1) -> Values:
    """Return the gradients of a step by quantity, layer and call."""
    table = run.scalars
    table = table[(table.step == step) & table.quantity.str.endswith("grad_abs_mean")]
    return {
        (row.quantity.removesuffix("_grad_abs_mean"), row.layer, row.call): None
        if row.value != row.value
        else float(row.value)
        for row in table.itertuples()
    }


def recorded(folder, model: nn.Module, steps: Callable[[nn.Module], object], **options) -> dd.Run:
    """Record three training steps that are alike: what `steps` does with the model, from the same random state."""
    with dd.Recorder(model, folder, **{"probes": PROBES, "every": 1, "strict": True, **options}) as rec:
        for _ in range(3):
            torch.manual_seed(0)
            model.zero_grad()
            steps(model)
            rec.step()
    run = dd.load(folder)
    # known ways are gone without a look at the graph from the second or third step on
    assert read(run, 1) == read(run, 2) == read(run, 3)
    return run


def size(gradient: Tensor) -> float:
    return gradient.abs().mean().item()


def kept(model: nn.Module, steps: Callable[[nn.Module], Tensor], sites: Mapping[str, str]) -> Values:
    """Return the mean |gradient| of what enters and leaves modules, by plain autograd on a copy of the model.

    Parameters
    ----------
    model : nn.Module
    steps : callable
        Computes the loss and goes backward.
    sites : mapping
        Module -> "activation" or "dropout".
    """
    model = copy.deepcopy(model)
    tensors: list[tuple[tuple[str, str, int], Tensor]] = []
    calls: dict[str, int] = {}

    def hook(name: str, kind: str):
        def keep(_module, inputs, output):
            call = calls[name] = calls.get(name, -1) + 1
            below, above = ("net", "node") if kind == "activation" else ("mask_input", "mask_output")
            for quantity, tensor in ((below, inputs[0]), (above, output)):
                if tensor.requires_grad:
                    tensor.retain_grad()
                    tensors.append(((quantity, name, call), tensor))

        return keep

    for name, kind in sites.items():
        model.get_submodule(name).register_forward_hook(hook(name, kind))

    def keep_output(_module, _inputs, output):
        output.retain_grad()
        tensors.append((("output", "(output)", 0), output))

    model.register_forward_hook(keep_output)
    torch.manual_seed(0)
    steps(model)
    return {key: size(tensor.grad) for key, tensor in tensors}


def layout(run: dd.Run) -> list[tuple[str, str, int]]:
    return [(row["kind"], row["layer"], row["call"]) for row in run.meta["chain"]]


def row(run: dd.Run, kind: str, layer: str, call: int = 0) -> dict:
    return next(r for r in run.meta["chain"] if (r["kind"], r["layer"], r["call"]) == (kind, layer, call))


def after(run: dd.Run, kind: str, layer: str, call: int = 0) -> tuple[str, str, int] | None:
    """Return the tensor that another one leads to."""
    number = row(run, kind, layer, call)["next"]
    return None if number is None else layout(run)[number]


def flow(run: dd.Run, layer: str, call: int = 0, step: int = 1) -> float:
    """Return gradient flow as the product of the output error and all terms down to a layer."""
    values, key, ratios = read(run, step), ("net", layer, call), []
    while (upper := after(run, *key)) is not None:
        ratios.append(values[key] / values[upper])
        key = upper
    assert key[0] == "output"
    product = values[key]
    for ratio in reversed(ratios):
        product *= ratio
    return product
