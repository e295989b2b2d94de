"""
Robustness
----------

How loss and accuracy bear noise on the inputs.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.robustness(runs)

# %%
dd.analysis.measured.table(runs, "robustness")
