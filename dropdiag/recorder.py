"""The Recorder: attaches to a model, counts steps, and sends what the probes say to the run folder."""

from __future__ import annotations

import math
import os
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.measure.net_variance import net_variance as measure
from dropdiag.model.sites import ACTIVATION, DROPOUT, LAZY, OUTPUT, WEIGHT, Patterns, select, survey
from dropdiag.probes import Place, Probe, Tap, choose
from dropdiag.recording.collector import Collector, Finished
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.hooks import Hooks, check_model, eager
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.metadata import areas, checked_config, describe_activations, manifest
from dropdiag.recording.notices import after_evaluation, after_step, of_replaced
from dropdiag.recording.overhead import Cost, clock
from dropdiag.recording.passes import Taps, dense
from dropdiag.recording.schedules import Schedule, as_schedule
from dropdiag.recording.site_log import Inventory
from dropdiag.recording.transfer import Outbox
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import evaluated_phases, resume_step
from dropdiag.store.net_variance import NetVariance
from dropdiag.store.schema import EVAL, TRAIN
from dropdiag.store.writer import RunWriter, uncompacted

WAITING_BINS_LIMIT: Final = 32_000_000
"""Bins that may wait for a disk that refuses them (about 320 MB) before recording stops."""


LOOKS: Final = 10
SELDOM: Final = 100
"""Functional calls not known yet are looked for in the first ten scheduled steps, and in every hundredth later."""

OWN_SCALARS: Final = frozenset(
    ("step_seconds", "evaluation_seconds", "recorder_seconds", "schedule_thinned", "probes_rested", "step_skipped")
)
"""Scalars of the run itself that are no user's."""

_WAITED: Final = (
    "training waited for the disk, which is slower than the rows come: record less often (every=), or write to a "
    "faster disk; 'cost' in run.json says how often and how long"
)
_THINNED: Final = (
    "recording took more than its budget: steps go without histograms (schedule_thinned) or are not recorded at all "
    "(probes_rested) until the share is back; 'cost' in run.json counts them"
)


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
        self._cost = Cost(budget)
        model = eager(model)
        self._model, self._patterns = model, (include, exclude)
        self.path = Path(path).expanduser().absolute()  # wherever the process goes later
        self._probes = list(choose(probes))
        self._schedule = as_schedule(every)
        self._strict = strict
        sites = select(survey(model), include, exclude)
        start = resume_step(self.path, resume)
        _check_schedule(self._schedule, (start or 0) + 1)
        sites, activations = describe_activations(sites)
        meta = manifest(checked_config(config), sites, activations.values(), self._probes, repr(self._schedule))
        self._writer = RunWriter(self.path, {**meta, "steps": start or 0}, resume_from=start)

        self._outbox = Outbox(self._writer, self._disk_failed)
        self._train = Collector(self._probes, self._probe_failed)
        self._eval = Collector(self._probes, self._probe_failed)
        self._start = self._completed = start or 0
        self._weights_at: int | None = start
        self._evaluation: str | None = None
        known = set() if start is None else evaluated_phases(self.path, start)
        self._evaluated = {(self._completed, phase) for phase in known}
        self._closed = self._stopped = False
        self._looks = 0
        self._left_out: list[Finished] = []
        self._loss_scale = loss_scale
        self._taps = Taps(self._train, self._eval, loss_scale, self._cost)
        functional = FunctionalCalls(model, self._taps, Patterns(include, exclude).why_not, self._interception_failed)
        self._functional = functional
        self._inventory = Inventory(sites, functional, self._taps)

        places = [Place(s, activations.get(s.activation or "")) for s in sites if s.skipped is None]
        self._weights = [Place(s, None) for s in sites if s.kind == WEIGHT and s.skipped in (None, LAZY)]
        self._writer.add_derivatives({name: a.derivative for name, a in activations.items()})
        if start is None:
            self._record_weights_alone()
        self._begin_step()
        raw = any(probe.tap is Tap.RAW_WEIGHT_GRAD for probe in self._probes)
        kinds = (ACTIVATION, OUTPUT, WEIGHT) if raw else (ACTIVATION, OUTPUT)
        late = [place for place in self._weights if place.site.skipped == LAZY]
        passed = [place for place in (*places, *late) if place.site.kind in kinds]
        dropouts = [site.module for site in sites if site.kind == DROPOUT]
        self._hooks = Hooks(model, passed, self._taps, functional, dropouts)
        self._cost.begin()
        self._finalizer = weakref.finalize(self, _abandon, os.getpid(), self._outbox, self._writer)

    # Steps -----------------------------------------------------------------------------------------------

    @property
    def completed(self) -> int:
        """Number of completed training steps."""
        return self._completed

    def step(self, **scalars: float | Tensor) -> None:
        """Say that one training step (forward, backward, update) is over.

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
        own = [_scalar(name, value) for name, value in scalars.items()]
        self._completed += 1
        if self._stopped:
            return
        begun = clock()
        weights = self._train.wants(Tap.WEIGHT) or self._train.wants(Tap.WEIGHT_GRAD)
        finished = self._of_weights(gradients=True) if weights else []
        if self._functional.new:
            self._add_functional_sites()
        self._advise()
        finished += self._train.finish()
        finished += own
        finished += self._loss_scale.skipped()
        finished += self._left_out
        ended = clock()
        self._cost.spent += ended - begun
        finished += self._cost.read()
        self._put(TRAIN, finished)
        self._begin_step()
        self._writer.meta["steps"] = self._outbox.safe_step(self._completed)
        self._outbox.flush(due_only=True)
        self._outbox.tell_failure()
        if self._writer.background.waits:
            self._warn(_WAITED)
        self._cost.spent += clock() - ended

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
            _check_phase(phase)
        if layer is not None and not (isinstance(layer, str) and layer):
            raise ArgumentError(f"layer= must be a layer's name, got {layer!r}")
        own = [_scalar(name, value)._replace(layer=layer) for name, value in scalars.items()]
        if not self._stopped:
            self._put(phase or self._evaluation or EVAL, own)
            self._outbox.flush(due_only=True)

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
        self._evaluation = self._unused_phase(name)
        self._taps.evaluation_begins()
        self._eval.begin(self._evaluation, scheduled=True)
        self._cost.evaluation_begins()
        cost: list[Finished] = []
        try:
            yield
            begun = clock()
            silent = self._eval.empty and any(probe.on_eval for probe in self._probes)
            for advice in after_evaluation(self._taps, name, nothing_recorded=silent):
                self._warn(advice)
            self._add_functional_sites()
            finished = list(self._eval.finish())
            self._cost.spent += clock() - begun
            cost = self._cost.evaluation_ends()
            if finished:
                self._put(self._evaluation, [*finished, *cost])
                self._outbox.flush(due_only=True)
                self._evaluated.add((self._completed, self._evaluation))
        finally:
            if not cost:  # an exception came
                self._cost.evaluation_ends()
            self._eval.end()
            self._taps.evaluation_ends()
            self._evaluation = None

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
        _check_phase(phase)
        phase = self._unused_phase(phase)
        self._cost.evaluation_begins()
        try:
            include, exclude = self._patterns
            found = measure(self._model, batch, masks, p=p, include=include, exclude=exclude, seed=seed)
        finally:
            cost = self._cost.evaluation_ends()
        if not self._stopped:
            self._put(phase, [*_of_net_variance(found), *cost])
            self._outbox.flush(due_only=True)
            self._evaluated.add((self._completed, phase))
        return found

    @contextmanager
    def padding(self, mask: Tensor) -> Iterator[None]:
        """Leave padding out of what the forward passes inside give, and of their gradients.

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
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2:
            got = f"got {tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else f"got {type(mask).__name__}"
            raise ArgumentError("padding() takes a boolean tensor of shape (batch, tokens), True for tokens, " + got)
        before, self._taps.mask = self._taps.mask, mask
        try:
            yield
        finally:
            self._taps.mask = before

    def _unused_phase(self, name: str) -> str:
        phase, number = name, 1
        while (self._completed, phase) in self._evaluated:
            number += 1
            phase = f"{name}-{number}"
        if phase != name:
            self._warn(
                f"evaluation {name!r} came twice at one step; it is kept as {phase!r}: "
                "give each held-out set a name of its own, rec.evaluation('test')"
            )
        return phase

    def _advise(self) -> None:
        """Warn of what the passes of this step showed."""
        silent = self._taps.without_training_mode and self._train.without(Tap.NET_VALUE, Tap.NET_GRAD)
        if silent or self._taps.remarkable:
            for advice in after_step(self._taps, nothing_recorded=silent):
                self._warn(advice)
        if self._taps.thorough and (replaced := self._inventory.replaced()):
            self._warn(of_replaced(replaced))

    def _begin_step(self) -> None:
        wanted = bool(self._schedule(self._completed + 1))
        scheduled, rests = self._cost.plan(wanted)
        self._looks += scheduled
        # Interception costs a little at every operator, so functional calls not known yet are looked for now and then.
        looks = scheduled and (self._looks <= LOOKS or self._looks % SELDOM == 0)
        self._taps.step_begins(thorough=looks or self._completed == self._start, rests=rests)
        self._loss_scale.step_begins()
        if rests:
            self._train.end()
        else:
            self._train.begin(TRAIN, scheduled)
        self._left_out = []
        if wanted and not scheduled:
            self._left_out.append(Finished(None, 0, "schedule_thinned", 1.0))
        if rests:
            self._left_out.append(Finished(None, 0, "probes_rested", 1.0))
        if self._left_out:
            self._warn(_THINNED)

    def _put(self, phase: str, finished: list[Finished]) -> None:
        self._inventory.note_samples(finished)
        self._outbox.put(self._completed, phase, finished)

    def _add_functional_sites(self) -> None:
        """Add functional calls that were seen for the first time to what the run knows."""
        new = self._inventory.add_functional()
        if not new:
            return
        known = [place.activation for place in new if place.activation is not None]
        self._writer.meta["activations"] |= {a.name: areas(a) for a in known}
        self._outbox.flush(wait=False)  # run.json is not to name steps whose rows are not on their way to the disk
        self._writer.add_derivatives({a.name: a.derivative for a in known})
        self._writer.save_meta(layers=[site.describe() for site in self._inventory.sites])

    def coverage(self) -> Coverage:
        """Return every site: whether it is recorded, how often it was, and if not, why.

        Returns
        -------
        Coverage
            A sequence of rows that prints as a table.
        """
        return self._inventory.coverage()

    # Weights ---------------------------------------------------------------------------------------------

    def _of_weights(self, *, gradients: bool) -> list[Finished]:
        """Return what the weights give as they stand, each closed by itself: few sketches are open at a time."""
        taps = (Tap.WEIGHT, Tap.WEIGHT_GRAD) if gradients else (Tap.WEIGHT,)
        wanted = [tap for tap in taps if self._train.wants(tap)]
        finished: list[Finished] = []
        had_gradient = False
        for place in self._weights if wanted else ():
            for tap in wanted:
                fed = self._feed_weight(tap, place)
                had_gradient |= fed and tap is Tap.WEIGHT_GRAD
            finished += self._train.finish(place.site.layer)
        if Tap.WEIGHT in wanted:
            self._weights_at = self._completed
        if Tap.WEIGHT_GRAD in wanted and not had_gradient and any(_wants_gradient(p) for p in self._weights):
            self._warn(
                "no weight had a gradient at the end of a step: call rec.step() after backward() and before "
                "zero_grad(); these gradients are missing, not zero"
            )
        return finished

    def _feed_weight(self, tap: Tap, place: Place) -> bool:
        try:
            value = _weight_or_gradient(tap, place)
        except Exception as error:  # a user's parametrisation must not end the training
            if self._strict:
                raise
            self._warn(f"the weight of {place.site.layer!r} cannot be read, training goes on: {error!r}")
            return False
        if value is None:
            if place.site.tensor() is not None:
                self._train.open(tap, place, 0)
            return False
        if tap is Tap.WEIGHT:
            self._inventory.count_reading(place.site.layer)
        self._train.feed(tap, place, 0, value)
        return True

    def _record_weights_alone(self) -> None:
        """Record the weights as they stand, outside of a training step."""
        self._train.begin(TRAIN, scheduled=True)
        self._put(TRAIN, self._of_weights(gradients=False))

    # Failures --------------------------------------------------------------------------------------------

    def _probe_failed(self, probe: Probe[Any], place: Place, error: Exception) -> None:
        if self._strict:
            raise error
        disabled, layer = self._writer.meta["disabled_probes"], place.site.layer
        known = any(entry["probe"] == probe.name for entry in disabled)
        disabled.append({"probe": probe.name, "layer": layer, "cause": repr(error)})
        if not known:  # the run names every layer, the warning the first
            self._warn(f"probe {probe.name!r} failed at {layer!r} and is disabled there, training goes on: {error!r}")

    def _interception_failed(self, layer: str, error: Exception) -> None:
        if self._strict:
            raise error
        self._warn(f"functional calls are not recorded any more, training goes on: {layer!r} failed with {error!r}")

    def _disk_failed(self, error: Exception) -> None:
        if self._strict:
            raise error
        cause = getattr(error, "strerror", None) or repr(error)
        if self._closed:
            self._warn(f"{self.path} refuses rows ({cause}); {self._writer.waiting_rows} rows are lost")
        elif self._writer.waiting_bins > WAITING_BINS_LIMIT:
            self._release()
            self._stopped = True
            self._warn(
                f"recording stopped at step {self._completed}: {self.path} has refused rows for too long ({error})"
            )
        else:
            self._warn(f"{self.path} refuses rows ({cause}); they are kept in memory and tried again")

    def _warn(self, message: str) -> None:
        """Warn, once a message, and note it in the run."""
        if message not in self._writer.meta["warnings"]:
            self._writer.meta["warnings"].append(message)
            warnings.warn(message, DropdiagWarning, stacklevel=3)

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
        try:
            if self._weights_at != self._completed and not self._stopped:
                self._record_weights_alone()
            self._add_functional_sites()
            self._writer.meta["coverage"] = self.coverage().as_dicts()
            self._writer.meta["cost"] = self._cost.summary()
            self._warn_of_silence()
        finally:  # a warning may be an error: what was recorded is written whatever happens
            try:
                self._outbox.flush()
            finally:
                self._close_folder(state, error)

    def _close_folder(self, state: str, error: str | None) -> None:
        try:
            failure = self._writer.close(state, error)
        except Exception as refused:  # noqa: BLE001 - it is told, and what was recorded is closed
            self._disk_failed(refused)
            return
        if failure is not None and self._strict:
            raise failure
        if failure is not None:  # in run.json already, which is closed
            warnings.warn(uncompacted(self.path, failure), DropdiagWarning, stacklevel=3)

    def _release(self) -> None:
        """Take everything off the model; nothing is recorded any more."""
        self._hooks.remove()
        self._train.end()
        self._eval.end()

    def _warn_of_silence(self) -> None:
        silent = self._inventory.silent()
        if silent and (self._completed > self._start or self._evaluated):
            self._warn(f"no recorded forward pass went through {', '.join(silent)}: nothing of it was recorded")

    def _check_open(self) -> None:
        if self._closed:
            raise ArgumentError(f"the Recorder of {self.path} is closed; open a new run, or resume=True to go on in it")


def _scalar(name: str, value: float | Tensor) -> Finished:
    if name in OWN_SCALARS:
        raise ArgumentError(f"{name}= is recorded by dropdiag itself; choose another name")
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ArgumentError(
                f"{name}= must be one number, got a tensor of shape {tuple(value.shape)}, {value.dtype}"
            )
        return Finished(None, 0, name, value.item() if value.is_cpu else value.detach().clone())
    try:
        return Finished(None, 0, name, float(value))
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}= must be one number, got {value!r}") from None


def _of_net_variance(found: NetVariance) -> Iterator[Finished]:
    """Return what is recorded of a measurement; None where there is no number."""
    rate = math.nan if found.p is None else found.p
    for layer in found:
        numbers = {**layer.scalars(), "dropout_masks": float(layer.masks), "dropout_rate": rate}
        for quantity, value in numbers.items():
            yield Finished(layer.layer, layer.call, quantity, None if math.isnan(value) else value)
        for quantity, histogram in layer.histograms().items():
            yield Finished(layer.layer, layer.call, quantity, (histogram.bins, histogram.counts))


def _check_phase(phase: object) -> None:
    if not isinstance(phase, str) or not phase or phase == TRAIN:
        raise ArgumentError(f"phase= must be a name other than {TRAIN!r}, the phase of training steps; got {phase!r}")


def _check_schedule(schedule: Schedule, step: int) -> None:
    try:
        bool(schedule(step))
    except Exception as error:
        raise ArgumentError(
            f"every= must be callable with a step's number, but {schedule!r} failed: {error!r}"
        ) from error


def _abandon(process: int, outbox: Outbox, writer: RunWriter) -> None:
    """Keep what a Recorder has that was never closed (called when the process ends)."""
    if os.getpid() != process:  # a child that was forked while recording
        return
    try:
        outbox.flush()
        writer.close("interrupted", "the Recorder was not closed")
    except OSError as error:
        lost = f"{writer.path} refuses rows ({error.strerror}); {writer.waiting_rows} rows are lost"
        warnings.warn(lost, DropdiagWarning, stacklevel=2)


def _wants_gradient(place: Place) -> bool:
    tensor = place.site.tensor()
    return tensor is not None and tensor.is_leaf and tensor.requires_grad


def _weight_or_gradient(tap: Tap, place: Place) -> Tensor | None:
    tensor = place.site.tensor()
    if tap is Tap.WEIGHT or tensor is None:
        return tensor
    gradient = tensor.grad if tensor.is_leaf else None
    return None if gradient is None else dense(gradient)
