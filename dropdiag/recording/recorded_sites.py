"""The sites of one recorded model: with hooks on it, and kept up with its modules as they come and go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from torch import nn

from dropdiag.model.activations import Activation
from dropdiag.model.inserted import record_before_inserted
from dropdiag.model.sites import ACTIVATION, DROPOUT, OUTPUT, WEIGHT, Patterns, Site
from dropdiag.probes.base import Probe, Signal, SiteInfo
from dropdiag.recording import notices
from dropdiag.recording.collector import Collector
from dropdiag.recording.failures import Failures
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.hooks import Hooks
from dropdiag.recording.masks.reader import MaskReader
from dropdiag.recording.metadata import describe_activations, saturation_area
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.site_log import SiteLog
from dropdiag.recording.transfer import TransferQueue
from dropdiag.recording.watching.changes import ModuleWatch
from dropdiag.store.door.writing import check_name
from dropdiag.store.writer import RunWriter

TOLD_CHANGES: Final = 5
"""Changes of the model's modules that are told; all are followed."""


class RecordedSites:
    """What is recorded of a model.

    Parameters
    ----------
    model : nn.Module
    sites : list of Site
        What the survey found, chosen and named.
    activations : dict
        Their activations, by name.
    probes : sequence of Probe
    patterns : Patterns
        Which layers are left out.
    router : PassRouter
    train : Collector
        For training steps.
    failures : Failures

    Attributes
    ----------
    functional : FunctionalCalls
    masks : MaskReader
    log : SiteLog
    """

    def __init__(
        self,
        model: nn.Module,
        sites: list[Site],
        activations: dict[str, Activation],
        *,
        probes: Sequence[Probe[Any]],
        patterns: Patterns,
        router: PassRouter,
        train: Collector,
        failures: Failures,
    ) -> None:
        self._model, self._router, self._failures = model, router, failures
        self._activations = activations
        of_gradients = Signal.WEIGHT_GRAD, Signal.RAW_WEIGHT_GRAD
        self._weight_gradients = any(probe.signal in of_gradients for probe in probes)
        wanted = any(probe.signal in (Signal.DROPOUT, Signal.CHAIN) for probe in probes)
        self.masks = MaskReader(model, router, train, wanted=wanted)
        router.compiled_begins = self.masks.forward_begins
        self.functional = FunctionalCalls(
            model, sites, router, masks=self.masks, skipped=patterns.why_not, on_failure=failures.interception
        )
        self.log = SiteLog(sites, self.functional, router, self.masks)
        self._modules = ModuleWatch(model, patterns.why_not)
        self._hooks: Hooks | None = None
        self._changes = 0
        self._untold: list[str] = []

    @property
    def weights(self) -> list[SiteInfo]:
        """The weights as they are now."""
        return [SiteInfo(site, None) for site in self.log.sites if site.kind == WEIGHT and site.recordable]

    def attach(self) -> None:
        """Put the hooks on the model."""
        self._infos = self._hooked(self.log.sites)
        infos = list(self._infos.values())
        weights = [info.site for info in self.weights]
        self._hooks = Hooks(self._model, infos, self._router, self.functional, self.masks, weights=weights)
        record_before_inserted(self._model)

    def watch_weights(self) -> None:
        """Put hooks on weights that take gradients by now."""
        if self._hooks is not None:
            self._hooks.watch_weights()

    def begin_no_pass(self) -> None:
        """Leave forward passes alone that begin from now on."""
        if self._hooks is not None:
            self._hooks.begin_no_pass()

    def stay_behind(self) -> None:
        """Make the hooks do nothing any more, where they are: in a child that was forked, maybe from inside of one."""
        if self._hooks is not None:
            self._hooks.silence()
            self.functional.end()

    def end_open_pass(self) -> None:
        """End a forward pass that was interrupted."""
        if self._hooks is not None:
            self._hooks.end_open_pass()

    def release(self) -> None:
        """Take everything off the model; nothing of it is recorded any more. May be called again."""
        if self._hooks is not None:
            self._hooks.remove()
            self._hooks = None

    def _hooked(self, sites: Iterable[Site]) -> dict[int, SiteInfo]:
        """Return the sites that are recorded by hooks, by identity: two may be equal but for their modules."""
        return {id(s): SiteInfo(s, self._activations.get(s.activation or "")) for s in sites if self._has_hooks(s)}

    def _has_hooks(self, site: Site) -> bool:
        """Whether a site is recorded by hooks: what passes, and weights whose gradients are wanted."""
        if site.kind == WEIGHT:
            return site.recordable and self._weight_gradients
        return site.kind in (ACTIVATION, OUTPUT, DROPOUT) and site.skipped is None

    def follow(self, writer: RunWriter, step: int) -> bool:
        """Record the modules that the model has by now; return whether they are others than before.

        It may be the middle of a forward pass: what there is to tell waits for `tell`, and ``run.json`` for the next
        rows.
        """
        if self._hooks is None or not self._modules.changed():
            return False
        try:
            self._exchange(self._hooks, step)
        except Exception as error:  # noqa: BLE001 - whatever a module is, training goes on
            self._failures.changes(error)
        self._note(writer, self._activations.values())
        return True

    def tell(self) -> None:
        """Warn of what has changed."""
        while self._untold:
            self._failures.warn(self._untold.pop(0))

    def _exchange(self, hooks: Hooks, step: int) -> None:
        change = self._modules.change(self.log.surveyed)
        for site in change.came:
            check_name("the name of a layer", site.layer)
        came, found = describe_activations([self._router.axes.given(site) for site in change.came], self._activations)
        self.functional.name_modules([*change.kept, *came])
        self._activations = found
        infos = self._hooked(came)
        gone = [self._infos.pop(id(site)) for site in change.gone if id(site) in self._infos]
        self._infos |= infos
        now = [*change.kept, *came]
        hooks.exchange(gone, list(infos.values()))
        self.log.exchange(now, change.gone, step)
        self._note_change(str(change), step)

    def _note_change(self, change: str, step: int) -> None:
        self._changes += bool(change)  # it is empty where all that changed is left out
        if change and self._changes <= TOLD_CHANGES:
            end = notices.CHANGED_TOO_OFTEN if self._changes == TOLD_CHANGES else ""
            self._untold.append(notices.CHANGED.format(step=step, changes=change) + end)

    def add_functional(self, writer: RunWriter, queue: TransferQueue) -> None:
        """Add functional calls that were seen for the first time to the run's metadata, and the order as it is now."""
        if not self.functional.new:
            if self.log.order_changed() or self._router.chain.log.changed:  # written with the next rows
                self._note(writer, ())
        else:
            new = self.log.add_functional()
            queue.flush(wait=False)  # run.json must not name steps whose rows are not on their way to the disk
            self._note(writer, [info.activation for info in new if info.activation is not None])
            writer.save_meta()

    def _note(self, writer: RunWriter, activations: Collection[Activation]) -> None:
        """Note all layers for ``run.json``, and hand over what is known of activations."""
        writer.meta |= {"layers": self.log.describe(), "order": self.log.order()}
        writer.meta["chain"] = self._router.chain.log.describe()
        writer.meta["activations"] |= {a.name: saturation_area(a) for a in activations}
        writer.add_derivatives({a.name: a.derivative for a in activations})
