"""What failed while recording: raised under ``strict``, else warned of once and written into the run."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.probes.base import Probe, SiteInfo
from dropdiag.store.sending import Problem
from dropdiag.store.writer import RunWriter, uncompacted

WAITING_BYTES_LIMIT: Final = 320_000_000
"""Memory of what may wait for a disk that refuses it, or does not answer, before recording stops."""
OF_A_KIND: Final = 20
"""Warnings that differ in their numbers alone and are told and kept; the others are counted."""
LISTED: Final = 1000
"""Entries that a session adds to ``warnings``, and to ``missing``."""
DISABLED: Final = 10_000
"""Entries that a session adds to ``disabled_probes``."""
CAUSE: Final = 1000
"""Characters of an error that are kept."""

MORE: Final = "and {count:,} more {what}"
_NUMBER: Final = re.compile(r"\d+")


class BoundedList:
    """A list of ``run.json`` that is added to, up to a number of entries; what is over is counted.

    Parameters
    ----------
    meta : dict
        What ``run.json`` says.
    key : str
        The list's.
    most : int
        Entries that are added at most.
    """

    def __init__(self, meta: dict[str, Any], key: str, most: int) -> None:
        self._meta, self._key, self._room = meta, key, most
        self.over = 0

    def add(self, entry: object) -> bool:
        """Add an entry, if it is not there; return whether it was added."""
        entries = self._meta[self._key]
        if self._room <= 0:
            self.over += 1
            return False
        if entry in entries:
            return False
        entries.append(entry)
        self._room -= 1
        return True


class Failures:
    """Warnings and failures of one recorded run.

    What is kept of them is bounded: a warning that comes again and again with other numbers must not let ``run.json``
    grow for ever.

    Parameters
    ----------
    writer : RunWriter
        Its ``meta`` gets the warnings and the disabled probes.
    strict : bool
        Raise what failed instead of warning of it.
    """

    def __init__(self, writer: RunWriter, strict: bool) -> None:
        self._writer, self._strict = writer, strict
        self._lists = {
            key: BoundedList(writer.meta, key, most)
            for key, most in (("warnings", LISTED), ("missing", LISTED), ("disabled_probes", DISABLED))
        }
        self._kinds: Counter[str] = Counter()
        self._known: set[str] = set()
        self._more: str | None = None
        self.why_stopped: str | None = None

    def warn(self, message: str) -> None:
        """Warn, once a message, and note it in the run."""
        if message in self._known:
            return
        kind = _NUMBER.sub("#", message)
        if self._kinds[kind] >= OF_A_KIND or len(self._known) >= LISTED:
            self._count("warnings")
            return
        if message in self._writer.meta["warnings"]:  # told by an earlier session
            return
        self._kinds[kind] += 1
        self._known.add(message)
        self._keep("warnings", message)
        warnings.warn(message, DropdiagWarning, stacklevel=4)

    def missing(self, sentence: str, described: Mapping[str, Any]) -> None:
        """Note what a measurement has not, in the run alone, once: as a sentence, and as what programs read."""
        self._keep("warnings", sentence)
        self._keep("missing", described)

    def _keep(self, key: str, entry: object) -> None:
        if not self._lists[key].add(entry) and self._lists[key].over:
            self._tell_of_more()

    def _count(self, key: str) -> None:
        self._lists[key].over += 1
        self._tell_of_more()

    def _tell_of_more(self) -> None:
        """Say last among the warnings what is not listed."""
        what = {"warnings": "warnings", "missing": "missing numbers", "disabled_probes": "disabled probes"}
        over = [MORE.format(count=self._lists[key].over, what=what[key]) for key in what if self._lists[key].over]
        told = self._writer.meta["warnings"]
        if self._more is not None and self._more in told:
            told.remove(self._more)
        self._more = "; ".join(over)
        told.append(self._more)

    def _raise_or_warn(self, error: BaseException, message: str) -> None:
        if self._strict:
            raise error
        self.warn(message)

    def probe(self, probe: Probe[Any], info: SiteInfo, error: Exception) -> None:
        """Report that a probe failed at a site and is disabled there."""
        if self._strict:
            raise error
        layer = info.site.layer
        known = any(entry["probe"] == probe.name for entry in self._writer.meta["disabled_probes"])
        self._keep("disabled_probes", {"probe": probe.name, "layer": layer, "cause": repr(error)[:CAUSE]})
        if not known:  # the run names every layer, the warning the first
            self.warn(f"probe {probe.name!r} failed at {layer!r} and is disabled there, training goes on: {error!r}")

    def interception(self, layer: str, error: Exception) -> None:
        """Report that a functional call could not be recorded, so that none is from now on."""
        message = f"functional calls are not recorded any more, training goes on: {layer!r} failed with {error!r}"
        self._raise_or_warn(error, message)

    def changes(self, error: Exception) -> None:
        """Report that modules which came late could not be recorded."""
        what = "the model's modules have changed, and what came cannot be recorded, training goes on"
        self._raise_or_warn(error, f"{what}: {error!r}")

    def reduced(self, error: Exception) -> None:
        """Report that gradients which ranks have reduced could not be read; not raised inside ``backward()``."""
        self.warn(f"weights' gradients as backward() left them cannot be read, training goes on: {error!r}")

    def weight(self, layer: str, error: Exception) -> None:
        """Report that a weight could not be read."""
        self._raise_or_warn(error, f"the weight of {layer!r} cannot be read, training goes on: {error!r}")

    def disk(self, error: Exception, *, closed: bool) -> None:
        """Report that the disk refuses rows, which are kept, or lost where the Recorder is `closed`."""
        if closed:
            lost = self._writer.give_up(error)  # which is in run.json, if that could be written
            if self._strict:
                raise error
            warnings.warn(lost, DropdiagWarning, stacklevel=4)
            return
        cause = getattr(error, "strerror", None) or repr(error)
        self._raise_or_warn(
            error, f"{self._writer.path} refuses rows ({cause}); they are kept in memory and tried again"
        )

    def sink(self, problem: Problem) -> None:
        """Report what became of a sink; under ``strict`` what it raised is raised."""
        if problem.error is None:
            self.warn(problem.sentence)
        else:
            self._raise_or_warn(problem.error, problem.sentence)

    def step(self, step: int, error: Exception) -> None:
        """Report that what belongs to a step could not be recorded."""
        self._raise_or_warn(error, f"step {step} is not recorded, training goes on: {error!r}"[:CAUSE])

    def passes(self, step: int, error: Exception) -> None:
        """Report that a hook failed, so that nothing more of a step's passes is recorded."""
        what = f"a forward or backward pass after step {step} could not be recorded and is missing, training goes on"
        self._raise_or_warn(error, f"{what}: {error!r}"[:CAUSE])

    def stopped(self, why: object, step: int) -> None:
        """Report that recording has stopped for good."""
        self.why_stopped = message = f"recording stopped at step {step}: {why}"
        self._raise_or_warn(RunError(message), message)

    def compaction(self, error: Exception | None) -> None:
        """Report that a completed run could not be compacted, if it could not."""
        if error is not None and self._strict:
            raise error
        if error is not None:  # in run.json already, which is closed by now
            warnings.warn(uncompacted(self._writer.path, error), DropdiagWarning, stacklevel=4)
