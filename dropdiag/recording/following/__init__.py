"""Where the tensors of a forward pass come from, and which of their dimensions counts nodes."""
