"""Old place of `dropdiag.measure.under_masks.rates`."""

from dropdiag.deprecation import moved

__getattr__ = moved(__name__, "dropdiag.measure.under_masks.rates")
