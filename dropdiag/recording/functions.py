"""Old place of `dropdiag.functional.functions`."""

from dropdiag.deprecation import moved
from dropdiag.functional.functions import register_activation as register_activation  # noqa: PLC0414 - a name of dropdiag

__getattr__ = moved(__name__, "dropdiag.functional.functions")
