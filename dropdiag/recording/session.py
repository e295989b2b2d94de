"""One recorded run: everything between a model and its run folder, from the first step to the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from torch import nn

from dropdiag.model.sites import (
    ACTIVATION,
    DROPOUT,
    OUTPUT,
    WEIGHT,
    LayerPatterns,
    Patterns,
    Site,
    select,
    spare_fused,
    survey,
)
from dropdiag.probes.base import Probe, Signal, SiteInfo
from dropdiag.recording import notices
from dropdiag.recording.arguments import checked_config
from dropdiag.recording.collector import Collector
from dropdiag.recording.failures import Failures
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.hooks import Hooks
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.masks import MaskReader
from dropdiag.recording.metadata import describe_activations, run_metadata, saturation_area
from dropdiag.recording.notices import Notice
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.records import Record, run_scalar
from dropdiag.recording.schedules import Schedule, check_schedule
from dropdiag.recording.site_log import SiteLog
from dropdiag.recording.transfer import TransferQueue
from dropdiag.recording.weights import WeightReader
from dropdiag.store.folder import evaluated_phases, resume_step
from dropdiag.store.schema import TRAIN
from dropdiag.store.writer import RunWriter

FIRST_SCANS: Final = 10
SCAN_EVERY: Final = 100
"""New functional calls are looked for in the first ten scheduled steps, then in every hundredth."""


class Session:
    """Records one run of one model.

    Parameters
    ----------
    model : nn.Module
        An eager one, checked.
    path : Path
        The run folder.
    probes : sequence of Probe
    schedule : callable
    patterns : tuple
        ``include`` and ``exclude`` of the Recorder.
    config, strict, resume
        As for the Recorder.
    loss_scale : LossScale
    overhead : Overhead

    Attributes
    ----------
    completed : int
        Number of completed training steps.
    open_evaluation : str or None
        The phase of the evaluation that is open.
    site_log : SiteLog
    closed : bool
    """

    def __init__(
        self,
        model: nn.Module,
        path: Path,
        *,
        probes: Sequence[Probe[Any]],
        schedule: Schedule,
        patterns: tuple[LayerPatterns, LayerPatterns],
        config: dict[str, Any] | None,
        loss_scale: LossScale,
        overhead: Overhead,
        strict: bool,
        resume: bool | int,
    ) -> None:
        self._probes, self._schedule = list(probes), schedule
        self._loss_scale, self._overhead = loss_scale, overhead
        sites = spare_fused(select(survey(model), *patterns), model)
        start = resume_step(path, resume)
        check_schedule(schedule, (start or 0) + 1)
        sites, activations = describe_activations(sites)
        meta = run_metadata(checked_config(config), sites, activations.values(), self._probes, repr(schedule))
        # Everything that can be refused has been checked: only now is the folder made.
        self.writer = RunWriter(path, {**meta, "steps": start or 0}, resume_from=start)

        self._failures = Failures(self.writer, strict)
        self.queue = TransferQueue(self.writer, self._disk_failed)
        self._train = Collector(self._probes, self._failures.probe)
        self._held_out = Collector(self._probes, self._failures.probe)
        self._start = self.completed = start or 0
        known = set() if start is None else evaluated_phases(path, start)
        self._evaluated = {(self.completed, phase) for phase in known}
        self.open_evaluation: str | None = None
        self.closed = self._stopped = False
        self._scans = 0
        self._budget_flags: list[Record] = []
        self.router = PassRouter(self._train, self._held_out, loss_scale, overhead)
        why_not = Patterns(*patterns).why_not
        wanted = any(probe.signal is Signal.DROPOUT for probe in self._probes)
        self._masks = MaskReader(model, self.router, self._train, wanted=wanted)
        self.router.compiled_begins = self._masks.forward_begins
        self._functional = FunctionalCalls(model, self.router, self._masks, why_not, self._failures.interception)
        self.site_log = SiteLog(sites, self._functional, self.router, self._masks)

        weights = [SiteInfo(s, None) for s in sites if s.kind == WEIGHT and s.recordable]
        self._weights = WeightReader(weights, self._train, self.site_log, self._failures)
        self._weights.read_at = start
        self.writer.add_derivatives({name: a.derivative for name, a in activations.items()})
        if start is None:
            self._record_weights_alone()
        self._begin_step()
        hooked = [SiteInfo(s, activations.get(s.activation or "")) for s in sites if self._has_hooks(s)]
        self._hooks = Hooks(model, hooked, self.router, self._functional, self._masks)
        overhead.begin()

    def _has_hooks(self, site: Site) -> bool:
        """Whether a site is recorded by hooks: what passes, and weights whose raw gradients are wanted."""
        if site.kind == WEIGHT:
            return site.recordable and any(probe.signal is Signal.RAW_WEIGHT_GRAD for probe in self._probes)
        return site.kind in (ACTIVATION, OUTPUT, DROPOUT) and site.skipped is None

    def step(self, own: list[Record]) -> None:
        """End a training step.

        Parameters
        ----------
        own : list of Record
            The user's.
        """
        self.completed += 1
        if self._stopped:
            return
        begun = clock()
        records = self._weights.read(self.completed)
        self._add_functional_sites()
        self._warn_of_passes()
        self._masks.step_ends()
        records += [*self._train.finish(), *own, *self._loss_scale.skipped(), *self._budget_flags]
        ended = clock()
        self._overhead.spent += ended - begun
        self._store(TRAIN, [*records, *self._overhead.read()])
        self._begin_step()
        # Before the flush, which writes run.json: it must not name a step whose rows are still on a device.
        self.writer.meta["steps"] = self.queue.safe_step(self.completed)
        self.queue.flush(due_only=True)
        self.queue.report_failure()
        if self.writer.background.waits:
            self._failures.warn(notices.DISK_IS_SLOW)
        self._overhead.spent += clock() - ended

    def put(self, phase: str, records: list[Record]) -> None:
        """Record values at the current step."""
        if not self._stopped:
            self._store(phase, records)
            self.queue.flush(due_only=True)

    def _store(self, phase: str, records: list[Record]) -> None:
        self.site_log.note_samples(records)
        self.queue.put(self.completed, phase, records)

    @contextmanager
    def evaluation(self, name: str) -> Iterator[None]:
        """Record the passes in evaluation mode inside, pooled, under a phase called `name`."""
        if self._stopped:
            yield
            return
        with self.measurement(name) as (phase, records):
            self.open_evaluation = phase
            self.router.evaluation_begins()
            self._masks.draws.begins()
            self._held_out.begin(phase, scheduled=True)
            try:
                yield
                begun = clock()
                self._warn_of_evaluation(name)
                self._add_functional_sites()
                records.extend(self._held_out.finish())
                self._overhead.spent += clock() - begun
            finally:
                self._held_out.end()
                self.router.evaluation_ends()
                self.open_evaluation = None

    @contextmanager
    def measurement(self, name: str) -> Iterator[tuple[str, list[Record]]]:
        """Give a phase called `name` and a list, and record what the list holds at the end; this is no step's time."""
        phase = self._unused_phase(name)
        records: list[Record] = []
        self._overhead.evaluation_begins()
        try:
            yield phase, records
        finally:  # after an exception, too
            spent = self._overhead.evaluation_ends()
        if records and not self._stopped:
            self.put(phase, [*records, *spent])
            self._evaluated.add((self.completed, phase))

    def _unused_phase(self, name: str) -> str:
        phase, number = name, 1
        while (self.completed, phase) in self._evaluated:
            number += 1
            phase = f"{name}-{number}"
        if phase != name:
            self._failures.warn(notices.REPEATED_PHASE.format(name=name, phase=phase))
        return phase

    def _warn_of_evaluation(self, name: str) -> None:
        silent = self._held_out.empty and any(probe.on_eval for probe in self._probes)
        drawn = self._masks.draws.drawn
        for warning in notices.after_evaluation(self.router.notices, name, nothing_recorded=silent, drawn=drawn):
            self._failures.warn(warning)

    def _warn_of_passes(self) -> None:
        seen = self.router.notices
        if seen:
            silent = Notice.NOT_TRAINING in seen and self._train.lacks(Signal.NET_VALUE, Signal.NET_GRAD)
            for warning in notices.after_step(seen, nothing_recorded=silent):
                self._failures.warn(warning)
        # Going through all modules takes as long as a small step, so it is done only where functions are scanned for.
        if self.router.intercept and (replaced := self.site_log.replaced()):
            self._failures.warn(notices.REPLACED.format(layers=", ".join(replaced)))

    def _begin_step(self) -> None:
        wanted = bool(self._schedule(self.completed + 1))
        scheduled, paused = self._overhead.plan(wanted)
        self._scans += scheduled
        # Interception costs a little at every operator, so it is on now and then; the first step of all always scans.
        scans = scheduled and (self._scans <= FIRST_SCANS or self._scans % SCAN_EVERY == 0)
        self.router.step_begins(intercept=scans or self.completed == self._start, paused=paused)
        self._loss_scale.step_begins()
        if paused:
            self._train.end()
        else:
            self._train.begin(TRAIN, scheduled)
        flags = {"schedule_thinned": wanted and not scheduled, "probes_rested": paused}
        self._budget_flags = [run_scalar(name, 1.0) for name, is_so in flags.items() if is_so]
        if self._budget_flags:
            self._failures.warn(notices.OVER_BUDGET)

    def _record_weights_alone(self) -> None:
        """Record the weights as they stand, outside of a training step."""
        self._train.begin(TRAIN, scheduled=True)
        self._store(TRAIN, self._weights.read(self.completed, [Signal.WEIGHT]))

    def _add_functional_sites(self) -> None:
        """Add functional calls that were seen for the first time to the run's metadata."""
        if not self._functional.new:
            return
        new = self.site_log.add_functional()
        known = [info.activation for info in new if info.activation is not None]
        self.writer.meta["activations"] |= {a.name: saturation_area(a) for a in known}
        self.queue.flush(wait=False)  # run.json must not name steps whose rows are not on their way to the disk
        self.writer.add_derivatives({a.name: a.derivative for a in known})
        self.writer.save_meta(layers=[site.describe() for site in self.site_log.sites])

    def close(self, state: str, error: str | None) -> None:
        """Take everything off the model and close the run. May be called again.

        Parameters
        ----------
        state : {"completed", "failed", "interrupted"}
        error : str or None
            What ended the run, if not well.
        """
        if self.closed:
            return
        self._release()
        self.closed = True
        # Nested, as warnings may be errors: what was recorded is written whatever happens before.
        try:
            self._record_the_end()
        finally:
            try:
                self.queue.flush()
            finally:
                self._close_folder(state, error)

    def _record_the_end(self) -> None:
        if self._weights.read_at != self.completed and not self._stopped:
            self._record_weights_alone()
        self._add_functional_sites()
        self.writer.meta["coverage"] = self.site_log.coverage().as_dicts()
        self.writer.meta["cost"] = self._overhead.summary()
        silent = self.site_log.silent()
        if silent and (self.completed > self._start or self._evaluated):
            layers = ", ".join(silent)
            self._failures.warn(f"no recorded forward pass went through {layers}: nothing of it was recorded")

    def _close_folder(self, state: str, error: str | None) -> None:
        try:
            failure = self.writer.close(state, error)
        except Exception as refused:  # noqa: BLE001 - it is reported, and what was recorded is closed
            self._disk_failed(refused)
        else:
            self._failures.compaction(failure)

    def _disk_failed(self, error: Exception) -> None:
        if self.closed or not self._failures.disk_is_hopeless:
            self._failures.disk(error, closed=self.closed)
            return
        self._release()
        self._stopped = True
        self._failures.stopped(error, self.completed)

    def _release(self) -> None:
        """Take everything off the model; nothing is recorded any more."""
        self._hooks.remove()
        self._train.end()
        self._held_out.end()
