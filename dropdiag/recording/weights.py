"""Reads the weights and their gradients at the end of a step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.collector import Collector
from dropdiag.recording.failures import Failures
from dropdiag.recording.notices import NO_WEIGHT_GRADIENT
from dropdiag.recording.passes import dense
from dropdiag.recording.records import Record
from dropdiag.recording.site_log import SiteLog


class WeightReader:
    """Feeds a collector with weights as they stand.

    Parameters
    ----------
    weights : sequence of SiteInfo
    collector : Collector
    site_log : SiteLog
        Counts how often each weight was read.
    failures : Failures

    Attributes
    ----------
    read_at : int or None
        The step at which the weights were read last, if they were.
    """

    def __init__(
        self, weights: Sequence[SiteInfo], collector: Collector, site_log: SiteLog, failures: Failures
    ) -> None:
        self._weights, self._collector = weights, collector
        self._site_log, self._failures = site_log, failures
        self.read_at: int | None = None

    def exchange(self, weights: Sequence[SiteInfo]) -> None:
        """Read these weights from now on."""
        self._weights = weights

    def read(self, step: int, signals: Sequence[Signal] = (Signal.WEIGHT, Signal.WEIGHT_GRAD)) -> list[Record]:
        """Return what the probes make of the weights, and of their gradients, as they stand."""
        wanted = [signal for signal in signals if self._collector.wants(signal)]
        records: list[Record] = []
        had_gradient = False
        for info in self._weights if wanted else ():
            for signal in wanted:
                fed = self._feed(signal, info)
                had_gradient |= fed and signal is Signal.WEIGHT_GRAD
            # Each weight is closed by itself, so few sketches (256 KB for a histogram) are open at a time.
            records += self._collector.finish(info.site.layer)
        if Signal.WEIGHT in wanted:
            self.read_at = step
        if Signal.WEIGHT_GRAD in wanted and not had_gradient and any(map(_takes_gradient, self._weights)):
            self._failures.warn(NO_WEIGHT_GRADIENT)
        return records

    def _feed(self, signal: Signal, info: SiteInfo) -> bool:
        try:
            value = _weight_or_gradient(signal, info)
        except Exception as error:  # noqa: BLE001 - a user's parametrisation must not end the training
            self._failures.weight(info.site.layer, error)
            return False
        if value is None:
            # An open sketch that stays empty is recorded as missing; a weight without values has no rows at all.
            if info.site.tensor() is not None:
                self._collector.open(signal, info, 0)
            return False
        if signal is Signal.WEIGHT:
            self._site_log.readings[info.site.layer] += 1
        self._collector.feed(signal, info, 0, value)
        return True


def _takes_gradient(info: SiteInfo) -> bool:
    tensor = info.site.tensor()
    return tensor is not None and tensor.is_leaf and tensor.requires_grad


def _weight_or_gradient(signal: Signal, info: SiteInfo) -> Tensor | None:
    tensor = info.site.tensor()
    if signal is Signal.WEIGHT or tensor is None:
        return tensor
    # A parametrised weight is no leaf: it has no gradient of its own, and torch warns of the question.
    gradient = tensor.grad if tensor.is_leaf else None
    return None if gradient is None else dense(gradient)
