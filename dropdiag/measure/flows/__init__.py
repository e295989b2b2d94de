"""Gradient flow of the same batch with masks off and on: for masks by weights."""
