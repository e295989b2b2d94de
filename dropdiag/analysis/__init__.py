"""One file a question; pure functions from runs (or frames) to frames.

`weights`, `correlation`, `gradient_flow`, `saturation`, `net_variance` and `learning` answer the paper's questions
as tables (over seeds) and curves; `flow_decomposition` says where the gradient flow comes from, `masks_by_weights`
whether masks or weights make it; `dropouts` has a table of what each dropout does, `health` one of dead nodes and of
how far weights move, `multiple_correlation` one of what the nodes of a layer tell of each other; `measured` reads
what active measurements found; `kde` makes density curves and bars of any histogram quantity, `scalar` curves over
training of any scalar quantity; `compare` sets conditions side by side, `dose_response` what runs measured against a
number that they differ by; `seeds` holds the statistics over runs, `select` the choice of rows, `phases` that of one
phase for all runs, `gaaf` the formulas of Figure 6. Nothing here draws, and nothing imports torch.
"""

from dropdiag.analysis import (
    ablation,
    compare,
    correlation,
    dose_response,
    dropouts,
    ensemble,
    flow_decomposition,
    gaaf,
    gradient_flow,
    health,
    kde,
    learning,
    masks_by_weights,
    measured,
    multiple_correlation,
    net_variance,
    phases,
    saturation,
    scalar,
    seeds,
    select,
    weights,
)

__all__ = [
    "ablation",
    "compare",
    "correlation",
    "dose_response",
    "dropouts",
    "ensemble",
    "flow_decomposition",
    "gaaf",
    "gradient_flow",
    "health",
    "kde",
    "learning",
    "masks_by_weights",
    "measured",
    "multiple_correlation",
    "net_variance",
    "phases",
    "saturation",
    "scalar",
    "seeds",
    "select",
    "weights",
]
