"""Which layers of a network are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Layers(NamedTuple):
    """The layers that are shown, from the first to the last: module name -> title.

    Attributes
    ----------
    weights, activations : mapping
        Modules that hold the weights, and the activation functions; the titles are the same.
    """

    weights: Mapping[str, str]
    activations: Mapping[str, str]
