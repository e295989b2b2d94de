"""The paper's experiments: data, networks, the training protocol, and `reproduce`, which runs them all."""
