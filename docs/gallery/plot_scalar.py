"""
Any scalar
----------

Any scalar quantity over training, also one of a probe of your own.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.scalar(runs, "node_correlation_abs_mean")

# %%
# What a run holds:
runs.scalars["quantity"].unique()
