"""
The ensemble of thinned networks
--------------------------------

The output without masks beside means over masks.
"""

import dropdiag as dd

runs = dd.load({"Dropout": "runs/dropout-*"})
figure = dd.plots.ensemble(runs)

# %%
dd.analysis.ensemble.table(runs)
