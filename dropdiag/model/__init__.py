"""What a model consists of: sites, activations, dropouts; and hooks that its copies do not carry."""
