"""
Flatness
--------

How flat the loss is around the weights.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.flatness(runs)

# %%
# Every number of an active measurement is in a table:
dd.analysis.measured.table(runs, "flatness")
