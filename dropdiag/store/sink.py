"""What is recorded can be sent elsewhere too, while it is recorded: what a place that takes it has to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from dropdiag.errors import ArgumentError

if TYPE_CHECKING:
    from dropdiag.store.histogram_rows import RecordedHistogram
    from dropdiag.store.rows import ScalarRow

METHODS: Final = ("open", "scalars", "histograms", "close")


class Sink(Protocol):
    r"""Takes the rows of a run while it is recorded; any object with these four methods is one.

    `open` is called by the thread that makes the Recorder, all others by a thread of the sink's own, one after the
    other. Whatever one of them raises is told once, the sink is sent nothing more (but `close`), and the training and
    the run folder go on.

    Examples
    --------
    >>> class Losses:
    ...     def open(self, meta):
    ...         self.file = open(f"{meta['name']}.txt", "w")
    ...
    ...     def scalars(self, rows):
    ...         self.file.writelines(f"{row.step} {row.value}\n" for row in rows if row.quantity == "loss")
    ...
    ...     def histograms(self, rows):
    ...         pass
    ...
    ...     def close(self, state):
    ...         self.file.close()
    """

    def open(self, meta: Mapping[str, Any]) -> None:
        """Begin.

        Parameters
        ----------
        meta : mapping
            What ``run.json`` says of the run so far (``docs/run-folder.md``) and its folder, ``path``. A run that is
            continued has several ``sessions``; the last one's ``from_step`` is the step it goes on from.
        """
        ...

    def scalars(self, rows: Sequence[ScalarRow]) -> None:
        """Take numbers, all of them finite: what is missing, infinite or NaN is left out, the run folder has it."""
        ...

    def histograms(self, rows: Sequence[RecordedHistogram]) -> None:
        """Take histograms."""
        ...

    def close(self, state: str) -> None:
        """End: nothing comes any more. The state is "completed", "failed" or "interrupted"."""
        ...


def checked_sinks(to: object) -> list[Sink]:
    """Return ``to=`` as a list of sinks.

    Raises
    ------
    ArgumentError
        If something in it is no sink, or comes twice.
    """
    if to is None:
        return []
    several = isinstance(to, Iterable) and not isinstance(to, (str, bytes, Mapping))
    given: list[Any] = list(cast(Iterable[Any], to)) if several else [to]
    for one in given:
        lacking = [name for name in METHODS if not callable(getattr(one, name, None))]
        if isinstance(one, type) or lacking:
            what = f"the class {one.__qualname__}, make one of it" if isinstance(one, type) else _lacks(one, lacking)
            raise ArgumentError(f"to= takes sinks, such as dd.integrations.tensorboard.Sink('tb'); got {what}")
    if len({id(one) for one in given}) < len(given):
        raise ArgumentError(f"to= holds one sink twice, a {name_of(given[0])}; give each once")
    return given


def _lacks(one: object, lacking: Sequence[str]) -> str:
    return f"{one!r}, which has no {', '.join(f'{name}()' for name in lacking)}"


def name_of(sink: object) -> str:
    """Return what a sink is called in messages: ``wandb.Sink``."""
    kind = type(sink)
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"
