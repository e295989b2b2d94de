"""The open sketches of one phase: fed by hooks, closed at the end of a step or evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.probes import Place, Probe, Tap, Value
from dropdiag.sketches import Histogram, Sketch
from dropdiag.sketches.histogram import Sparse
from dropdiag.sketches.native import PLAIN

Plan: TypeAlias = dict[Tap, tuple[Probe[Any], ...]]
"""Which probes are fed with which tensors."""
Key: TypeAlias = tuple[Probe[Any], str, int]
"""Probe, layer and call index."""
Opened: TypeAlias = tuple[Key, Sketch]


class Finished(NamedTuple):
    """One value of one site, or of the run itself (no layer)."""

    layer: str | None
    call: int
    quantity: str
    value: Value | Sparse


class Collector:
    """Open sketches by probe, place and call index.

    Parameters
    ----------
    probes : list of Probe
    on_failure : callable
        Called with the probe, the place and the exception where a probe fails, after it was disabled there.

    Attributes
    ----------
    period : int
        Another number for each step or evaluation: sketches of an earlier one are closed.
    """

    def __init__(self, probes: list[Probe[Any]], on_failure: Callable[[Probe[Any], Place, Exception], None]) -> None:
        self._probes = probes
        self._on_failure = on_failure
        self._disabled: set[tuple[str, str]] = set()
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._active: Plan = {}
        self.period = 0
        self._open: dict[Key, tuple[Place, Sketch | None]] = {}

    def begin(self, phase: str, scheduled: bool) -> None:
        """Drop what is open and say which probes are fed from now on."""
        self._open.clear()
        self.period += 1
        if (phase, scheduled) not in self._plans:
            self._plans[phase, scheduled] = self._plan(phase, scheduled)
        self._active = self._plans[phase, scheduled]

    def _plan(self, phase: str, scheduled: bool) -> Plan:
        taking_part = [probe for probe in self._probes if probe.takes_part(phase, scheduled)]
        taps = {probe.tap for probe in taking_part}
        return {tap: tuple(probe for probe in taking_part if probe.tap is tap) for tap in taps}

    def end(self) -> None:
        """Drop what is open; nothing is fed any more."""
        self._open.clear()
        self.period += 1
        self._active = {}

    def wants(self, tap: Tap) -> bool:
        """Whether some probe is fed with this kind of tensor."""
        return tap in self._active

    def without(self, *taps: Tap) -> bool:
        """Whether some probe waits for these tensors and none of them has come."""
        waited = any(tap in self._active for tap in taps)
        return waited and not any(probe.tap in taps for probe, _, _ in self._open)

    @property
    def empty(self) -> bool:
        """Whether nothing has been fed."""
        return not self._open

    def open(self, tap: Tap, place: Place, call: int) -> list[Opened]:
        """Open the sketches of a tensor that may come, and return them, for `update`."""
        opened = []
        layer = place.site.layer
        for probe in self._active.get(tap, ()):
            key = (probe, layer, call)
            known = self._open.get(key)
            if known is None:
                known = self._new(key, place)
            if known is not None and known[1] is not None:
                opened.append((key, known[1]))
        return opened

    def _new(self, key: Key, place: Place) -> tuple[Place, Sketch | None] | None:
        if self._disabled and (key[0].name, key[1]) in self._disabled:
            return None
        try:
            new = self._open[key] = (place, key[0].sketch(place))
        except Exception as error:  # noqa: BLE001 - a probe, ours or the user's, must not end the training
            self._fail(key, place, error)
            return None
        return new

    def update(self, opened: list[Opened], place: Place, tensor: Tensor) -> None:
        """Update sketches that are open; keep no reference to the tensor."""
        for key, sketch in opened:
            try:
                if type(tensor) not in PLAIN:  # every tensor comes through here, whatever the probe does with it
                    raise _unread(tensor)
                sketch.update(tensor)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(key, place, error)

    def feed(self, tap: Tap, place: Place, call: int, tensor: Tensor) -> None:
        """Update the sketches of a tensor; keep no reference to it."""
        self.update(self.open(tap, place, call), place, tensor)

    def refeed(self, tap: Tap, place: Place, call: int, tensor: Tensor) -> None:
        """Let a tensor take the place of what was fed before."""
        for probe in self._active.get(tap, ()):
            self._open.pop((probe, place.site.layer, call), None)
        self.feed(tap, place, call, tensor)

    def _fail(self, failed: Key, place: Place, error: Exception) -> None:
        probe, layer, _ = failed
        if (probe.name, layer) in self._disabled:  # another call of the same site
            return
        self._disabled.add((probe.name, layer))
        for key in [key for key in self._open if key[:2] == (probe, layer)]:
            del self._open[key]
        self._on_failure(probe, place, error)

    def finish(self, layer: str | None = None) -> Iterator[Finished]:
        """Close all sketches, or those of one layer, and give what they say."""
        for key in [key for key in self._open if layer is None or key[1] == layer]:
            place, sketch = self._open.pop(key, (None, None))  # a probe that failed meanwhile has no sketch any more
            if place is not None and sketch is not None:
                yield from self._values(key, place, sketch)

    def _values(self, key: Key, place: Place, sketch: Sketch) -> list[Finished]:
        probe, layer, call = key
        try:
            said = list(probe.values(sketch))
            histograms = {id(value): value for _, value in said if isinstance(value, Histogram)}
            drained = {number: _drained(value) for number, value in histograms.items()}
            return [Finished(layer, call, quantity, drained.get(id(v)) or _number(v)) for quantity, v in said]
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(key, place, error)
            return []


def _unread(tensor: Tensor) -> ArgumentError:
    """Say why a subclass is left alone: its operations may mean anything, a collective or a write to its own memory."""
    kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
    return ArgumentError(
        f"it gets a {kind}, and tensor subclasses (DTensor and the like) are not read yet: record plain tensors, "
        "or leave the layer out with exclude="
    )


def _drained(histogram: Histogram) -> Histogram | Sparse:
    """Empty a histogram at once, so that its table is there for the next one; on an accelerator that comes later."""
    on_host = histogram.counts is None or histogram.counts.is_cpu
    return histogram.drain() if on_host else histogram


def _number(value: Value) -> float | Tensor | None:
    """Return a probe's value as it is now: a float, or a tensor of its own that is on an accelerator."""
    if value is None or type(value) is float:
        return value
    if not isinstance(value, Tensor):
        return float(value)  # type: ignore[arg-type]
    if value.numel() != 1 or value.is_complex():
        raise ArgumentError(f"a probe's value is one number or a histogram, got a tensor of shape {tuple(value.shape)}")
    return float(value.item()) if value.is_cpu else value.detach().clone().reshape(())
