"""How many threads a training has: a number of its own, so that results do not depend on what runs beside it."""

from __future__ import annotations

from typing import Final

_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(threads: int = 1) -> dict[str, str]:
    """Return the environment variables that give a process so many threads; torch reads them once, when imported."""
    return dict.fromkeys(_VARIABLES, str(threads))
