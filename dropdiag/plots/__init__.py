"""The paper's figures, drawn from runs: one file a figure.

Each function here takes runs and returns a matplotlib Figure that belongs to no pyplot: `weights` (Figure 1),
`correlation` (Figure 2), `gradient_flow` (Figure 3 and Table 2), `net_variance` (Figure 4), `saturation` (Figure 5),
`gaaf` (Figure 6), `flow_decomposition`, `dropouts`, `dose_response`, `health` and `learning`; `masks_by_weights`,
`ensemble`, `flatness`, `robustness`, `ablation` and `gradient_direction` draw what was measured under these names;
`scalar` and `distribution` draw any quantity, also one of a probe of your own; `save` writes a figure as PNG, SVG and
PDF. For a figure of your own, the submodules hold functions that draw one panel from a frame of `dropdiag.analysis`
into given axes. Statistics never draw, drawing never computes.
"""

from dropdiag.plots.ablation import ablation
from dropdiag.plots.correlation import correlation
from dropdiag.plots.distribution import distribution, weights
from dropdiag.plots.dose_response import dose_response
from dropdiag.plots.dropouts import dropouts
from dropdiag.plots.ensemble import ensemble
from dropdiag.plots.flatness import flatness
from dropdiag.plots.flow_decomposition import flow_decomposition
from dropdiag.plots.gaaf import gaaf
from dropdiag.plots.gradient_direction import gradient_direction
from dropdiag.plots.gradient_flow import gradient_flow
from dropdiag.plots.health import health
from dropdiag.plots.learning import learning
from dropdiag.plots.masks_by_weights import masks_by_weights
from dropdiag.plots.net_variance import net_variance
from dropdiag.plots.robustness import robustness
from dropdiag.plots.saturation import saturation
from dropdiag.plots.scalar import scalar
from dropdiag.plots.style import save

__all__ = [
    "ablation",
    "correlation",
    "distribution",
    "dose_response",
    "dropouts",
    "ensemble",
    "flatness",
    "flow_decomposition",
    "gaaf",
    "gradient_direction",
    "gradient_flow",
    "health",
    "learning",
    "masks_by_weights",
    "net_variance",
    "robustness",
    "saturation",
    "save",
    "scalar",
    "weights",
]
