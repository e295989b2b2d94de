"""Recording inside graphs that torch.compile makes."""
