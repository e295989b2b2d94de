"""
Where gradient flow comes from
------------------------------

The ratio of two conditions' gradient flow, split into factors whose product it is.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = dd.plots.flow_decomposition(runs)

# %%
# The same in bins of training:
other = dd.plots.flow_decomposition(runs, over="training")
