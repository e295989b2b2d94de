"""Choose an engine by its name."""

from __future__ import annotations

from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.local import LocalEngine

LOCAL: Final = "local"
NAMES: Final = "local, dask, dask:ADDRESS, slurm, slurm:PARAMETER=VALUE,..., submitit-local"


def engine_named(name: str, jobs: int | None = None) -> Engine:
    """Return the engine that `name` means.

    Parameters
    ----------
    name : str
        ``local``: processes of this machine. ``dask``: the same through a Dask cluster of its own;
        ``dask:tcp://host:8786``: a Dask cluster whose machines see the same files. ``slurm``: an array of jobs, with
        submitit's parameters behind a colon, as in ``slurm:slurm_partition=gpu,gpus_per_node=1,timeout_min=600``;
        ``submitit-local``: such jobs on this machine.
    jobs : int, optional
        Trainings at a time; by default as many as there are cores, or as the cluster takes.

    Raises
    ------
    ArgumentError
        If there is none, or what it needs is not installed.
    """
    kind, _, where = name.partition(":")
    if kind == LOCAL and not where:
        return LocalEngine(jobs)
    if kind == "dask":
        from dropdiag.experiments.engines.dask import DaskEngine  # noqa: PLC0415 - needs an extra

        return DaskEngine(where or None, jobs)
    if kind == "slurm" or name == "submitit-local":
        from dropdiag.experiments.engines.slurm import SlurmEngine  # noqa: PLC0415 - needs an extra

        return SlurmEngine(jobs, _parameters(where), cluster="slurm" if kind == "slurm" else "local")
    raise ArgumentError(f"unknown engine {name!r}; the engines are {NAMES}")


def _parameters(text: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    wrong = [name for name, equals, _ in pairs if not (name and equals)]
    if wrong:
        raise ArgumentError(f"{wrong[0]!r} is no PARAMETER=VALUE; write slurm:slurm_partition=gpu,timeout_min=600")
    return {name: int(value) if value.isdecimal() else value for name, _, value in pairs}
