"""Net values of the same batch under one mask after another: for the net variance, and for fitting GAAF."""
