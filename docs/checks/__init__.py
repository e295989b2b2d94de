"""The code of docstrings and pages is run: by `make docs`, with pytest."""
