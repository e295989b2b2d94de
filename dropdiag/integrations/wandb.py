"""A run's numbers and histograms in Weights & Biases, while it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dropdiag.errors import ArgumentError, DropdiagError
from dropdiag.integrations.tags import PREFIX, Row, check_free, not_finite, resumed_at, share_of, tag

if TYPE_CHECKING:
    from dropdiag.histograms.histogram import Histogram
    from dropdiag.store.histogram_rows import RecordedHistogram
    from dropdiag.store.rows import ScalarRow

BINS: Final = 64
"""Bins of a histogram, as W&B makes them by itself."""
STEP: Final = f"{PREFIX}/step"


class Sink:
    """Sends a run's scalars and histograms to W&B while it is recorded: ``Recorder(..., to=Sink(project="p"))``.

    They are called ``dropdiag/PHASE/QUANTITY/LAYER`` and lie over ``dropdiag/step``, the training step, by
    ``define_metric``. They go to a W&B run of their own, with the name and config of the run folder, which leaves one
    of yours alone: W&B drops what you log with ``step=`` where more has been logged to that run by others. Where you
    never log with ``step=``, give it your run, and all is in one: it is used, and not finished.

    Histograms have 64 bins of one width between the least and the greatest finite value; the values of a bin of the
    run's that an edge cuts are divided. How many were not finite is the scalar ``dropdiag/PHASE/not_finite/...``.

    Parameters
    ----------
    run : wandb.Run, optional
        An open run of yours: ``Sink(wandb.run)``.
    **settings
        For ``wandb.init``, where it makes the run: ``project``, ``entity``, ``group``, ``mode``, ``dir``, ...

    Raises
    ------
    DropdiagError
        If wandb is not installed; the message says how to install it.
    ArgumentError
        If both are given, or ``run`` is none.

    Notes
    -----
    A run that is continued goes on in its W&B run, which keeps what it was sent after the step it is continued from:
    W&B cannot take back. The run folder hides that.

    Examples
    --------
    >>> with dd.Recorder(model, "runs/a", to=dd.integrations.wandb.Sink(project="dropout")) as rec:
    ...     F.cross_entropy(model(x), y).backward()
    ...     rec.step()
    """

    def __init__(self, run: Any = None, **settings: Any) -> None:
        self._wandb = _wandb()
        if run is not None and settings:
            raise ArgumentError(
                f"wandb.Sink takes a run, or settings of a new one, got both ({', '.join(settings)}); give one of them"
            )
        if run is not None and not all(callable(getattr(run, name, None)) for name in ("log", "define_metric")):
            raise ArgumentError(f"wandb.Sink takes an open W&B run, such as wandb.run after wandb.init(), got {run!r}")
        self._given, self._settings = run, settings
        self._run: Any = None
        self._prefix = PREFIX

    def __deepcopy__(self, memo: dict[int, Any]) -> Sink:
        """Copy to one that is not open."""
        return type(self)(self._given, **self._settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle to one that is not open; an open run of W&B does not come along."""
        return _made, (self._settings,)

    def open(self, meta: Mapping[str, Any]) -> None:
        """Open a W&B run, or use the given one."""
        check_free(self._run)
        self._prefix = f"{PREFIX}/{share_of(meta)}"
        self._run = self._given if self._given is not None else self._new(meta)
        self._run.define_metric(STEP)
        self._run.define_metric(f"{PREFIX}/*", step_metric=STEP)

    def _new(self, meta: Mapping[str, Any]) -> Any:
        resumed = {} if resumed_at(meta) is None else {"resume": "allow"}
        own = {
            "id": meta["id"], "name": meta["name"], "config": dict(meta["config"]),
            # what the training prints belongs to a run of the user's
            "settings": self._wandb.Settings(console="off"), **resumed,
        }  # fmt: skip
        # "create_new": neither is the user's run finished, nor is this one given to who calls wandb.init() afterwards
        return self._wandb.init(reinit="create_new", **{**own, **self._settings})

    def scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Send numbers, those of a step together."""
        for step, some in groupby(rows, key=lambda row: row.step):
            self._run.log({STEP: step, **{self._name(row, tag(row)): row.value for row in some}})

    def histograms(self, rows: Sequence[RecordedHistogram]) -> None:
        """Send histograms, those of a step together."""
        for step, some in groupby(rows, key=lambda row: row.step):
            values: dict[str, Any] = {STEP: step}
            for row in some:
                whole = row.histogram
                if whole.n_finite:
                    values[self._name(row, tag(row))] = self._wandb.Histogram(np_histogram=equal_bins(whole))
                if whole.n_finite < whole.n:
                    values[self._name(row, not_finite(tag(row)))] = whole.n - whole.n_finite
            self._run.log(values)

    def _name(self, row: Row, name: str) -> str:
        return f"{self._prefix}{row.phase}/{name}"

    def close(self, state: str) -> None:
        """Finish the W&B run, unless it is the user's."""
        run, self._run = self._run, None
        if self._given is None:
            run.finish(exit_code=0 if state == "completed" else 1)


def equal_bins(whole: Histogram) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the counts and the edges of bins of one width, from the least to the greatest finite value."""
    low, high, _ = whole.bounds()
    least, most = float(low[0]), float(high[-1])
    if least == most:  # zeros alone
        least, most = -0.5, 0.5
    edges = np.linspace(least, most, BINS + 1)
    return whole.rebin(edges), edges


def _made(settings: Mapping[str, Any]) -> Sink:
    return Sink(**settings)


def _wandb() -> Any:
    try:
        import wandb  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise DropdiagError(
            f"sending a run to W&B needs the package wandb, which cannot be imported ({error}); "
            "install it with: pip install wandb"
        ) from error
    return wandb
