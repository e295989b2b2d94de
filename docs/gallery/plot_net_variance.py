"""
Net variance
------------

The variance that dropout masks give to each net value, beside its closed form.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.net_variance(runs)

# %%
# Measured at one rate in every condition, so that networks without dropout have one too.
dd.analysis.net_variance.table(runs)
