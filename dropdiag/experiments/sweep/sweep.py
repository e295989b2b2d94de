"""Train a function of the user's over all values of its axes and paired seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from dropdiag.errors import ArgumentError, RunError
from dropdiag.experiments.engines.engine import Engine
from dropdiag.experiments.engines.named import LOCAL, engine_named
from dropdiag.experiments.folders import Plan
from dropdiag.experiments.settings import check_at_least_one
from dropdiag.experiments.sweep import book
from dropdiag.experiments.sweep.asked import Asked, checked_settings
from dropdiag.experiments.sweep.axes import CONDITION, SWEEP, checked_seeds, points
from dropdiag.experiments.sweep.function import Function, Train, check_takes, described_here
from dropdiag.experiments.sweep.pairing import Pairing, pairing
from dropdiag.experiments.sweep.result import Sweep
from dropdiag.experiments.sweep.screening import LEFT, EarlyStop, Round, judged, left_of
from dropdiag.experiments.sweep.where import HERE, Where, launch_of, metas_of, ones_of
from dropdiag.experiments.under_way import refuse_under_way
from dropdiag.recording.surroundings import SURROUNDINGS
from dropdiag.store.reader import load
from dropdiag.store.storage.places import as_path, not_remote

SCREENING: Final = "screening"


def sweep(
    train: Train | str,
    over: Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]],
    *,
    seeds: int | Iterable[int] = 5,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    engine: str | Engine = LOCAL,
    processes: int | None = None,
    threads: int = 1,
    early_stop: str | Mapping[str, Any] | EarlyStop | None = None,
    keep_changed: bool = False,
    console: Console | None = None,
) -> Sweep:
    """Train a network of yours over all values of some axes, with paired seeds, and record each run.

    Finished runs in `out` are kept, so that an interrupted sweep goes on where it was, and one of more values or more
    seeds adds to those that are there; a run that was broken off is moved to ``out/interrupted`` and trained anew.
    Nothing is deleted.

    Parameters
    ----------
    train : callable or str
        ``train(config, path)``: trains one network and records it by ``dd.Recorder(model, path)``, which gets its
        config from here. `config` is a dict of the axes' values, the settings, ``condition`` and ``seed``. Each run is
        a process of its own, which imports the function: it stands in a file (``"train.py:train"``) or a module. Before
        it is called, torch, numpy and Python's `random` are seeded with ``seed``.
    over : mapping, or sequence of mappings
        Axis -> values, of which all combinations are trained; or the combinations themselves. Names are keys of
        `config` that `train` reads, or ``dropout:PATTERN``, ``insert:PATTERN``, ``early:STEPS:PATTERN``,
        ``late:STEPS:PATTERN``, ``linear:STEPS:PATTERN``, ``schedule:PATTERN``, which change the dropouts of the model
        that the Recorder is given (`dropdiag.experiments.sweep.changes`).
    seeds : int or sequence of int, default 5
        How many, from 0 on, or which; the same for each combination.
    out : path
        Folder for ``runs``, ``launches`` (what trainings write), ``interrupted`` and ``sweep.json``.
    settings : mapping, optional
        What `config` holds besides, the same in all runs, such as ``{"epochs": 20}``.
    engine : str or Engine, default "local"
        Where runs are trained: "local", "dask:ADDRESS", "slurm" (`engine_named`); or "here", in this process, one after
        the other, for functions that cannot be imported.
    processes : int, optional
        Runs at a time; by default one where there is a GPU, else as many as there are cores for their threads, and on a
        cluster as many as it takes. The numbers do not depend on it.
    threads : int, default 1
        Of each run.
    early_stop : str, mapping or EarlyStop, optional
        Screen the combinations by this number, with seeds of their own, and train in full, with `seeds`, those that are
        left: ``"accuracy"``, or ``{"metric": "accuracy", "budget": "epochs", "least": 2}``.
    keep_changed : bool, default False
        Keep finished runs whose `train` stood in another state of its file. `Sweep.remarks` names them.
    console : rich Console, optional
        Where progress is shown; standard error by default.

    Returns
    -------
    Sweep

    Raises
    ------
    ArgumentError
        For arguments that cannot be used, a function that cannot be imported, or if `out` holds finished runs that were
        made otherwise; before anything is written.
    RunError
        If `out` cannot be written, another process trains one of the runs, or every run failed.
    KeyboardInterrupt
        Finished runs are whole, and a second call goes on with the others.

    Notes
    -----
    Dropout draws from torch's default generator, as does a shuffling loader without a ``generator=`` of its own: runs
    of one seed then share their initial weights, but not their batches. Each run keeps digests of both, and
    `Sweep.remarks` says what was found.

    Examples
    --------
    >>> over, settings = {"rate": [0, 0.3]}, {"epochs": 1}
    >>> made = dd.sweep("train.py:train", over, seeds=2, settings=settings, out="swept", engine="here")
    >>> made.runs().conditions
    ['rate=0', 'rate=0.3']
    """
    if SURROUNDINGS.get() is not None:
        raise ArgumentError(
            "a run of a sweep calls sweep() itself, since it imports the file that does: put the call there "
            "under `if __name__ == '__main__':`"
        )
    out = as_path(not_remote(Path(out).expanduser(), "out="))
    check_at_least_one(processes=processes, threads=threads)
    if engine == HERE and processes not in (None, 1):
        raise ArgumentError(f"engine='here' trains one run after the other, got processes={processes}")
    if isinstance(engine, str) and engine != HERE:
        engine_named(engine)  # made again where it trains: here, for what it raises
    asked, function = _asked(train, over, seeds, settings, keep_changed=keep_changed, here=engine == HERE)
    stop = EarlyStop.of(early_stop)
    rounds = [] if stop is None else stop.rounds(asked)
    metas = metas_of(out)
    _check(out, asked, metas)
    book.write(out, asked, metas)  # of a sweep that is interrupted, what was asked for
    where = Where(train, function, engine, processes, threads, console or Console(stderr=True))
    screened = [] if stop is None else _screen(out, asked, rounds, stop, where)
    left = left_of(asked, screened[-1].kept) if screened else asked
    plan = left.plan(out)
    failed = where.train(out, plan)
    return _result(out, asked, plan, failed, screened)


def commands(
    train: str | Train,
    over: Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]],
    *,
    seeds: int | Iterable[int] = 5,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    keep_changed: bool = False,
) -> list[str]:
    """Return a command for a shell of each run that `sweep` would train; nothing is written.

    Parameters
    ----------
    train, over, seeds, out, settings, threads, keep_changed
        See `sweep`, as for the errors.
    """
    out = as_path(not_remote(Path(out).expanduser(), "out="))
    asked, function = _asked(train, over, seeds, settings, keep_changed=keep_changed, here=False)
    _check(out, asked, metas_of(out))
    ones = ones_of(out, asked.plan(out), function, threads)
    return [launch_of(one).in_shell() for one in ones.values()]


def _asked(
    train: Train | str, over: Any, seeds: Any, settings: Any, *, keep_changed: bool, here: bool
) -> tuple[Asked, Function | None]:
    function = _function(train, here=here)
    combinations = tuple(points(over))
    described = described_here(train) if function is None else function.described
    checked = checked_settings(settings, combinations)
    return Asked(combinations, checked_seeds(seeds), checked, described, keep_changed), function


def _function(train: Train | str, *, here: bool) -> Function | None:
    """Return where the function stands; None for one of this process alone."""
    if isinstance(train, str):
        return Function.named(train)
    if not callable(train):
        raise ArgumentError(f"train is a function train(config, path), or FILE.py:NAME; got {train!r}")
    check_takes(train)
    try:
        return Function.of(train)
    except ArgumentError:
        if not here:
            raise
        return None


def _check(out: Path, asked: Asked, finished: Mapping[str, Any]) -> None:
    if finished:  # where no run is finished, nothing holds one to what was asked for before
        book.check(out, asked)
    refuse_under_way(out, [job.name for job in asked.plan(out).todo])


def _screen(out: Path, asked: Asked, rounds: Sequence[Asked], stop: EarlyStop, where: Where) -> list[Round]:
    """Screen the conditions, round by round; each round has a folder of its own."""
    from dropdiag.experiments.sweep.finals import finals  # noqa: PLC0415 - pandas

    made: list[Round] = []
    for one in rounds:
        now = left_of(one, made[-1].kept) if made else one
        if len(now.points) <= LEFT:
            break
        folder = out / SCREENING / f"{stop.budget}-{now.settings[stop.budget]}"
        where.console.print(f"Screening {len(now.points)} conditions, {folder.name}", markup=False, highlight=False)
        plan = now.plan(folder)
        failed = where.train(folder, plan)
        whole = [job.path for job in (*plan.done, *plan.todo) if job.name not in failed]
        if not whole:
            raise _every_run_failed(failed)
        made.append(judged(stop, now, finals(load(whole)), asked.conditions[0]))
    return made


def _result(
    out: Path, asked: Asked, plan: Plan[dict[str, Any]], failed: Mapping[str, str], screened: Sequence[Round]
) -> Sweep:
    metas = metas_of(out)
    pairs = pairing(metas.values())
    stopped = {name: why for one in screened for name, why in one.stopped.items()}
    made = Sweep(
        *(out, asked.axes),
        trained=tuple(job.name for job in plan.todo if job.name not in failed),
        kept=tuple(job.name for job in plan.done),
        failed=dict(failed),
        stopped=stopped,
        remarks=tuple(_remarks(asked, pairs, metas, stopped)),
    )  # fmt: skip
    book.write(
        out, asked, metas,
        remarks=list(made.remarks), pairs=pairs.as_dict(), failed=made.failed, stopped=stopped,
        screening=[vars(one) for one in screened],
    )  # fmt: skip
    if failed and not made.trained and not made.kept:
        raise _every_run_failed(failed)
    return made


def _remarks(
    asked: Asked, pairs: Pairing, metas: Mapping[str, Mapping[str, Any]], stopped: Mapping[str, str]
) -> list[str]:  # fmt: skip
    said = list(pairs.remarks)
    whole = {meta["config"][CONDITION] for meta in metas.values()}
    for name, why in stopped.items():
        then = "its runs of an earlier call are kept" if name in whole else "not trained in full, and not compared"
        said.append(f"{name} was stopped {why}: {then}.")
    others = sorted(name for name, meta in metas.items() if meta["config"][SWEEP] != asked.train)
    if others:
        said.append(f"Trained by another state of train's file than the others: {', '.join(others)}.")
    return said


def _every_run_failed(failed: Mapping[str, str]) -> RunError:
    reasons = dict.fromkeys(failed.values())
    return RunError(f"every run failed ({'; '.join(list(reasons)[:3])}); what they wrote is in the folder launches")
