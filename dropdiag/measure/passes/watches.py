"""What puts hooks on modules for one pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeAlias

Watch: TypeAlias = Callable[[ExitStack], None]
"""Puts hooks on modules for one pass, onto the stack that takes them off."""
