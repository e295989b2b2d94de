"""
GAAF
----

The activation function of the paper: phi, its teeth g, and the shape s. This figure needs no run.
"""

import dropdiag as dd

figure = dd.plots.gaaf()
