"""Gradient flow in four cells, two sets of weights by masks off and on, and what the cells come to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dropdiag.formatting import plain
from dropdiag.measure.flows.flow import LayerFlow
from dropdiag.measure.result import Cost
from dropdiag.printable import printable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LayerMasksByWeights:
    """One activation's gradient flow in four cells, and what they come to. Effects are natural logarithms of ratios.

    Attributes
    ----------
    layer : str
        Its name in the dropout condition.
    call : int
    baseline, dropout : LayerFlow
        Under the weights of either condition.
    weights, masks : float
        Main effects: the mean over masks off and on of the log ratio of the weights, dropout condition to baseline; and
        the mean over both weights of the log ratio of masks, on to off. Together the log ratio of the dropout condition
        as it trains to the baseline as it trains. NaN where a cell is missing or 0.
    interaction : float
        By how much more masks do under the weights of the dropout condition than under the baseline's.
    weights_se, masks_se, interaction_se : float
        Standard errors over masks, to first order. Masks are the same in both models, which makes them smaller.

    Examples
    --------
    >>> base = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0), nn.Linear(8, 3))
    >>> other = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
    >>> models = {"No dropout": base, "Dropout": other}
    >>> layer = dd.measure.masks_by_weights(models, x, F.cross_entropy, y, masks=4).layers[0]
    >>> layer.layer, layer.baseline.layer
    ('1', '1')
    """

    layer: str
    call: int
    baseline: LayerFlow
    dropout: LayerFlow
    weights: float = field(init=False)
    masks: float = field(init=False)
    interaction: float = field(init=False)
    weights_se: float = field(init=False)
    masks_se: float = field(init=False)
    interaction_se: float = field(init=False)

    def __post_init__(self) -> None:
        a0, a1 = _log(self.baseline.masks_off), _log(self.baseline.masks_on)
        b0, b1 = _log(self.dropout.masks_off), _log(self.dropout.masks_on)
        # the change of ln(mean) with each mask's value, to first order
        a, b = self.baseline.by_mask / math.exp(a1), self.dropout.by_mask / math.exp(b1)
        found = {
            "weights": (((b0 - a0) + (b1 - a1)) / 2, (b - a) / 2),
            "masks": (((a1 - a0) + (b1 - b0)) / 2, (a + b) / 2),
            "interaction": ((b1 - b0) - (a1 - a0), b - a),
        }
        for name, (effect, influence) in found.items():
            object.__setattr__(self, name, effect)
            object.__setattr__(self, f"{name}_se", float(influence.std(ddof=1) / math.sqrt(influence.size)))


@dataclass(frozen=True)
class MasksByWeights:
    """What `masks_by_weights` gives for two models.

    Attributes
    ----------
    baseline, dropout : str
        The conditions; masks are those of the second.
    layers : tuple of LayerMasksByWeights
        In network order.
    masks : int
    cost : Cost
    seed : int

    Examples
    --------
    >>> base = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0), nn.Linear(8, 3))
    >>> other = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
    >>> models = {"No dropout": base, "Dropout": other}
    >>> found = dd.measure.masks_by_weights(models, x, F.cross_entropy, y, masks=4)
    >>> found.baseline, found.dropout, found.layers[0].layer
    ('No dropout', 'Dropout', '1')
    """

    baseline: str
    dropout: str
    layers: tuple[LayerMasksByWeights, ...]
    masks: int
    cost: Cost
    seed: int

    @property
    def table(self) -> pd.DataFrame:
        """One row a layer: four cells (weights and masks), both main effects, interaction, standard errors over masks.

        Columns layer, call; flow_baseline_off, flow_baseline_on, flow_dropout_off, flow_dropout_on (mean of |dL/dz|),
        each of those with masks with ``_se``; weights, masks, interaction (log ratios), each with ``_se``.

        Examples
        --------
        >>> base = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0), nn.Linear(8, 3))
        >>> other = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> models = {"No dropout": base, "Dropout": other}
        >>> list(dd.measure.masks_by_weights(models, x, F.cross_entropy, y, masks=4).table.columns[:2])
        ['layer', 'call']
        """
        import pandas as pd  # noqa: PLC0415 - measuring needs no pandas

        return pd.DataFrame([_row(layer) for layer in self.layers])

    def __str__(self) -> str:
        head = f"Masks by weights: {self.dropout!r} beside {self.baseline!r}, {self.masks} masks, {self.cost}"
        lines = [
            f"  {printable(one.layer)}: weights x{_factor(one.weights)}, masks x{_factor(one.masks)}, "
            f"interaction x{_factor(one.interaction)}"
            for one in self.layers
        ]
        return "\n".join([head, *lines])


def _log(value: float | None) -> float:
    return math.log(value) if value else math.nan


def _row(one: LayerMasksByWeights) -> dict[str, object]:
    cells: dict[str, object] = {"layer": one.layer, "call": one.call}
    for name, flow in (("baseline", one.baseline), ("dropout", one.dropout)):
        cells |= {f"flow_{name}_off": flow.masks_off, f"flow_{name}_on": flow.masks_on}
        cells[f"flow_{name}_on_se"] = flow.masks_on_se
    for effect in ("weights", "masks", "interaction"):
        cells |= {effect: getattr(one, effect), f"{effect}_se": getattr(one, f"{effect}_se")}
    return cells


def _factor(log_ratio: float) -> str:
    return plain(math.exp(log_ratio))
