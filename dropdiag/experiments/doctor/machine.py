"""What is installed, what compiles, and whether the compiled loops are in use."""

from __future__ import annotations

import platform
import shlex
import shutil
import sysconfig
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

NEEDED: Final = (
    "dropdiag",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "seaborn",
    "typer",
    "msgspec",
)
OPTIONAL: Final = (
    *("tensorboard", "wandb", "mlflow", "mlflow-skinny", "lightning", "transformers", "accelerate", "pytorch-ignite"),
    *("skorch", "fastai", "duckdb", "polars", "distributed", "submitit", "s3fs"),
)
NOT_BUILT: Final = (
    "it was not built: no compiler was there when dropdiag was installed, or its build failed; install it again with a "
    "C compiler (and Python's headers) to have it"
)


def versions(names: tuple[str, ...] = NEEDED) -> dict[str, str | None]:
    """Return the version of each package, None where it is not installed."""
    return {name: _version(name) for name in names}


def system() -> dict[str, str]:
    """Return what Python runs, and on what."""
    return {"python": platform.python_version(), "implementation": platform.python_implementation(),
            "platform": platform.platform(), "machine": platform.machine()}  # fmt: skip


def compiler() -> dict[str, str | None]:
    """Return the C compiler that Python builds extensions with, and where it is found; None where it is not."""
    command = (shlex.split(sysconfig.get_config_var("CC") or "cc") or ["cc"])[0]
    found = shutil.which(command) or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return {"command": command, "found": found}


def native() -> dict[str, Any]:
    """Return whether the compiled loops are in use, and if not, why."""
    try:
        import_module("dropdiag.sketches._native")
    except ModuleNotFoundError:
        return {"in_use": False, "why": f"{NOT_BUILT}. The same numbers come from torch, more slowly"}
    except ImportError as error:
        return {"in_use": False, "why": f"it cannot be loaded: {error}. The same numbers come from torch, more slowly"}
    return {"in_use": True, "why": None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
