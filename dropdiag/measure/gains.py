"""Old place of `dropdiag.measure.under_masks.gains`."""

from dropdiag.deprecation import moved

__getattr__ = moved(__name__, "dropdiag.measure.under_masks.gains")
