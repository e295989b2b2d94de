"""
Direction of gradients
----------------------

How far the gradients of mini-batches agree, with masks on and off.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.gradient_direction(runs)

# %%
dd.analysis.measured.table(runs, "gradient_direction")
