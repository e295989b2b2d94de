"""Dropouts as they draw: what their masks replace, and random numbers where none should be drawn."""
