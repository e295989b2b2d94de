"""Switch the dropouts of a model, and nothing else, for some passes."""
