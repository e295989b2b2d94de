"""What an ablation gives, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dropdiag.measure.result import Result, Value
from dropdiag.store.schema import at


@dataclass(frozen=True)
class LayerAblation:
    """What was found at one call of an activation.

    Attributes
    ----------
    layer : str
    call : int
    nodes : int
    interaction, null, null_sd : float or None
        See `ablation`.
    p : float or None
        Share of random regroupings, the one observed included, with an interaction as great as the observed or greater.
    loss, loss_se, accuracy, accuracy_se : tuple of float
        At each share: the mean over random orders and its standard error. Empty where there is none.
    why : str or None
        Why there is no interaction.

    Examples
    --------
    >>> found = dd.measure.ablation(model, x, F.cross_entropy, y, groups=4, permutations=2)
    >>> found.layers[0].layer, found.layers[0].nodes
    ('act1', 8)
    """

    layer: str
    call: int = 0
    nodes: int = 0
    interaction: float | None = None
    null: float | None = None
    null_sd: float | None = None
    p: float | None = None
    loss: tuple[float, ...] = ()
    loss_se: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    accuracy_se: tuple[float, ...] = ()
    why: str | None = None


@dataclass(frozen=True)
class Ablation(Result):
    """Result of `ablation`.

    Attributes
    ----------
    layers : tuple of LayerAblation
        In the order in which they were called; then those that were not reached.
    shares : tuple of float
    orders, permutations, groups : int
    no_accuracy : str or None
        Why there is no accuracy.

    Examples
    --------
    >>> found = dd.measure.ablation(model, x, F.cross_entropy, y, groups=4, permutations=2)
    >>> found.groups, len(found.layers)
    (4, 2)
    """

    name: ClassVar[str] = "ablation"
    layers: tuple[LayerAblation, ...]
    shares: tuple[float, ...]
    orders: int
    permutations: int
    groups: int
    no_accuracy: str | None = None

    def values(self) -> Iterator[Value]:
        """Give all numbers, layer by layer."""
        for one in self.layers:
            for name in ("interaction", "null", "null_sd"):
                quantity = "ablation_interaction" if name == "interaction" else f"ablation_interaction_{name}"
                yield Value(quantity, getattr(one, name), one.layer, one.call, why=one.why)
            for name in ("loss", "accuracy"):
                yield from self._curve(one, name)

    def _curve(self, one: LayerAblation, name: str) -> Iterator[Value]:
        for curve in (name, f"{name}_se"):
            found = getattr(one, curve) or (None,) * len(self.shares)
            why = (self.no_accuracy if name == "accuracy" else None) or one.why
            for share, value in zip(self.shares, found, strict=True):
                yield Value(at(f"ablated_{curve}", share), value, one.layer, one.call, why=why)
