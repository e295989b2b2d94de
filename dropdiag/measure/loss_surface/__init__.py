"""The loss away from where it is, in the weights and in the inputs: for flatness and robustness."""
