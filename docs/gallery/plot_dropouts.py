"""
Dropouts
--------

What each dropout drops, and its noise beside the signal.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.dropouts(runs)

# %%
dd.analysis.dropouts.table(runs)
