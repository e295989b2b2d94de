"""
Any distribution
----------------

Any quantity that is recorded as a histogram, also one of a probe of your own.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.distribution(runs, "net_grad")

# %%
runs[0].steps("net_grad", "train")
