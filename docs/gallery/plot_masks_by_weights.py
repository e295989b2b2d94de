"""
Masks or weights
----------------

Gradient flow of one batch, with masks off and on, under the weights of either condition: whether what dropout changes
is the masks' doing or that of the weights that they led to.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.masks_by_weights(runs)

# %%
dd.analysis.masks_by_weights.table(runs)
