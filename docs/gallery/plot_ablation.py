"""
Ablation
--------

What groups of nodes do together beyond what each does alone: causal co-adaptation.
"""

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*", "GAAF": "runs/gaaf-*"})
figure = dd.plots.ablation(runs)

# %%
dd.analysis.ablation.table(runs)
