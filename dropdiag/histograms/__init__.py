"""The exact histogram on one fixed bin grid, and what is computed from it. Needs no torch."""
