"""Where phi' is how great: the saturation area of an activation, and its derivative, at net values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dropdiag.model.activations import EVERYWHERE, Activation, describe, describe_function, phi_of, slope_at
from dropdiag.model.sites import Site


def activation_of(site: Site) -> Activation | None:
    """Measure the derivative of a site's activation, module or function; None where saturation has no meaning."""
    if not site.functional:
        return describe(site.module)
    return None if site.phi is None else describe_function(str(site.activation), site.phi)


def slope_of(site: Site) -> Callable[[Tensor], Tensor]:
    """Return phi' of a site's activation, of a float64 tensor on any device; 0 where it has no meaning."""
    phi = site.phi if site.functional else phi_of(site.module)
    if phi is None:
        return torch.zeros_like
    if site.functional:
        return partial(slope_at, phi)
    on_host = bool([*site.module.parameters(), *site.module.buffers()])  # phi holds copies of them

    return lambda z: slope_at(phi, z.cpu() if on_host else z).to(z.device)


def inside(activation: Activation | None, z: Tensor) -> Tensor:
    """Whether net values lie in the saturation area; nowhere where that has no meaning."""
    inside = torch.zeros(z.shape, dtype=torch.bool, device=z.device)
    for low, high in () if activation is None else (*activation.left, *activation.right):
        inside |= (z >= low) & (z <= high)
    return inside


def known_at(activation: Activation | None, means: Tensor) -> Activation | None:
    """Return an activation whose saturation area is known at all these net values, else None: one that oscillates."""
    return None if bool(is_beyond(activation, means)) else activation


def is_beyond(activation: Activation | None, z: Tensor) -> Tensor:
    """Whether a net value lies where the saturation area is not known; a tensor of bool, shape ()."""
    low, high = EVERYWHERE if activation is None else activation.known
    return ((z < low) | (z > high)).any()
