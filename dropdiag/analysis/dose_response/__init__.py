"""How quantities of runs go with a dose, such as the dropout rate: trends over seeds, and the doses that are best.

`table` says of each measure of each layer whether it rises or falls with the dose; `choice` which doses cannot be told
from the best by held-out data. `axis_of`, `trend` and `cannot_be_told_from_best` are what both are made of.
"""

from dropdiag.analysis.dose_response.axis import Axis, Blocks, axis_of
from dropdiag.analysis.dose_response.best import BestSet, cannot_be_told_from_best
from dropdiag.analysis.dose_response.choice import Choice, choice
from dropdiag.analysis.dose_response.responses import Responses, responses
from dropdiag.analysis.dose_response.table import table, table_of
from dropdiag.analysis.dose_response.trend import Trend, trend

__all__ = [
    "Axis",
    "BestSet",
    "Blocks",
    "Choice",
    "Responses",
    "Trend",
    "axis_of",
    "cannot_be_told_from_best",
    "choice",
    "responses",
    "table",
    "table_of",
    "trend",
]
