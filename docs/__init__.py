"""The site: `make docs` builds it, docs/checks runs its code."""
