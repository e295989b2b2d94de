"""Python's collector of cyclic garbage, kept out of what grows and holds no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """Keep the collector from looking, again and again, through the growing JSON of one run, or of all.

    Of 10,000 runs it takes as long as reading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
