"""Reads the weights and their gradients at the end of a step."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Final

from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.collector import OF_WEIGHTS, Collector
from dropdiag.recording.earlier_weights import NOT_KNOWN, SINCE, EarlierWeights
from dropdiag.recording.failures import Failures
from dropdiag.recording.notices import GRADIENT_USED_UP, NO_WEIGHT_GRADIENT
from dropdiag.recording.parts import Part, is_spread, part_of
from dropdiag.recording.ranks.spread import Spread
from dropdiag.recording.ranks.weights import Held
from dropdiag.recording.readable import dense, why_unread
from dropdiag.recording.records import Record
from dropdiag.recording.site_log import ELSEWHERE, SiteLog
from dropdiag.sketches.native import PLAIN

MADE: Final = "no gradient of its own"
RAW_UNSEEN: Final = "gradient before clipping not seen"
USED_UP: Final = "gradients used up inside backward()"


class WeightReader:
    """Feeds a collector with weights as they stand.

    Parameters
    ----------
    weights : sequence of SiteInfo
    collector : Collector
    site_log : SiteLog
        Counts how often each weight was read.
    failures : Failures
    accumulated : set of str
        Layers of the weights that a backward pass of the step has added a gradient to; changed by who watches them.
    spread : Spread
        Knows what this rank holds of them.

    Attributes
    ----------
    read_at : int or None
        The step at which the weights were read last, if they were.
    """

    def __init__(
        self,
        weights: Sequence[SiteInfo],
        collector: Collector,
        site_log: SiteLog,
        failures: Failures,
        *,
        accumulated: set[str],
        spread: Spread,
    ) -> None:
        self._weights, self._collector, self._accumulated = weights, collector, accumulated
        self._site_log, self._failures = site_log, failures
        self._spread = spread
        spread.weights.record(weights)
        owned = {info.site.layer: info.site.module._parameters.get(info.site.parameter) for info in weights}
        self._last = {layer: _reference(_gradient(parameter)) for layer, parameter in owned.items()}
        self._seen: dict[str, tuple[weakref.ref[Tensor], int]] = {}
        self._earlier = EarlierWeights()
        self.read_at: int | None = None

    def exchange(self, weights: Sequence[SiteInfo]) -> None:
        """Read these weights from now on."""
        self._weights = weights
        self._spread.weights.record(weights)

    def keep(self, signal: Signal) -> None:
        """Keep the weights as they are, if a probe sets them beside what they will be; let go of those kept before."""
        if not self._collector.wants(signal):
            self._earlier.forget(signal)
            return
        weights = {info.site.layer: self._readable(info) for info in self._weights}
        self._earlier.keep(signal, {layer: weight for layer, weight in weights.items() if weight is not None})

    def forget(self) -> None:
        """Let go of all weights that are kept."""
        self._earlier.forget(*SINCE)

    def read(self, step: int, signals: Sequence[Signal] = OF_WEIGHTS) -> list[Record]:
        """Return what the probes make of the weights, and of their gradients, as they stand."""
        wanted = [signal for signal in signals if self._collector.wants(signal)]
        if step == 0:
            self.keep(Signal.WEIGHT_FROM_START)
        of_weights = next((signal for signal in wanted if signal is not Signal.WEIGHT_GRAD), None)
        records: list[Record] = []
        had_gradient = False
        for info in self._weights if wanted else ():
            for signal in wanted:
                fed = self._feed(signal, info)
                had_gradient |= fed is not False and signal is Signal.WEIGHT_GRAD
                self._site_log.readings[info.site.layer] += bool(fed) and signal is of_weights
            # Each weight is closed by itself, so few sketches (256 KB for a histogram) are open at a time.
            records += self._collector.finish(info.site.layer)
        if Signal.WEIGHT in wanted or Signal.WEIGHT_FROM_START in wanted:
            self.read_at = step
        if Signal.WEIGHT_GRAD in wanted and not had_gradient:
            self._warn_of_gradients()
        return records

    def _feed(self, signal: Signal, info: SiteInfo) -> bool | None:
        """Feed the probes of a signal; return whether there was anything, None where another rank has it."""
        try:
            held = self._spread.weights.of(info.site)
        except Exception as error:  # noqa: BLE001 - a user's parametrisation must not end the training
            self._failures.weight(info.site.layer, error)
            return False
        if not held.here:
            self._site_log.words[info.site.layer] = ELSEWHERE
            return None
        if held.why is not None:
            self._collector.refuse(info, ArgumentError(held.why))
        if held.weight is None:
            return False  # a weight without values has no rows at all
        if held.sharded:
            self._spread.sharded.add(info.site.layer)
        value = self._gradient_of_step(info, held) if signal is Signal.WEIGHT_GRAD else dense(held.weight)
        if value is None:
            self._collector.open(signal, info, 0)  # an open sketch that stays empty is recorded as missing
        elif (reason := why_unread(value)) is not None:
            self._collector.refuse(info, reason)
            value = None
        elif signal in SINCE:
            self._feed_change(signal, info, value)
        else:
            self._collector.feed(signal, info, 0, value)
        return value is not None

    def _feed_change(self, signal: Signal, info: SiteInfo, now: Tensor) -> None:
        change = self._earlier.change(signal, info.site.layer, now)
        if change is None:
            self._site_log.words.setdefault(info.site.layer, NOT_KNOWN.format(since=SINCE[signal]))
            self._collector.open(signal, info, 0)
        else:
            self._collector.feed(signal, info, 0, change)

    def _readable(self, info: SiteInfo) -> Tensor | None:
        """Return what is to be kept of a weight; None where there is nothing, of which `read` tells the reason."""
        try:
            held = self._spread.weights.of(info.site)
        except Exception:  # noqa: BLE001 - told of when it is read
            return None
        if not held.here or held.why is not None or held.weight is None:
            return None
        weight = dense(held.weight)
        return weight if why_unread(weight) is None else None

    def _gradient_of_step(self, info: SiteInfo, held: Held) -> Tensor | None:
        """Return a weight's gradient if it is of this step; None if it was left by an earlier one."""
        weight = held.owner
        if weight is not None and is_spread(weight):
            return self._spread_gradient(info, weight)
        layer, gradient = info.site.layer, _gradient(weight)
        # A gradient that users compute themselves is set, and not accumulated: it is another tensor then.
        last, self._last[layer] = self._last.get(layer), _reference(gradient)
        stale = layer not in self._accumulated and last is not None and gradient is last()
        if gradient is None and layer in self._accumulated and weight is not None and _has_other_hooks(weight):
            self._site_log.words[layer] = USED_UP
        return None if gradient is None or stale else dense(gradient)

    def _spread_gradient(self, info: SiteInfo, weight: Tensor) -> Tensor | None:
        """Return what this rank holds of the gradient of a weight that is spread over ranks, as the step left it."""
        gradient = weight.grad
        if gradient is None:
            return None
        part = part_of(gradient) if is_spread(gradient) else Part(gradient)
        if part.why is not None:
            self._site_log.words[info.site.layer] = f"gradient missing: {part.why}"
        if part.tensor is None:
            return None
        # No hook tells that it was added to: it is of this step if it is another tensor, or has been written to.
        layer, version = info.site.layer, part.tensor._version
        before, self._seen[layer] = self._seen.get(layer), (weakref.ref(gradient), version)
        stale = before is not None and before[0]() is gradient and before[1] == version
        if layer not in self._accumulated and self._collector.wants(Signal.RAW_WEIGHT_GRAD) and not stale:
            self._site_log.words[layer] = RAW_UNSEEN
        return None if stale and layer not in self._accumulated else dense(part.tensor)

    def _warn_of_gradients(self) -> None:
        if USED_UP in self._site_log.words.values():
            self._failures.warn(GRADIENT_USED_UP)
        elif any(_takes_gradient(info) for info in self._weights):
            self._failures.warn(NO_WEIGHT_GRADIENT)


def _takes_gradient(info: SiteInfo) -> bool:
    tensor = info.site.tensor()
    return type(tensor) in PLAIN and tensor is not None and tensor.is_leaf and tensor.requires_grad


def _gradient(weight: Tensor | None) -> Tensor | None:
    # A parametrised weight is no leaf: it has no gradient of its own, and torch warns of the question.
    return weight.grad if type(weight) in PLAIN and weight is not None and weight.is_leaf else None


def _has_other_hooks(weight: Tensor) -> bool:
    # Private: torch has no public question for the hooks of a tensor. One is ours.
    return len(weight._post_accumulate_grad_hooks or ()) > 1


def _reference(tensor: Tensor | None) -> weakref.ref[Tensor] | None:
    return None if tensor is None else weakref.ref(tensor)
