"""The full Hessian of a small network, by torch.autograd.functional: slow, and independent of dropdiag."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


def full_hessian(model: nn.Module, loss: Callable[[Callable[..., Tensor]], Tensor]) -> Tensor:
    """Return the Hessian in all trainable parameters, in the order of named_parameters().

    ``loss`` takes a function that stands for the model and returns the loss.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]
    shapes = [p.shape for p in parameters.values()]

    def of_row(row: Tensor) -> Tensor:
        parts = {name: x.view(shape) for name, x, shape in zip(parameters, row.split(sizes), shapes, strict=True)}
        return loss(lambda *batch: functional_call(model, parts, batch))

    row = torch.cat([p.reshape(-1) for p in parameters.values()])
    return torch.autograd.functional.hessian(of_row, row)


def spans(model: nn.Module) -> dict[str, slice]:
    """Return where each trainable parameter lies in a row of all of them."""
    found, at = {}, 0
    for name, p in model.named_parameters():
        if p.requires_grad:
            found[name] = slice(at, at + p.numel())
            at += p.numel()
    return found


def relative_flatness(rows: Tensor, block: Tensor) -> float:
    """Return sum over nodes s, s' of <w_s, w_s'> tr(H_ss'), as Petzka et al. (2021) write it, by loops.

    ``rows`` has the shape (nodes, inputs), ``block`` the Hessian in its numbers, row by row.
    """
    nodes, inputs = rows.shape
    cube = block.view(nodes, inputs, nodes, inputs)
    total = 0.0
    for s in range(nodes):
        for t in range(nodes):
            total += float(rows[s] @ rows[t]) * float(torch.diagonal(cube[s, :, t]).sum())
    return total
