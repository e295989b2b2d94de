"""Nodes set to their mean, alone and together: for the ablation."""
