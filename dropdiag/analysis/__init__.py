"""One file a question; pure functions from runs (or frames) to frames.

`weights`, `correlation`, `gradient_flow`, `saturation`, `net_variance` and `learning` answer the paper's questions
as tables (over seeds) and curves; `dropouts` has a table of what each dropout does; `kde` makes density curves and
bars of any histogram quantity, `scalar` curves over training of any scalar quantity; `compare` sets conditions side by
side; `seeds` holds the statistics over runs, `select` the choice of rows, `phases` that of one phase for all runs,
`gaaf` the formulas of Figure 6. Nothing here draws, and nothing imports torch.
"""

from dropdiag.analysis import (
    compare,
    correlation,
    dropouts,
    gaaf,
    gradient_flow,
    kde,
    learning,
    net_variance,
    phases,
    saturation,
    scalar,
    seeds,
    select,
    weights,
)

__all__ = [
    "compare",
    "correlation",
    "dropouts",
    "gaaf",
    "gradient_flow",
    "kde",
    "learning",
    "net_variance",
    "phases",
    "saturation",
    "scalar",
    "seeds",
    "select",
    "weights",
]
