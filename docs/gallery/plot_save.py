"""
Save a figure, or make your own
-------------------------------

Figures are matplotlib's, and take axes of yours.
"""

import tempfile

from matplotlib.figure import Figure

import dropdiag as dd

runs = dd.load({"No dropout": "runs/base-*", "Dropout": "runs/dropout-*"})
figure = Figure(figsize=(5, 3), layout="constrained")
dd.plots.learning(runs, ["accuracy"], ax=figure.subplots())

# %%
# PNG, SVG and PDF, each written whole or not at all:
[path.name for path in dd.plots.save(figure, tempfile.mkdtemp() + "/accuracy")]
