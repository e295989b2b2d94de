"""
Dose and response
-----------------

Every measure against a number that runs differ by, here the dropout rate.
"""

import dropdiag as dd

runs = dd.load(["runs/base-*", "runs/rate-*", "runs/dropout-*"])
figure = dd.plots.dose_response(runs, x="rate")

# %%
# Three seeds a rate are few: the intervals are wide, and say so.
dd.analysis.dose_response.table(runs)
