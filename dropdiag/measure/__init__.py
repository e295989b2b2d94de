"""Active measurements: forward passes of their own that leave the model as it was."""
