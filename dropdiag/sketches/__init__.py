"""Sketches: fixed-size summaries of tensors that update and merge. No hooks, no files."""

from dropdiag.deprecation import renamed
from dropdiag.sketches.base import Sketch
from dropdiag.sketches.covariance import Covariance
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.sketches.intervals import IntervalCounts
from dropdiag.sketches.moments import AbsMean, Moments

__all__ = ["AbsMean", "Covariance", "HistogramSketch", "IntervalCounts", "Moments", "Sketch"]

__getattr__ = renamed(__name__, {"Histogram": "dropdiag.sketches.histogram:HistogramSketch"})
