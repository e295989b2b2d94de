"""
Norms of health
---------------

Dead and always-saturated nodes, and how far weights move; hollow marks are the start of training.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.health(runs)

# %%
dd.analysis.health.table(runs)
