"""The chain of a network's tensors from each net value to the output, and what their gradients pass between them."""
