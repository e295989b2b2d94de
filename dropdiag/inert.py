"""Hooks that copies and pickles of a model do not carry along."""

from __future__ import annotations

import functools
import sys
from typing import Any


class InertHook:
    """Base of our hooks: copies and pickles of a hooked model hold a builtin that does nothing in their place.

    `sys.audit` takes any arguments, returns None, and needs no dropdiag to be loaded.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (sys.audit, "dropdiag.inert")
