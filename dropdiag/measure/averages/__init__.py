"""Averages of what a model gives over its masks: for the ensemble."""
