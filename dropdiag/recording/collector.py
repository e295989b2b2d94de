"""The open sketches of one phase: fed by hooks, closed at the end of a step or evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from dropdiag.model.hook_base import dispatch_modes
from dropdiag.model.sites import ACTIVATION, OUTPUT, WEIGHT
from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.recording.readable import why_unread
from dropdiag.recording.records import Record, one_number
from dropdiag.sketches.base import Sketch
from dropdiag.sketches.chain import Told
from dropdiag.sketches.change import Change
from dropdiag.sketches.covariance import Covariance
from dropdiag.sketches.dropout import MaskedPass
from dropdiag.sketches.histogram import HistogramSketch, Sparse
from dropdiag.sketches.items import Source
from dropdiag.sketches.native import PLAIN

Plan: TypeAlias = dict[Signal, tuple[Probe[Any], ...]]
"""Which probes are fed with which tensors."""
Key: TypeAlias = tuple[Probe[Any], str, int]
"""Probe, layer and call index."""
Opened: TypeAlias = tuple[Key, Sketch]
Fed: TypeAlias = Tensor | MaskedPass | Told | Change
"""What a sketch is updated with."""
OF_WEIGHTS: Final = (Signal.WEIGHT, Signal.WEIGHT_GRAD, Signal.WEIGHT_STEP, Signal.WEIGHT_FROM_START)
"""What is read of weights at the end of a step."""
SIGNALS: Final = {
    WEIGHT: (*OF_WEIGHTS, Signal.RAW_WEIGHT_GRAD),
    ACTIVATION: (Signal.NET_VALUE, Signal.NODE_VALUE, Signal.NET_GRAD, Signal.CHAIN),
    OUTPUT: (Signal.NODE_VALUE,),
}
"""Which tensors a site of a kind has."""
FEW: Final = 64
"""Sketches that may be open while each histogram keeps its table of 256 KB: of more, it is packed once it is fed."""


class Collector:
    """Open sketches by probe, layer and call index.

    Parameters
    ----------
    probes : list of Probe
    on_failure : callable
        Called with the probe, the site and the exception where a probe fails, after it was disabled there.

    Attributes
    ----------
    active : dict
        The probes that are fed now, by the signal that they are fed with.
    period : int
        Changes with every step and evaluation: what was opened in an earlier one is closed.
    takes_masks, takes_nodes, reads_weights : bool
        Whether a probe is fed with what enters and leaves dropouts; with what leaves activations, or its gradient; with
        weights as they stand at the end of a step, or their gradients.
    refused : dict
        Layer -> why its tensors are not read, where they are not.
    """

    def __init__(self, probes: list[Probe[Any]], on_failure: Callable[[Probe[Any], SiteInfo, Exception], None]) -> None:
        self._probes = probes
        self._on_failure = on_failure
        self._disabled: set[tuple[str, str]] = set()
        self._spoilt: dict[Key, SiteInfo] = {}
        self.refused: dict[str, str] = {}
        self._share: tuple[int, int] | None = None
        self._plans: dict[tuple[str, bool], Plan] = {}
        self.active: Plan = {}
        self.takes_masks = self.takes_nodes = self.reads_weights = False
        self.period = 0
        self._open: dict[Key, tuple[SiteInfo, Sketch | None]] = {}
        # of what is open, as weights are closed one layer at a time
        self._of_layer: defaultdict[str, list[Key]] = defaultdict(list)

    def of_ranks(self, place: int, ranks: int) -> None:
        """Give what values of several ranks are merged from as well.

        Parameters
        ----------
        place : int
            Of this rank among those that have batches of their own.
        ranks : int
            How many these are: samples of bounded number are shared out among them.
        """
        self._share = place, ranks

    @property
    def shares(self) -> bool:
        """Whether this rank is one of several whose values are merged."""
        return self._share is not None

    def begin(self, phase: str, scheduled: bool) -> None:
        """Discard open sketches and choose the probes that are fed from now on."""
        self._discard()
        self.period += 1
        if (phase, scheduled) not in self._plans:
            self._plans[phase, scheduled] = self._plan(phase, scheduled)
        self._feed_by(self._plans[phase, scheduled])

    def _feed_by(self, plan: Plan) -> None:
        self.active = plan
        self.takes_masks = Signal.DROPOUT in plan or Signal.CHAIN in plan
        self.takes_nodes = Signal.NODE_VALUE in plan or Signal.CHAIN in plan
        self.reads_weights = not plan.keys().isdisjoint(OF_WEIGHTS)

    def _plan(self, phase: str, scheduled: bool) -> Plan:
        taking_part = [probe for probe in self._probes if probe.takes_part(phase, scheduled)]
        return {s: tuple(p for p in taking_part if p.signal is s) for s in {p.signal for p in taking_part}}

    def end(self) -> None:
        """Discard open sketches and feed no probe any more."""
        self._discard()
        self.period += 1
        self._feed_by({})

    def _discard(self) -> None:
        self._open.clear()
        self._of_layer.clear()
        self._spoilt.clear()

    def wants(self, signal: Signal) -> bool:
        """Whether a probe is fed with this kind of tensor."""
        return signal in self.active

    def lacks(self, *signals: Signal) -> bool:
        """Whether a probe wants these tensors and none of them has come."""
        wanted = any(signal in self.active for signal in signals)
        return wanted and not any(probe.signal in signals for probe, _, _ in self._open)

    @property
    def empty(self) -> bool:
        """Whether nothing has been fed."""
        return not self._open

    def open(self, signal: Signal, info: SiteInfo, call: int) -> list[Opened]:
        """Open the sketches of a tensor that may come, and return them for `update`."""
        opened = []
        layer = info.site.layer
        for probe in self.active.get(signal, ()):
            key = (probe, layer, call)
            known = self._open.get(key)
            if known is None:
                known = self._new(key, info)
            if known is not None and known[1] is not None:
                opened.append((key, known[1]))
        return opened

    def _new(self, key: Key, info: SiteInfo) -> tuple[SiteInfo, Sketch | None] | None:
        if self._disabled and (key[0].name, key[1]) in self._disabled:
            return None
        try:
            sketch = key[0].sketch(info)
            if self._share is not None and isinstance(sketch, Covariance):
                sketch.take_share(*self._share)
            new = self._open[key] = (info, sketch)
            self._of_layer[key[1]].append(key)
        except Exception as error:  # noqa: BLE001 - a probe, ours or the user's, must not end the training
            self._fail(key, info, error)
            return None
        return new  # a None for the sketch is kept as well: the probe is not asked again in this step

    def update(self, opened: list[Opened], info: SiteInfo, tensor: Fed, source: Source | None = None) -> None:
        """Update open sketches; keep no reference to the tensor. Those that take it are told which batch it is of."""
        # Checked here and not in sketches: a user's own sketch has to be kept from subclasses as well.
        if type(tensor) not in PLAIN and isinstance(tensor, Tensor):
            self._fail_all([key for key, _ in opened], info, tensor)
            return
        if dispatch_modes():
            # The user's: what counts operations counts those of the model, what keeps results keeps those.
            with _disable_current_modes():
                self.update(opened, info, tensor, source)
            return
        crowded = len(self._open) > FEW
        for key, sketch in opened:
            try:
                if source is not None and getattr(sketch, "takes_source", False):
                    sketch.update(tensor, source)  # type: ignore[call-arg, arg-type]
                else:
                    sketch.update(tensor)  # type: ignore[arg-type]  # what a probe's signal is, its sketch takes
                if crowded and isinstance(sketch, HistogramSketch):
                    sketch.pack()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(key, info, error)

    def feed(self, signal: Signal, info: SiteInfo, call: int, tensor: Fed, source: Source | None = None) -> None:
        """Update the sketches of a tensor; keep no reference to it."""
        self.update(self.open(signal, info, call), info, tensor, source)

    def refeed(self, signal: Signal, info: SiteInfo, call: int, tensor: Tensor) -> None:
        """Replace what was fed before by a tensor."""
        for probe in self.active.get(signal, ()):
            self._open.pop((probe, info.site.layer, call), None)
        self.feed(signal, info, call, tensor)

    def spoil(self, signal: Signal, info: SiteInfo, call: int) -> None:
        """Make the values of a call missing in this step, whatever was fed and will be."""
        for probe in self.active.get(signal, ()):
            key = (probe, info.site.layer, call)
            if self._open.get(key, (info, None))[1] is not None:
                self._open[key] = (info, None)  # no sketch is opened or fed under this key any more
                self._spoilt[key] = info

    def refuse(self, info: SiteInfo, reason: Exception) -> None:
        """Disable all probes of a site, as its tensors are not read."""
        layer = info.site.layer
        if layer not in self.refused:
            self.refused[layer] = str(reason)
            for probe in self._probes:
                if probe.signal in SIGNALS[info.site.kind]:
                    self._fail((probe, layer, 0), info, reason)

    def _fail_all(self, keys: list[Key], info: SiteInfo, tensor: Tensor) -> None:
        reason = why_unread(tensor)
        for key in keys:
            if reason is not None:
                self._fail(key, info, reason)

    def fail(self, signal: Signal, info: SiteInfo, error: Exception) -> None:
        """Disable the probes of a signal at a site: what they are fed with could not be made."""
        for probe in self.active.get(signal, ()):
            self._fail((probe, info.site.layer, 0), info, error)

    def _fail(self, failed: Key, info: SiteInfo, error: Exception) -> None:
        probe, layer, _ = failed
        if (probe.name, layer) in self._disabled:  # reported already, for another call of the same site
            return
        self._disabled.add((probe.name, layer))
        for key in self._of_layer.get(layer, ()):
            if key[0] is probe:
                self._open.pop(key, None)
        self._on_failure(probe, info, error)

    def finish(self, layer: str | None = None) -> list[Record]:
        """Close all sketches, or those of one layer, and return their values."""
        records: list[Record] = []
        for key in list(self._open) if layer is None else self._of_layer.pop(layer, ()):
            # A probe that failed since the keys were listed has no sketch any more.
            info, sketch = self._open.pop(key, (None, None))
            if info is not None and sketch is not None:
                records += self._values(key, info, sketch)
            elif info is not None and key in self._spoilt:
                records += self._missing(key, info)
        return records

    def _missing(self, key: Key, info: SiteInfo) -> list[Record]:
        empty = self._new(key, info)  # of an empty sketch, the values are missing
        self._open.pop(key, None)
        values = [] if empty is None or empty[1] is None else self._values(key, info, empty[1])
        # A count of 0 would say that nothing came; whatever came is not known.
        return [record._replace(n=None) for record in values if not isinstance(record.value, State)]

    def _values(self, key: Key, info: SiteInfo, sketch: Sketch) -> list[Record]:
        probe, layer, call = key
        try:
            values = list(probe.values(sketch))
            drained: dict[int, HistogramSketch | Sparse] = {}
            found = [Record(layer, call, quantity, _kept(value, drained)) for quantity, value in values]
            if self._share is None:
                return found
            counted = [one._replace(n=_number_of_values(v)) for one, (_, v) in zip(found, values, strict=True)]
            return counted + [Record(layer, call, quantity, state) for quantity, state in probe.states(sketch)]
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(key, info, error)
            return []


def _kept(
    value: ProbeValue, drained: dict[int, HistogramSketch | Sparse]
) -> float | Tensor | HistogramSketch | Sparse | None:
    """Return what is kept of a probe's value; ``drained``: what is kept of the histograms so far, by their ids."""
    if not isinstance(value, HistogramSketch):
        return _plain(value)
    # One histogram may be given under two names, and can be drained once only.
    if id(value) not in drained:
        drained[id(value)] = _drained(value)
    return drained[id(value)]


def _drained(histogram: HistogramSketch) -> HistogramSketch | Sparse:
    """Return the bins of a histogram on the host, or the histogram itself where it is on an accelerator."""
    # At once on the host, so that the next sketch finds the table in the cache; a device would make the host wait.
    return histogram.drain() if histogram.on_host else histogram


def _number_of_values(value: ProbeValue) -> float | Tensor | None:
    if type(value) is not Counted:
        return None
    return value.n.detach() if isinstance(value.n, Tensor) else float(value.n)


def _plain(value: ProbeValue) -> float | Tensor | None:
    if type(value) is Counted:
        value = value.value
    if value is None or type(value) is float:  # most values: no question is asked of them
        return value
    return one_number("a probe's value is one number or a histogram", value)
