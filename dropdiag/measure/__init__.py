"""Active measurements: forward passes of their own that leave the model as it was.

`net_variance`
    The variance that dropout masks give to each net value, beside its closed form, and the gradient that saturated
    nodes get from it.
`NetVariance`, `LayerNetVariance`
    What it returns.
"""

from dropdiag.measure.net_variance import net_variance
from dropdiag.store.net_variance import LayerNetVariance, NetVariance

__all__ = ["LayerNetVariance", "NetVariance", "net_variance"]
