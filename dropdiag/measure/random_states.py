"""Old place of `dropdiag.measure.passes.state.random_states`."""

from dropdiag.deprecation import moved

__getattr__ = moved(__name__, "dropdiag.measure.passes.state.random_states")
