"""From the hooks on a model to rows for the run folder."""
