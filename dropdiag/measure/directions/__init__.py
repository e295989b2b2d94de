"""Directions of the gradients of mini-batches: for the gradient direction."""
