"""A run as TensorBoard event files: one that is over, or while it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from dropdiag.integrations.destination import new_folder
from dropdiag.integrations.event_files import Events, tensorboard
from dropdiag.integrations.tags import check_free, resumed_at, share_of
from dropdiag.store.histogram_rows import RecordedHistogram, rows_of
from dropdiag.store.new_files import file_name
from dropdiag.store.rows import ScalarRow
from dropdiag.store.run import Run
from dropdiag.store.storage.places import not_remote

FILE: Final = "events.out.tfevents.{seconds}.dropdiag"


def to_tensorboard(run: Run, out: Path) -> list[Path]:
    """Write a run's scalars and histograms as event files, one folder a phase: ``out/train``, ``out/eval``.

    A phase whose name is no folder's name has one like it, with eight digits of its digest (`file_name`).

    Tags are ``quantity/layer`` (``loss`` for the run's own), with ``#call`` where a module is called several
    times. Buckets are four bins of the grid each, so their counts are exact and they are at most 1/16 of their values
    wide; zeros are a bucket of width 2**-131 around 0. Min, max, sum and sum of squares come from the bins (to
    1/64 of the values). TensorBoard has no place for values that are not finite: how many there were is the
    scalar ``not_finite/quantity/layer``, where there were any. Missing scalars are left out. A run's rows carry no
    time of day; all events have the time at which the run was created.

    Parameters
    ----------
    run : Run
    out : Path
        A new or empty folder. It is put in place when all files are whole.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    DropdiagError
        If TensorBoard is not installed; the message says how to install it.
    RunError
        If ``out`` holds something, or cannot be written; or the run ends meanwhile.

    Warns
    -----
    DropdiagWarning
        For each segment that cannot be read; the others are.

    Examples
    --------
    >>> from dropdiag.integrations.tensorboard import to_tensorboard
    >>> written = to_tensorboard(run, Path("tb"))
    >>> {"train", "eval"} <= {path.name for path in Path("tb").iterdir()}
    True
    """
    protos = tensorboard()
    out = out.expanduser().absolute()
    with new_folder(out) as folder:
        created = datetime.fromisoformat(run.meta["created"]).timestamp()
        with ExitStack() as stack:
            events = Events(protos, folder, FILE.format(seconds=int(created)), stack, at=created)
            for table in run.tables.stream("scalars"):
                for values in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
                    row = ScalarRow(*values)
                    if row.value is not None:
                        events.scalar(row, row.value)
            for table in run.tables.stream("histograms"):
                for recorded in rows_of(table):
                    events.histogram(recorded)
            events.file("train")  # also for a run without any row: TensorBoard then shows it, empty
        names = sorted(path.relative_to(folder) for path in folder.rglob("*.dropdiag"))
    return [out / name for name in names]


class Sink:
    """Writes a run's scalars and histograms as event files while it is recorded: ``Recorder(..., to=Sink("tb"))``.

    They are those of `to_tensorboard`, in ``folder/RUN/train``, ``folder/RUN/eval``, a folder a phase, so that several
    runs may share a folder and are shown side by side (of two runs of one name the later one's folder ends in eight
    digits of its id). Each event is in its file at once, with the time of day. A run that is continued goes on there,
    and TensorBoard forgets what it recorded after the step it is continued from.

    Parameters
    ----------
    folder : path
        What ``tensorboard --logdir`` is given.

    Raises
    ------
    DropdiagError
        If TensorBoard is not installed; the message says how to install it.

    Examples
    --------
    >>> with dd.Recorder(model, "runs/a", to=dd.integrations.tensorboard.Sink("tb")) as rec:
    ...     F.cross_entropy(model(x), y).backward()
    ...     rec.step()
    >>> sorted(path.name for path in Path("tb/a").iterdir())
    ['train']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = not_remote(Path(folder).expanduser(), "a Sink of TensorBoard").absolute()
        self._protos = tensorboard()
        self._stack, self._events = ExitStack(), cast("Events | None", None)

    def __reduce__(self) -> tuple[type[Sink], tuple[Path]]:
        """Copy and pickle to one that is not open."""
        return type(self), (self.folder,)

    def open(self, meta: Mapping[str, Any]) -> None:
        """Make the folder of a run, and begin."""
        check_free(self._events)
        created = datetime.fromisoformat(meta["created"]).timestamp()
        session = meta["sessions"][-1]
        name = FILE.format(seconds=f"{int(created)}.{meta['id']}.{session['number']:06}.{session['id'][:8]}")
        folder, resumed = self._of_run(meta), resumed_at(meta)
        folder.mkdir(parents=True, exist_ok=True)
        purge = None if resumed is None else resumed + 1
        self._stack = ExitStack()
        self._events = Events(self._protos, folder, name, self._stack, purge=purge)
        for phase in folder.iterdir():
            if resumed is not None and phase.is_dir():
                self._events.begin(phase.name)
        self._events.file("train")

    def _of_run(self, meta: Mapping[str, Any]) -> Path:
        folder = self.folder / file_name(str(meta["name"]))
        files = [file.name for file in folder.rglob("*tfevents*")]
        if files and not any(str(meta["id"]) in name for name in files):  # of another run, or of something else
            folder = folder.with_name(f"{folder.name}-{str(meta['id'])[:8]}")
        return folder / share_of(meta)

    def scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Write numbers."""
        for row in rows:
            if self._events is not None and row.value is not None:
                self._events.scalar(row, row.value)

    def histograms(self, rows: Sequence[RecordedHistogram]) -> None:
        """Write histograms."""
        for row in rows:
            if self._events is not None:
                self._events.histogram(row)

    def close(self, state: str) -> None:  # noqa: ARG002 - an event file does not say how a run ended
        """Close the files."""
        self._events = None
        self._stack.close()
