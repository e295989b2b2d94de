"""How the gradient of a layer comes about: a run's chain of readings, their means, the terms that they make."""
