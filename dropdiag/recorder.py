"""The Recorder: attaches to a model, counts steps, and sends what the probes record to the run folder."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.net_variance import net_variance as measure
from dropdiag.model.checks import check_model, eager
from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, Patterns, Site, select, survey
from dropdiag.probes.base import Probe, Signal, SiteInfo
from dropdiag.probes.presets import chosen_probes
from dropdiag.recording.arguments import check_layer, check_mask, check_phase, checked_config
from dropdiag.recording.collector import Collector
from dropdiag.recording.failures import Failures
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.hooks import Hooks
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.metadata import describe_activations, run_metadata, saturation_area
from dropdiag.recording.notices import (
    DISK_IS_SLOW,
    OVER_BUDGET,
    Notice,
    after_evaluation,
    after_step,
    of_repeated_phase,
    of_replaced,
)
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.records import Record, net_variance_records, run_scalar, user_scalar
from dropdiag.recording.schedules import Schedule, as_schedule, check_schedule
from dropdiag.recording.site_log import SiteLog
from dropdiag.recording.transfer import TransferQueue, abandon
from dropdiag.recording.weights import WeightReader
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import evaluated_phases, resume_step
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.schema import EVAL, TRAIN
from dropdiag.store.writer import RunWriter

FIRST_SCANS: Final = 10
SCAN_EVERY: Final = 100
"""New functional calls are looked for in the first ten scheduled steps, then in every hundredth."""


class Recorder:
    """Record what happens inside a model while it trains.

    Parameters
    ----------
    model : nn.Module
        Any eager module. Hooks are added to its activation modules and removed at the end; nothing else of it
        is touched, and its losses, gradients, weights and random numbers stay bit for bit what they would be.
    path : path
        The run folder, made anew. Nothing is ever overwritten.
    probes : str or sequence of str or Probe, default "paper"
        A preset ("light", "paper", "full"), or names of probes, or probes of one's own.
    every : int or callable, default 10
        Schedule of the histograms: ``every(n)`` for an integer, or a callable step -> bool. Gradient flow is
        recorded at every step all the same.
    include, exclude : str or sequence of str, optional
        Shell patterns for layer names.
    config : dict, optional
        Kept in the run as it is (JSON). ``condition`` and ``seed`` group and pair runs.
    scaler : torch.amp.GradScaler, optional
        The loss scaler of mixed-precision training: gradients are divided by its scale, and steps that it
        skipped are flagged (``step_skipped``).
    strict : bool, default False
        Raise where a probe or the disk fails, instead of warning once and training on.
    resume : bool or int, default False
        Go on in an existing run after its last recorded step, or after the given one (that of a checkpoint).
    budget : float, optional
        The largest share of the time of training that recording may take, say 0.02. Where the recorder's own clock
        says more, scheduled steps go without histograms (``schedule_thinned``) and, if gradient flow alone is too
        dear, steps are not recorded at all (``probes_rested``), until the share is back.

    Raises
    ------
    ArgumentError
        For unusable arguments, before anything is written.
    RunError
        If the folder holds something already, or cannot be written.

    Notes
    -----
    Steps are numbered by completed training steps: the first is 1, weights before training are step 0, and an
    evaluation after k steps carries k. Training values are those of modules in training mode while gradients
    are enabled; held-out values are those of modules in evaluation mode inside `evaluation`.

    Examples
    --------
    >>> with Recorder(model, "runs/dropout-s0", config={"condition": "Dropout", "seed": 0}) as rec:  # doctest: +SKIP
    ...     for x, y in loader:
    ...         loss = F.cross_entropy(model(x), y)
    ...         opt.zero_grad(); loss.backward(); opt.step()
    ...         rec.step(loss=loss)
    ...     with rec.evaluation():
    ...         test(model)
    """

    def __init__(
        self,
        model: nn.Module,
        path: str | Path,
        *,
        probes: str | Sequence[str | Probe[Any]] = "paper",
        every: int | Schedule = 10,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        config: dict[str, Any] | None = None,
        scaler: object | None = None,
        strict: bool = False,
        resume: bool | int = False,
        budget: float | None = None,
    ) -> None:
        check_model(model)
        loss_scale = LossScale(scaler)
        self._overhead = Overhead(budget)
        self._model = model = eager(model)
        self._patterns = include, exclude
        self.path = Path(path).expanduser().absolute()  # wherever the process goes later
        self._probes = list(chosen_probes(probes))
        self._schedule = as_schedule(every)
        sites = select(survey(model), include, exclude)
        start = resume_step(self.path, resume)
        check_schedule(self._schedule, (start or 0) + 1)
        sites, activations = describe_activations(sites)
        meta = run_metadata(checked_config(config), sites, activations.values(), self._probes, repr(self._schedule))
        # All arguments are checked by now: the folder is made here, and not where something is refused.
        self._writer = RunWriter(self.path, {**meta, "steps": start or 0}, resume_from=start)

        self._failures = Failures(self._writer, strict)
        self._queue = TransferQueue(self._writer, self._disk_failed)
        self._train = Collector(self._probes, self._failures.probe)
        self._eval = Collector(self._probes, self._failures.probe)
        self._start = self._completed = start or 0
        self._evaluation: str | None = None
        known = set() if start is None else evaluated_phases(self.path, start)
        self._evaluated = {(self._completed, phase) for phase in known}
        self._closed = self._stopped = False
        self._scans = 0
        self._left_out: list[Record] = []
        self._loss_scale = loss_scale
        self._router = PassRouter(self._train, self._eval, loss_scale, self._overhead)
        why_not = Patterns(include, exclude).why_not
        self._functional = FunctionalCalls(model, self._router, why_not, self._failures.interception)
        self._site_log = SiteLog(sites, self._functional, self._router)

        weights = [SiteInfo(s, None) for s in sites if s.kind == WEIGHT and s.skipped in (None, LAZY)]
        self._weights = WeightReader(weights, self._train, self._site_log, self._failures)
        self._weights.read_at = start
        self._writer.add_derivatives({name: a.derivative for name, a in activations.items()})
        if start is None:
            self._record_weights_alone()
        self._begin_step()
        passed = [SiteInfo(s, activations.get(s.activation or "")) for s in sites if self._has_hooks(s)]
        dropouts = [site.module for site in sites if site.kind == DROPOUT]
        self._hooks = Hooks(model, passed, self._router, self._functional, dropouts)
        self._overhead.begin()
        self._finalizer = weakref.finalize(self, abandon, os.getpid(), self._queue, self._writer)

    def _has_hooks(self, site: Site) -> bool:
        """Whether a site is recorded by hooks: activations and outputs, and weights whose raw gradients are wanted."""
        if site.kind == WEIGHT:
            raw = any(probe.signal is Signal.RAW_WEIGHT_GRAD for probe in self._probes)
            return raw and site.skipped in (None, LAZY)
        return site.kind in (ACTIVATION, OUTPUT) and site.skipped is None

    # Steps -----------------------------------------------------------------------------------------------

    @property
    def completed(self) -> int:
        """Number of completed training steps."""
        return self._completed

    def step(self, **scalars: float | Tensor) -> None:
        """Mark the end of one training step (forward, backward, update).

        Parameters
        ----------
        **scalars : float or Tensor of one element
            Kept at this step under their names, e.g. ``loss=loss``. Reading a tensor on a GPU is put off, so
            that the host need not wait.

        Raises
        ------
        ArgumentError
            If a value is not one number, a name is one of the recorder's own, an evaluation is open, or the
            Recorder is closed.
        """
        self._check_open()
        if self._evaluation is not None:
            raise ArgumentError(f"evaluation {self._evaluation!r} is open: leave it before step()")
        own = [user_scalar(name, value) for name, value in scalars.items()]
        self._completed += 1
        if self._stopped:
            return
        begun = clock()
        # Weights before all else: the sketches of a step are many, and theirs are closed one by one.
        records = self._weights.read(self._completed)
        if self._functional.new:
            self._add_functional_sites()
        self._warn_of_passes()
        records += [*self._train.finish(), *own, *self._loss_scale.skipped(), *self._left_out]
        ended = clock()
        self._overhead.spent += ended - begun
        records += self._overhead.read()
        self._put(TRAIN, records)
        self._begin_step()
        # Before the flush, which writes run.json: it must not name a step whose rows are still on a device.
        self._writer.meta["steps"] = self._queue.safe_step(self._completed)
        self._queue.flush(due_only=True)
        self._queue.report_failure()
        if self._writer.background.waits:
            self._failures.warn(DISK_IS_SLOW)
        self._overhead.spent += clock() - ended

    def log(self, *, phase: str | None = None, layer: str | None = None, **scalars: float | Tensor) -> None:
        """Keep scalars at the current step, e.g. an accuracy on held-out data.

        Parameters
        ----------
        phase : str, optional
            What they were measured in. Default: the open evaluation, or ``"eval"``.
        layer : str, optional
            The layer that they belong to; by default they are the network's as a whole.
        **scalars : float or Tensor of one element

        Raises
        ------
        ArgumentError
            If a value is not one number, a phase or layer is no name, the phase is "train", or the Recorder is closed.
        """
        self._check_open()
        if phase is not None:
            check_phase(phase)
        if layer is not None:
            check_layer(layer)
        own = [user_scalar(name, value)._replace(layer=layer) for name, value in scalars.items()]
        if not self._stopped:
            self._put(phase or self._evaluation or EVAL, own)
            self._queue.flush(due_only=True)

    @contextmanager
    def evaluation(self, name: str = EVAL) -> Iterator[None]:
        """Record net values and node correlation of the forward passes inside, pooled.

        Only modules in evaluation mode count: call ``model.eval()`` inside, and ``model.train()`` after.

        Parameters
        ----------
        name : str, default "eval"
            Name of the held-out set; the phase of its rows. A second evaluation of one name at one step is
            kept under ``name-2``, with a warning.

        Raises
        ------
        ArgumentError
            If evaluations are nested, the name is "train", or the Recorder is closed.
        """
        self._check_open()
        if self._evaluation is not None:
            raise ArgumentError(f"evaluations cannot be nested: {self._evaluation!r} is open; leave it first")
        if name == TRAIN:
            raise ArgumentError(f"an evaluation cannot be called {TRAIN!r}, the phase of training steps")
        if self._stopped:
            yield
            return
        phase = self._evaluation = self._unused_phase(name)
        self._router.evaluation_begins()
        self._eval.begin(phase, scheduled=True)
        self._overhead.evaluation_begins()
        records: list[Record] = []
        try:
            yield
            begun = clock()
            records = self._evaluated_records(name)
            self._overhead.spent += clock() - begun
        finally:  # after an exception its time must not count for the step either
            spent = self._overhead.evaluation_ends()
            self._eval.end()
            self._router.evaluation_ends()
            self._evaluation = None
        if records:
            self._put_evaluation(phase, [*records, *spent])

    def _evaluated_records(self, name: str) -> list[Record]:
        silent = self._eval.empty and any(probe.on_eval for probe in self._probes)
        for warning in after_evaluation(self._router.notices, name, nothing_recorded=silent):
            self._failures.warn(warning)
        self._add_functional_sites()
        return list(self._eval.finish())

    def _put_evaluation(self, phase: str, records: list[Record]) -> None:
        self._put(phase, records)
        self._queue.flush(due_only=True)
        self._evaluated.add((self._completed, phase))

    def net_variance(
        self, batch: object, masks: int = 64, *, p: float | None = None, phase: str = "masks", seed: int = 0
    ) -> NetVariance:
        """Measure the net variance under dropout masks at this step, and record it.

        Parameters
        ----------
        batch, masks, p, seed
            As in `dropdiag.net_variance`, which this is.
        phase : str, default "masks"
            The phase of its rows. A second measurement in one phase at one step is kept under ``masks-2``, with a
            warning.

        Returns
        -------
        NetVariance
            What was measured; its distributions and means are in the run.

        Raises
        ------
        ArgumentError
            As `dropdiag.net_variance`, or if the Recorder is closed, an evaluation is open, or the phase is "train".
        """
        self._check_open()
        if self._evaluation is not None:
            raise ArgumentError(f"evaluation {self._evaluation!r} is open: leave it before net_variance()")
        check_phase(phase)
        phase = self._unused_phase(phase)
        include, exclude = self._patterns
        self._overhead.evaluation_begins()
        try:
            found = measure(self._model, batch, masks, p=p, include=include, exclude=exclude, seed=seed)
        finally:
            spent = self._overhead.evaluation_ends()
        if not self._stopped:
            self._put_evaluation(phase, [*net_variance_records(found), *spent])
        return found

    @contextmanager
    def padding(self, mask: Tensor) -> Iterator[None]:
        """Leave padding out of the forward passes inside, and out of their gradients.

        Parameters
        ----------
        mask : Tensor of bool, shape (batch, tokens) or (tokens, batch)
            True for real tokens, laid out as the model's tensors are. Tensors of three dimensions or more
            whose first dimensions have this shape lose their padding; all others are recorded whole.

        Raises
        ------
        ArgumentError
            If it is no boolean tensor of two dimensions.
        """
        check_mask(mask)
        before, self._router.mask = self._router.mask, mask
        try:
            yield
        finally:
            self._router.mask = before

    def _unused_phase(self, name: str) -> str:
        phase, number = name, 1
        while (self._completed, phase) in self._evaluated:
            number += 1
            phase = f"{name}-{number}"
        if phase != name:
            self._failures.warn(of_repeated_phase(name, phase))
        return phase

    def _warn_of_passes(self) -> None:
        """Warn of what the passes of this step showed."""
        notices = self._router.notices
        if notices:
            silent = Notice.NOT_TRAINING in notices and self._train.lacks(Signal.NET_VALUE, Signal.NET_GRAD)
            for warning in after_step(notices, nothing_recorded=silent):
                self._failures.warn(warning)
        # Going through all modules takes as long as a small step: only now and then.
        if self._router.intercept and (replaced := self._site_log.replaced()):
            self._failures.warn(of_replaced(replaced))

    def _begin_step(self) -> None:
        wanted = bool(self._schedule(self._completed + 1))
        scheduled, paused = self._overhead.plan(wanted)
        self._scans += scheduled
        # Interception costs a little at every operator, so it is on now and then; the first step of all always scans.
        scans = scheduled and (self._scans <= FIRST_SCANS or self._scans % SCAN_EVERY == 0)
        self._router.step_begins(intercept=scans or self._completed == self._start, paused=paused)
        self._loss_scale.step_begins()
        if paused:
            self._train.end()
        else:
            self._train.begin(TRAIN, scheduled)
        flags = {"schedule_thinned": wanted and not scheduled, "probes_rested": paused}
        self._left_out = [run_scalar(name, 1.0) for name, is_so in flags.items() if is_so]
        if self._left_out:
            self._failures.warn(OVER_BUDGET)

    def _record_weights_alone(self) -> None:
        """Record the weights as they stand, outside of a training step."""
        self._train.begin(TRAIN, scheduled=True)
        self._put(TRAIN, self._weights.read(self._completed, [Signal.WEIGHT]))

    def _put(self, phase: str, records: list[Record]) -> None:
        self._site_log.note_samples(records)
        self._queue.put(self._completed, phase, records)

    def _add_functional_sites(self) -> None:
        """Add functional calls that were seen for the first time to the run's metadata."""
        new = self._site_log.add_functional()
        if not new:
            return
        known = [info.activation for info in new if info.activation is not None]
        self._writer.meta["activations"] |= {a.name: saturation_area(a) for a in known}
        self._queue.flush(wait=False)  # run.json must not name steps whose rows are not on their way to the disk
        self._writer.add_derivatives({a.name: a.derivative for a in known})
        self._writer.save_meta(layers=[site.describe() for site in self._site_log.sites])

    def coverage(self) -> Coverage:
        """Return every site: whether it is recorded, how often it was, and if not, why.

        Returns
        -------
        Coverage
            A sequence of rows that prints as a table.
        """
        return self._site_log.coverage()

    # Lifetime --------------------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        """Return the recorder itself."""
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove every hook and close the run: completed, failed or interrupted."""
        if kind is None:
            self.close()
        elif issubclass(kind, Exception):
            self._close("failed", f"{kind.__name__}: {error}")
        else:
            self._close("interrupted", kind.__name__)

    def close(self) -> None:
        """Remove every hook, write what waits, and mark the run as completed. May be called again."""
        self._close("completed", None)

    def _close(self, state: str, error: str | None) -> None:
        if self._closed:
            return
        self._release()
        self._closed = True
        self._finalizer.detach()
        # Step by step in `finally`: a warning may be an error, and what was recorded is written whatever happens.
        try:
            self._record_the_end()
        finally:
            try:
                self._queue.flush()
            finally:
                self._close_folder(state, error)

    def _record_the_end(self) -> None:
        if self._weights.read_at != self._completed and not self._stopped:
            self._record_weights_alone()
        self._add_functional_sites()
        self._writer.meta["coverage"] = self.coverage().as_dicts()
        self._writer.meta["cost"] = self._overhead.summary()
        silent = self._site_log.silent()
        if silent and (self._completed > self._start or self._evaluated):
            layers = ", ".join(silent)
            self._failures.warn(f"no recorded forward pass went through {layers}: nothing of it was recorded")

    def _close_folder(self, state: str, error: str | None) -> None:
        try:
            failure = self._writer.close(state, error)
        except Exception as refused:  # noqa: BLE001 - it is reported, and what was recorded is closed
            self._disk_failed(refused)
        else:
            self._failures.compaction(failure)

    def _disk_failed(self, error: Exception) -> None:
        if self._closed or not self._failures.disk_is_hopeless:
            self._failures.disk(error, closed=self._closed)
            return
        self._release()
        self._stopped = True
        self._failures.stopped(error, self._completed)

    def _release(self) -> None:
        """Take everything off the model; nothing is recorded any more."""
        self._hooks.remove()
        self._train.end()
        self._eval.end()

    def _check_open(self) -> None:
        if self._closed:
            raise ArgumentError(f"the Recorder of {self.path} is closed; open a new run, or resume=True to go on in it")
