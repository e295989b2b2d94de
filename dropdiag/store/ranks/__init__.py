"""Runs that several processes recorded: what each of them says of itself, and all of them read as one run."""
