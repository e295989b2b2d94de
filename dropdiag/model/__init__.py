"""What a network consists of: sites, activation functions, dropouts, and hooks that copies do not carry."""
