"""How quantities of runs go with a dose, such as the dropout rate: trends over seeds, and the doses that are best."""

from dropdiag.analysis.dose_response.axis import Axis, Blocks, axis_of
from dropdiag.analysis.dose_response.best import BestSet, cannot_be_told_from_best
from dropdiag.analysis.dose_response.trend import Trend, trend

__all__ = ["Axis", "BestSet", "Blocks", "Trend", "axis_of", "cannot_be_told_from_best", "trend"]
