"""
Saturation
----------

Net values on held-out digits, and the share of them in the saturation area of tanh (shaded).
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.saturation(runs)

# %%
# For GAAF the area is that of the base function: GAAF itself is not flat there.
#
# The shares, over seeds:
dd.analysis.saturation.table(runs)
