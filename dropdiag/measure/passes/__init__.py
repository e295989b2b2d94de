"""Passes of a model that leave no trace in it, which every measurement makes."""
