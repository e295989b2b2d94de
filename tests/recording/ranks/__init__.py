"""Runs of several ranks: real processes, and what they saw saved for the tests."""
