"""
Weights
-------

Distributions of every weight matrix at the end of training, a panel a layer, pooled over seeds.
Densities are made of exact counts.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.weights(runs)

# %%
# What it does not show: which weights moved. A layer whose weights hardly differ from their start looks like its
# initialisation.
#
# The numbers, over seeds:
dd.analysis.weights.table(runs)
