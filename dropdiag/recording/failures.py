"""What failed while recording: raised under ``strict``, else warned of once and written into the run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from dropdiag.errors import DropdiagWarning
from dropdiag.probes.base import Probe, SiteInfo
from dropdiag.store.writer import RunWriter, uncompacted

WAITING_BINS_LIMIT: Final = 32_000_000
"""Bins that may wait for a disk that refuses them (about 320 MB) before recording stops."""


class Failures:
    """Warnings and failures of one recorded run.

    Parameters
    ----------
    writer : RunWriter
        Its ``meta`` gets the warnings and the disabled probes.
    strict : bool
        Raise what failed instead of warning of it.
    """

    def __init__(self, writer: RunWriter, strict: bool) -> None:
        self._writer, self._strict = writer, strict

    def warn(self, message: str) -> None:
        """Warn, once a message, and note it in the run."""
        if message not in self._writer.meta["warnings"]:
            self._writer.meta["warnings"].append(message)
            warnings.warn(message, DropdiagWarning, stacklevel=4)

    def missing(self, sentence: str, described: Mapping[str, Any]) -> None:
        """Note what a measurement has not, in the run alone, once: as a sentence, and as what programs read."""
        for key, told in (("warnings", sentence), ("missing", described)):
            if told not in self._writer.meta[key]:
                self._writer.meta[key].append(told)

    def _raise_or_warn(self, error: Exception, message: str) -> None:
        if self._strict:
            raise error
        self.warn(message)

    def probe(self, probe: Probe[Any], info: SiteInfo, error: Exception) -> None:
        """Report that a probe failed at a site and is disabled there."""
        if self._strict:
            raise error
        disabled, layer = self._writer.meta["disabled_probes"], info.site.layer
        known = any(entry["probe"] == probe.name for entry in disabled)
        disabled.append({"probe": probe.name, "layer": layer, "cause": repr(error)})
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
        cause = getattr(error, "strerror", None) or repr(error)
        refused = f"{self._writer.path} refuses rows ({cause}); "
        lost = f"{self._writer.waiting_rows} rows are lost"
        self._raise_or_warn(error, refused + (lost if closed else "they are kept in memory and tried again"))

    @property
    def disk_is_hopeless(self) -> bool:
        """Whether more waits for the disk than may."""
        return not self._strict and self._writer.waiting_bins > WAITING_BINS_LIMIT

    def stopped(self, error: Exception, step: int) -> None:
        """Report that recording has stopped, as the disk refuses rows for good."""
        self.warn(f"recording stopped at step {step}: {self._writer.path} has refused rows for too long ({error})")

    def compaction(self, error: Exception | None) -> None:
        """Report that a completed run could not be compacted, if it could not."""
        if error is not None and self._strict:
            raise error
        if error is not None:  # in run.json already, which is closed by now
            warnings.warn(uncompacted(self._writer.path, error), DropdiagWarning, stacklevel=4)
