"""Net variance as it was measured on a model: plain arrays, which both sides can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dropdiag.deprecation import warn_of
from dropdiag.histograms.histogram import Histogram

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Areas = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LayerNetVariance:
    """One activation's net values over dropout masks at fixed input.

    Attributes
    ----------
    layer : str
    call : int
        Call index of the module within one forward pass.
    masks : int
        Passes in which it was called: all of them, unless the model leaves layers out at random.
    mean, variance : ndarray of float64, shape of the net value (batch first)
        Over masks, of each net value; the variance is the unbiased one (n - 1). Net-value units, and squared.
    closed_form : ndarray of float64, same shape, or None
        ``p/(1-p) sum_i w_i^2 x_i^2`` where a dropout comes right before the layer: the variance that its masks alone
        give, x being the node values without masks. None where none does.
    derivative : ndarray of float64, shape (32640,), or None
        |phi'| on the grid's finite bins, in order of the real line; None where saturation has no meaning.
    left, right : tuple of (low, high)
        The saturation area (see `Activation`).
    masked_net_values : Histogram
        Net values over masks of the nodes whose mean lies in the saturation area.
    gradient_probability : float
        Share of those net values with phi' outside the saturation area; NaN where no mean lies in it.
    slope_over_masks, slope_at_mean : float
        Mean of |phi'| over those net values, and at their means.
    gradient_net_means : Histogram or None
        The saturated means, each counted once for every mask that takes its net value out of the saturation area: so
        many, divided by the masks and by the count of `saturated_net_means` in the same bin, is the gradient
        probability there. None where no mean lies in the area, or where masks lead to net values at which it is not
        known.

    Examples
    --------
    >>> layer = dd.measure.net_variance(model, batch, masks=64)[1]
    >>> layer.layer, layer.variance.shape, layer.closed_form.shape
    ('act2', (60, 8), (60, 8))
    """

    layer: str
    call: int
    masks: int
    mean: Floats = field(repr=False)
    variance: Floats = field(repr=False)
    closed_form: Floats | None = field(repr=False)
    derivative: Floats | None = field(repr=False)
    left: Areas
    right: Areas
    masked_net_values: Histogram
    gradient_probability: float
    slope_over_masks: float
    slope_at_mean: float
    gradient_net_means: Histogram | None = None

    @property
    def wandering(self) -> Histogram:
        """The old name of `masked_net_values`."""
        warn_of("LayerNetVariance.wandering", "LayerNetVariance.masked_net_values")
        return self.masked_net_values

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Whether the mean net value lies in the saturation area; same shape as `mean`.

        Examples
        --------
        >>> layer = dd.measure.net_variance(model, batch, masks=16)[1]
        >>> layer.saturated.dtype
        dtype('bool')
        """
        inside = np.zeros(self.mean.shape, dtype=np.bool_)
        for low, high in (*self.left, *self.right):
            inside |= (self.mean >= low) & (self.mean <= high)
        return inside

    @property
    def saturated_net_means(self) -> Histogram:
        """The means that lie in the saturation area.

        Examples
        --------
        >>> layer = dd.measure.net_variance(model, batch, masks=16)[1]
        >>> layer.saturated_net_means.n == layer.saturated.sum()
        np.True_
        """
        return Histogram.from_values(self.mean[self.saturated])

    def scalars(self) -> dict[str, float]:
        """Return what is recorded of the layer as numbers, by quantity; NaN where there is none.

        Examples
        --------
        >>> layer = dd.measure.net_variance(model, batch, masks=16)[1]
        >>> "net_variance_mean" in layer.scalars()
        True
        """
        closed = np.nan if self.closed_form is None else float(self.closed_form.mean())
        return {
            "net_variance_mean": float(self.variance.mean()),
            "net_variance_closed_form_mean": closed,
            "saturated_mean_share": float(self.saturated.mean()) if self.derivative is not None else np.nan,
            "gradient_probability": self.gradient_probability,
            "slope_over_masks": self.slope_over_masks,
            "slope_at_mean": self.slope_at_mean,
        }

    def histograms(self) -> dict[str, Histogram]:
        """Return what is recorded of the layer as distributions, by quantity.

        Examples
        --------
        >>> layer = dd.measure.net_variance(model, batch, masks=16)[1]
        >>> "net_variance" in layer.histograms()
        True
        """
        gradient = self.gradient_net_means
        return {
            "net_variance": Histogram.from_values(self.variance),
            "masked_net_mean": Histogram.from_values(self.mean),
            "wandering_net_value": self.masked_net_values,
            "saturated_net_mean": self.saturated_net_means,
            **({} if gradient is None else {"gradient_net_mean": gradient}),
        }


@dataclass(frozen=True)
class NetVariance(Sequence[LayerNetVariance]):
    """Net variance of a model's layers, in network order: a sequence of `LayerNetVariance`.

    Attributes
    ----------
    layers : tuple of LayerNetVariance
    masks : int
        Over how many masks.
    p : float or None
        The rate that was asked for; None where the model's own held.

    Examples
    --------
    >>> found = dd.measure.net_variance(model, batch, masks=16)
    >>> len(found), found.masks
    (2, 16)
    """

    layers: tuple[LayerNetVariance, ...]
    masks: int
    p: float | None

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, key: int | str) -> LayerNetVariance:  # type: ignore[override]
        """Return a layer by its place or by its name (of its first call)."""
        if isinstance(key, str):
            found = [layer for layer in self.layers if layer.layer == key]
            if not found:
                raise KeyError(f"{key!r}; the layers are {', '.join(layer.layer for layer in self.layers)}")
            return found[0]
        return self.layers[key]

    @property
    def table(self) -> pd.DataFrame:
        """One row a layer: layer, call, net_values (their number), then `LayerNetVariance.scalars`.

        Examples
        --------
        >>> dd.measure.net_variance(model, batch, masks=16).table[["layer", "net_values"]]
          layer  net_values
        0  act1         480
        1  act2         480
        """
        import pandas as pd  # noqa: PLC0415 - measuring needs no pandas

        rows = [{"layer": a.layer, "call": a.call, "net_values": a.mean.size, **a.scalars()} for a in self.layers]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"NetVariance of {self.masks} masks\n{self.table.to_string(index=False)}"
