"""Compare conditions over seeds: effects, intervals, exact p, and the paper's claims as tests that can fail."""

from dropdiag.analysis.compare.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
