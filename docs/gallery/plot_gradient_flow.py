r"""
Gradient flow
-------------

Mean \|dL/dz\| of each layer at every training step, by condition.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.gradient_flow(runs)

# %%
# It is in units of the loss: it falls with the batch size where the loss is a mean, and with the loss itself. Compare
# it at equal loss as well.
other = dd.plots.gradient_flow(runs, against="loss")
