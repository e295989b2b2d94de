"""Sketches: fixed-size summaries of tensors that update and merge. No hooks, no files."""

from dropdiag.sketches.base import Sketch
from dropdiag.sketches.covariance import Covariance
from dropdiag.sketches.histogram import Histogram
from dropdiag.sketches.intervals import IntervalCounts
from dropdiag.sketches.moments import AbsMean, Moments

__all__ = ["AbsMean", "Covariance", "Histogram", "IntervalCounts", "Moments", "Sketch"]
