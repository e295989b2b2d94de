"""
Node correlation
----------------

Pearson r of every pair of nodes of a layer over held-out digits, before the dropout's mask.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.correlation(runs)

# %%
# Finite data alone make \|r\| > 0: the null is drawn beside it.
#
# The numbers, over seeds:
dd.analysis.correlation.table(runs)
