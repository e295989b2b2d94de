"""Who holds the rate of a dropout: interventions lie over each other and go in any order."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Final

from torch import nn


@dataclass
class _Layer:
    """One value that a rate was given; `owner` is None for what somebody else gave it."""

    owner: object | None
    value: Any


_SLOTS: Final[weakref.WeakKeyDictionary[nn.Module, dict[str, list[_Layer]]]] = weakref.WeakKeyDictionary()
"""Of each module, by attribute: the rate of its own, and over it what was given to it since; the last one counts."""


def own_rate(module: nn.Module, attribute: str) -> Any:
    """Return the rate that a module had before all interventions that are in force."""
    layers = _SLOTS.get(module, {}).get(attribute)
    return layers[0].value if layers else getattr(module, attribute, None)


def put(module: nn.Module, attribute: str, owner: object, rate: float) -> None:
    """Give a module a rate, over all that hold it."""
    layers = _up_to_date(module, attribute)
    layers.append(_Layer(owner, rate))
    setattr(module, attribute, rate)


def change(module: nn.Module, attribute: str, owner: object, rate: float) -> bool:
    """Change the rate that an owner gave; under a later one it shows once that is gone.

    Returns
    -------
    bool
        False where somebody else has changed the rate since: it is left to them from then on.
    """
    layers = _up_to_date(module, attribute)
    mine = _of(layers, owner)
    if mine is None:
        return True
    was, mine.value = mine.value, rate
    if layers[-1] is mine:
        if was != rate:
            setattr(module, attribute, rate)
        return True
    return layers[-1].owner is not None


def take_off(module: nn.Module, attribute: str, owner: object) -> bool:
    """Take off what an owner gave; the rate becomes that of the layer below, unless another one lies over it.

    Returns
    -------
    bool
        False where somebody else has changed the rate since, who keeps it.
    """
    layers = _up_to_date(module, attribute)
    mine = _of(layers, owner)
    if mine is None:
        return True
    above = layers[layers.index(mine) + 1 :]
    layers.remove(mine)
    if not above:
        setattr(module, attribute, layers[-1].value)
    if all(layer.owner is None for layer in layers):
        del _SLOTS[module][attribute]
    return all(layer.owner is not None for layer in above)


def _of(layers: list[_Layer], owner: object) -> _Layer | None:
    return next((layer for layer in layers if layer.owner is owner), None)


def _up_to_date(module: nn.Module, attribute: str) -> list[_Layer]:
    """Return the layers of a rate, the last of which is what it is now."""
    layers = _SLOTS.setdefault(module, {}).setdefault(attribute, [])
    now = getattr(module, attribute, None)
    if not layers or layers[-1].value != now:
        layers.append(_Layer(None, now))
    return layers
