"""
Learning
--------

Any scalar that was given to `step()` and `log()`, by condition over seeds.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.learning(runs)

# %%
dd.analysis.learning.best(runs)
