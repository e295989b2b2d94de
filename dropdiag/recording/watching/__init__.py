"""What surrounds a recorded training: runs that are open, models that change, steps that are marked."""
