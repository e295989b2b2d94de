"""Weights that are no parameters: a forward pre-hook makes them of others at each pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_LAYERS: Final = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.modules.conv._ConvNd)


def parametrizations_of(module: nn.Module) -> Mapping[str, Any]:
    """Return what torch.nn.utils.parametrize keeps in a module: the parametrisations by the name of their weight."""
    # Of the table: an attribute that is missing takes a module a hundred times as long to say so.
    found: Any = module._modules.get("parametrizations")
    return {} if found is None else found


def made_weights(module: nn.Module) -> list[str]:
    """Return the names of a module's weights that a hook makes.

    Parameters
    ----------
    module : nn.Module
        Of it alone: its children are not looked at.

    Returns
    -------
    list of str
        Those that torch's own hooks make (the old ``weight_norm`` and ``spectral_norm``, pruning), the ``weight`` of a
        linear layer, an embedding or a convolution, and the weights of a recurrent layer, where they are no parameters,
        and tensors that a module has beside a parameter of the same name and a suffix (``w`` and ``w_raw``).
    """
    own = module._parameters
    names = [name for name, _ in _makers(module)] + _expected(module)
    names += [name for name, value in vars(module).items() if isinstance(value, Tensor) and _parts(module, name)]
    parametrized = parametrizations_of(module)
    # A dropout on weights gives the very parameter back in evaluation mode, and the module takes it for one of its own.
    names += [name for name, value in own.items() if value is not None and _is_part(module, name)]
    made = [name for name in dict.fromkeys(names) if own.get(name) is None or _is_part(module, name)]
    return [name for name in made if name not in parametrized]


def parts_of(module: nn.Module, made: list[str]) -> dict[str, str]:
    """Return the parameters that made weights are made of, with the name of what is made of them."""
    return {part: name for name in made for part in _parts(module, name)}


def made_weight(module: nn.Module, name: str) -> Any:
    """Return a weight that a hook makes, as the next forward pass in evaluation mode would use it.

    Parameters
    ----------
    module : nn.Module
        Not changed: of spectral norm, no step of the power iteration is taken.
    name : str

    Returns
    -------
    Tensor or None
        What torch's own hooks make; of other hooks, what the last forward pass used. None before the first.
    """
    shadow = _Shadow(module)
    with torch.no_grad():
        for made, make in _makers(module):
            setattr(shadow, made, make(shadow))
    return getattr(shadow, name, None)


def made_of(module: nn.Module, name: str) -> str | None:
    """Return what a weight is made of, where it is no parameter, and how it is known; None where it is one."""
    if name in parametrizations_of(module):
        return "made by a parametrisation: no gradient of its own"
    if module._parameters.get(name) is not None and not _is_part(module, name):
        return None
    parts = ", ".join([*_parts(module, name), *(part for part in module._buffers if part.startswith(f"{name}_"))])
    computed = any(made == name for made, _ in _makers(module))
    known = "" if computed else ", as the last forward pass used it"
    return f"made by a hook{known}{parts and ' of '}{parts}: no gradient of its own"


class _Shadow:
    """Has what a module has, and keeps for itself what a hook sets: hooks build on what earlier ones made."""

    def __init__(self, module: nn.Module) -> None:
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _makers(module: nn.Module) -> Iterator[tuple[str, Callable[[Any], Tensor]]]:
    """Give the weights that torch's own hooks make, and how, in the order in which they are made."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield hook.name, hook.compute_weight
        elif isinstance(hook, SpectralNorm):
            yield hook.name, functools.partial(hook.compute_weight, do_power_iteration=False)
        elif isinstance(hook, BasePruningMethod) and hook._tensor_name is not None:
            yield hook._tensor_name, hook.apply_mask


def _is_part(module: nn.Module, name: str) -> bool:
    """Whether a parameter is the same as one that it is made of."""
    own = module._parameters
    return any(own[part] is own[name] for part in _parts(module, name))


def _expected(module: nn.Module) -> list[str]:
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight")]
    return ["weight"] if isinstance(module, _LAYERS) else []


def _parts(module: nn.Module, name: str) -> list[str]:
    expected = _expected(module)  # `weight_hh_l0_reverse` is no part of `weight_hh_l0`
    return [part for part in module._parameters if part.startswith(f"{name}_") and part not in expected]
