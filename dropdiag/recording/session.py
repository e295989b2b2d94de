"""One recorded run: everything between a model and its run folder, from the first step to the last."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import nn

from dropdiag.errors import RunError
from dropdiag.interventions.registry import InterventionLog
from dropdiag.model.activations import Activation
from dropdiag.model.sites import LayerPatterns, Patterns, Site, select, spare_fused, survey
from dropdiag.probes.base import Probe, Signal
from dropdiag.recording import failures, notices
from dropdiag.recording.arguments import checked_config
from dropdiag.recording.backward import BackwardPasses
from dropdiag.recording.batch import Batches
from dropdiag.recording.chain.chain import Chain
from dropdiag.recording.collector import Collector
from dropdiag.recording.failures import Failures
from dropdiag.recording.following.axes import NodeAxes
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.metadata import describe_activations, run_metadata
from dropdiag.recording.notices import Notice
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.ranks.digest import digest
from dropdiag.recording.ranks.group import ALL, Group, ungrouped
from dropdiag.recording.ranks.opening import Opening
from dropdiag.recording.ranks.spread import Spread
from dropdiag.recording.recorded_sites import RecordedSites
from dropdiag.recording.records import Missing, Record, run_scalar
from dropdiag.recording.schedules import Schedule, check_schedule
from dropdiag.recording.transfer import TransferQueue
from dropdiag.recording.watching.open_runs import OpenRun, check_free
from dropdiag.recording.watching.origin import Origin
from dropdiag.recording.watching.training import TrainingWatch
from dropdiag.recording.weights import WeightReader
from dropdiag.store.coverage import Coverage
from dropdiag.store.folder import Resume, evaluated_phases
from dropdiag.store.memory import check_for_import
from dropdiag.store.schema import TRAIN
from dropdiag.store.sending import Sending
from dropdiag.store.sink import Sink
from dropdiag.store.writer import FLUSH_SECONDS

FIRST_SCANS: Final = 10
SCAN_EVERY: Final = 100
"""New functional calls are looked for in the first ten scheduled steps, then in every hundredth."""


OF_ACTIVATIONS: Final = (Signal.NET_VALUE, Signal.NET_GRAD, Signal.NODE_VALUE)


class Session:
    """Records one run of one model.

    Parameters
    ----------
    model : nn.Module
        An eager one, checked.
    path : Path
        The run folder, or the one that it is in where there is a name.
    probes : sequence of Probe
    schedule : callable
    patterns : tuple
        ``include`` and ``exclude`` of the Recorder.
    node_axis : mapping
        Pattern of layer names -> dimension that counts nodes.
    name, config, strict, resume
        As for the Recorder.
    group : Group or None
        This process among those of its training; None: it is alone.
    averaged_over, ranks, flush_every, to
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
    forked : bool
        Whether this is a copy in a child of the process that records: it is closed, and nothing is written by it.
    """

    def __init__(
        self,
        model: nn.Module,
        path: Path,
        *,
        probes: Sequence[Probe[Any]],
        schedule: Schedule,
        patterns: tuple[LayerPatterns, LayerPatterns],
        node_axis: Mapping[str, int],
        config: dict[str, Any] | None,
        loss_scale: LossScale,
        overhead: Overhead,
        strict: bool,
        resume: Resume,
        name: str | None = None,
        group: Group | None = None,
        averaged_over: float | None = None,
        ranks: str = ALL,
        flush_every: float = FLUSH_SECONDS,
        to: Sequence[Sink] = (),
    ) -> None:
        self._probes, self._schedule = list(probes), schedule
        self._loss_scale, self._overhead = loss_scale, overhead
        self.open_evaluation: str | None = None
        self.closed = self._stopped = self._scheduled = self._look = False
        self._scans = 0
        self._budget_flags: list[Record] = []
        self._strict, self._spoilt = strict, False
        self._to = to
        self._origin: Origin | None = None
        self.forked = False
        with Opening(path, name, resume, group, ranks, flush_every=flush_every) as opening:
            self._spread = Spread(model, group, averaged_over)
            self._open(model, opening, patterns, NodeAxes(node_axis), config)

    def _open(
        self,
        model: nn.Module,
        opening: Opening,
        patterns: tuple[LayerPatterns, LayerPatterns],
        axes: NodeAxes,
        config: dict[str, Any] | None,
    ) -> None:
        check_for_import()  # and for the threads that come before that: too little memory ends a process in them
        sites = [axes.given(site) for site in spare_fused(select(survey(model), *patterns), model)]
        axes.check(sites)
        config = checked_config(config)
        check_free(sites)
        start = opening.step()
        check_schedule(self._schedule, (start or 0) + 1)
        sites, activations = describe_activations(sites)
        self._rank = opening.describe()
        ranks = None if self._rank is None else {**self._rank, **self._spread.describe()}
        meta = run_metadata(config, sites, activations.values(), self._probes, repr(self._schedule), ranks=ranks)
        # Everything that can be refused has been checked: only now is the folder made.
        try:
            self.writer = opening.writer({**meta, "steps": start or 0}, start)
            self.writer.prepare()
            self._failures = Failures(self.writer, self._strict)
            self._start = self.completed = start or 0
            known = set() if start is None else evaluated_phases(opening.path, start, opening.rank)
            self._evaluated = {(self.completed, phase) for phase in known}
            self._set_up(model, sites, activations, Patterns(*patterns), axes)
            self._begin(model, activations, resumed=start is not None)
            opening.opened(self.writer, start)
            if (hint := ungrouped()) is not None:
                self._failures.warn(hint)
            if opening.elsewhere is not None:
                self._failures.warn(notices.RUN_OF_ITS_OWN.format(path=opening.elsewhere))
            self._open_sinks()
        except BaseException as error:
            self._take_back(error, resumed=start is not None)
            opening.take_back()
            raise

    def _set_up(
        self,
        model: nn.Module,
        sites: list[Site],
        activations: dict[str, Activation],
        patterns: Patterns,
        axes: NodeAxes,
    ) -> None:
        """Make what tensors go through on their way to the writer, and what watches the model."""
        # Weakly: what an open run needs to be ended must not hold the model, which holds its hooks, which hold this.
        this = weakref.ref(self)
        self.queue = TransferQueue(self.writer, lambda error: _disk_failed(this(), error))
        self._train = Collector(self._probes, self._failures.probe)
        self._held_out = Collector(self._probes, self._failures.probe)
        if self._rank is not None and self._rank.get("recorded") == ALL:
            place, ranks = self._spread.place()
            self._train.of_ranks(place, ranks)
            self._held_out.of_ranks(place, ranks)
        self.router = PassRouter(
            *(self._train, self._held_out, self._loss_scale, self._overhead),
            axes=axes,
            backward=BackwardPasses(model),
            batches=Batches(model),
            chain=Chain(model, self._train, self._loss_scale, self._overhead),
            spread=self._spread,
            on_failure=self._failures.reduced,
        )
        self.router.on_hook_failure = lambda error: _hook_failed(this(), error)
        self.router.trace.order.restore(self.writer.meta["order"])
        self.router.chain.log.restore(self.writer.meta.get("chain") or ())
        self._recorded = RecordedSites(
            *(model, sites, activations),
            probes=self._probes,
            patterns=patterns,
            router=self.router,
            train=self._train,
            failures=self._failures,
        )
        self.site_log = self._recorded.log
        self.site_log.sharded = self._spread.sharded
        self._weights = WeightReader(
            *(self._recorded.weights, self._train, self.site_log, self._failures),
            accumulated=self.router.accumulated,
            spread=self._spread,
        )
        self._watch = TrainingWatch(
            *(model, sites, self._recorded.functional),
            router=self.router,
            loss_scale=self._loss_scale,
            failures=self._failures,
            wants_activations=any(probe.signal in OF_ACTIVATIONS for probe in self._probes),
        )

    def _begin(self, model: nn.Module, activations: dict[str, Activation], *, resumed: bool) -> None:
        """Record the weights as they are, and put the hooks on the model."""
        self._weights.read_at = self._start if resumed else None
        self.writer.add_derivatives({name: a.derivative for name, a in activations.items()})
        self._weights_wait = not resumed and self._rank is not None and not self._spread.known
        self.router.ranks.first_look = self._record_first_weights
        if not resumed and not self._weights_wait:
            self._record_weights_alone()
        self._begin_step()
        self._recorded.attach()
        self.router.before_forward = self._forward_begins
        self._interventions = InterventionLog(model, self._start, self.writer.meta["interventions"])
        if self.writer.meta["interventions"]:
            self.writer.save_meta()
        self.open_run = OpenRun(self)
        self._overhead.begin()

    def _open_sinks(self) -> None:
        if self._rank is not None and self._rank["rank"] > 0:
            return  # those of rank 0 are the run's
        if self._to:
            if self._rank is not None and self._rank["world_size"] > 1:
                self._failures.warn(notices.SHARE_OF_A_RANK.format(world_size=self._rank["world_size"]))
            self.writer.sinks = Sending(self._to)
            self.writer.sinks.open({**self.writer.meta, "path": self.path})
            self._tell_of_sinks()

    def _tell_of_sinks(self) -> None:
        for problem in () if self.writer.sinks is None else self.writer.sinks.take_news():
            self._failures.sink(problem)

    def _take_back(self, error: BaseException, *, resumed: bool) -> None:
        """Leave nothing of a run that could not begin: no hook, no thread, no file."""
        if hasattr(self, "writer"):
            self.writer.close_sinks("failed")
        if hasattr(self, "open_run"):
            self.open_run.closed()
        if hasattr(self, "_recorded"):
            self._release()
        if hasattr(self, "writer") and resumed:
            self.writer.close("failed", f"{type(error).__name__}: {error}")
        elif hasattr(self, "writer"):
            self.writer.discard()

    def watch_origin(self, model: nn.Module) -> None:
        """Take digests of the weights at the start and at the end, and of batches now and then."""
        self._origin = origin = Origin(model)
        this = weakref.ref(self)

        def batch(args: Sequence[object], keywords: Mapping[str, object]) -> None:
            if (session := this()) is not None:
                begun = clock()
                origin.batch(session.completed + 1, args, keywords)
                session._overhead.spent += clock() - begun

        self.router.on_batch = batch

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.writer.path

    def belongs_to(self, recorder: object) -> None:
        """Say whose run it is: when the Recorder is collected, the run is interrupted."""
        self.open_run.belongs_to(recorder)

    @property
    def sites(self) -> list[Site]:
        """All sites, as `dropdiag.recording.watching.open_runs` asks for them."""
        return self.site_log.sites

    @property
    def in_forward_pass(self) -> bool:
        """Whether a forward pass of the model is open in which functions are intercepted."""
        return self._recorded.functional.entered

    def begin_no_pass(self) -> None:
        """Leave forward passes alone that begin from now on."""
        self._recorded.begin_no_pass()

    def give_up(self) -> None:
        """Take everything off the model: nobody can close this run any more."""
        self._let_go()
        self._note_the_end()

    def step(self, own: list[Record]) -> None:
        """End a training step.

        Parameters
        ----------
        own : list of Record
            The user's.
        """
        self.completed += 1
        self._weights_wait = False
        self._interventions.step(self.completed)
        if self._stopped:
            return
        try:
            self._end_step(own)
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._spare(error, self._leave_out_step)
        self._write_what_is_due()

    def _end_step(self, own: list[Record]) -> None:
        begun = clock()
        reads_weights = self._train.reads_weights
        if self._scheduled or reads_weights:
            self._follow_changes(self.completed)
        self._watch.step_ends(reads_gradients=self._train.wants(Signal.WEIGHT_GRAD))
        records = self._weights.read(self.completed) if reads_weights else []
        self._recorded.add_functional(self.writer, self.queue)
        self._warn_of_passes()
        self._note_ranks()
        self._recorded.masks.step_ends()
        records += self._train.finish()
        records += own
        records += self._loss_scale.skipped()
        records += self._budget_flags
        ended = clock()
        self._overhead.spent += ended - begun
        records += self._overhead.read()
        self._store(TRAIN, records)
        self._begin_step()
        self._recorded.watch_weights()
        self._overhead.spent += clock() - ended

    def _write_what_is_due(self) -> None:
        """Hand over what waits, if it is due, and tell of what became of the rest."""
        begun = clock()
        try:
            # Before the flush, which writes run.json: it must not name a step whose rows are still on a device.
            self.writer.meta["steps"] = self.queue.safe_step(self.completed)
            self.queue.flush(due_only=True)
            self.queue.report_failure()
            self._look_at_what_waits()
        except Exception as error:  # noqa: BLE001 - as in `step`; what waits is where it was
            self._spare(error, self._disk_failed)
        self._overhead.spent += clock() - begun

    def _spare(self, error: Exception, tell: Callable[[Exception], None]) -> None:
        """Keep an error of ours from the training; raise it under ``strict``, and where it is a warning made one."""
        if self._strict or isinstance(error, (Warning, RunError)):
            raise error
        tell(error)

    def _leave_out_step(self, error: Exception) -> None:
        """Go on after a step that could not be recorded."""
        self._train.end()
        try:
            self._overhead.read()  # the next step's time begins now
            self._begin_step()
            self._failures.step(self.completed, error)
        except Warning:
            raise
        except Exception as again:  # noqa: BLE001 - nothing more is tried
            self._stop(again)

    def _hook_failed(self, error: Exception) -> None:
        """Leave out the passes of a step or evaluation whose hook failed: what it was at is half done."""
        if self._strict or isinstance(error, Warning):
            raise error
        self._spoilt = True
        (self._held_out if self.router.evaluating else self._train).end()
        self._failures.passes(self.completed, error)

    def _look_at_what_waits(self) -> None:
        """Tell of the thread that writes, and stop where more waits for the disk than may."""
        thread = self.writer.background
        if self.writer.superseded:
            self._failures.warn(notices.SUPERSEDED)
        if thread.waits:
            self._failures.warn(notices.DISK_IS_SLOW)
        if thread.news is not None:
            self._tell_news()
        self._tell_of_sinks()
        # What is not in line yet is bounded by when it is handed over, and by what is on its way from a device.
        if thread.bytes + self.queue.bytes_under_way > failures.WAITING_BYTES_LIMIT and not self._stopped:
            self._stop(notices.TOO_MUCH_WAITS.format(path=self.path, cause=thread.failure or "it does not answer"))

    def _tell_news(self) -> None:
        news, self.writer.background.news = self.writer.background.news, None
        if news is not None:
            self._failures.warn(news)

    def _stop(self, why: object) -> None:
        """Record nothing more; what waits is tried again at the end."""
        self._stopped = True
        self._release()
        try:
            self._failures.stopped(why, self.completed)
        finally:
            self.writer.save_meta()

    def flush(self) -> None:
        """Wait until all that was recorded is on disk."""
        if not self._stopped:
            self.writer.meta["steps"] = self.completed
        self.queue.flush()
        self.writer.save_meta()
        self.writer.drain()

    def coverage(self) -> Coverage:
        """Return the table of all sites."""
        return self.site_log.coverage()

    def put(self, phase: str, records: list[Record]) -> None:
        """Record values at the current step."""
        if not self._stopped:
            try:
                self._store(phase, records)
            except Exception as error:  # noqa: BLE001 - as in `step`
                self._spare(error, partial(self._failures.step, self.completed))
            self._write_what_is_due()

    def _store(self, phase: str, records: list[Record]) -> None:
        self.site_log.note_samples(records)
        self.queue.put(self.completed, phase, records)

    @contextmanager
    def evaluation(self, name: str) -> Iterator[None]:
        """Record the passes in evaluation mode inside, pooled, under a phase called `name`."""
        if self._stopped:
            yield
            return
        self._follow_changes(self.completed)
        with self.measurement(name) as (phase, records):
            self.open_evaluation = phase
            self.router.evaluation_begins()
            self._recorded.masks.draws.begins()
            self._held_out.begin(phase, scheduled=True)
            self._spoilt = False
            try:
                yield
                if self.closed:  # in the middle of the evaluation, by detach() say
                    return
                begun = clock()
                self._follow_changes(self.completed)
                if not self._spoilt:
                    self._warn_of_evaluation(name)
                self._recorded.add_functional(self.writer, self.queue)
                records.extend(self._held_out.finish())
                records.extend(self._of_ranks(records, name))
                self._overhead.spent += clock() - begun
            finally:
                self._recorded.end_open_pass()
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

    def note_missing(self, several: Iterable[Missing]) -> None:
        """Note what a measurement has not in the run, and among its warnings, without warning of it."""
        for one in several:
            self._failures.missing(str(one), one.described())

    def _unused_phase(self, name: str) -> str:
        phase, number = name, 1
        while (self.completed, phase) in self._evaluated:
            number += 1
            phase = f"{name}-{number}"
        if phase != name:
            self._failures.warn(notices.REPEATED_PHASE.format(name=name, phase=phase))
        return phase

    def _of_ranks(self, records: list[Record], name: str) -> list[Record]:
        """Return what tells whether ranks were given the same items, all of them or some."""
        if not self._train.shares:
            return []
        found = digest(records)
        return [*([] if found is None else [found]), *self._repeated_items(name)]

    def _repeated_items(self, name: str) -> list[Record]:
        repeated = self.router.ranks.repeated
        if repeated is None:
            return []
        if repeated.repeated:
            told = notices.REPEATED_ITEMS.format(name=name, repeated=repeated.repeated, items=repeated.items)
            self._failures.warn(told)
        return [run_scalar("repeated_items", float(repeated.repeated))]

    def _warn_of_evaluation(self, name: str) -> None:
        silent = self._held_out.empty and any(probe.on_eval for probe in self._probes)
        drawn = self._recorded.masks.draws.drawn
        for warning in notices.after_evaluation(self.router.notices, name, nothing_recorded=silent, drawn=drawn):
            self._failures.warn(warning)

    def _warn_of_passes(self) -> None:
        seen = self.router.notices
        if self.router.backward.left_out and not self.router.backward.kept:
            seen.add(Notice.ONLY_ASKED_FOR)
        if self.router.recomputations.missed():
            seen.add(Notice.NOT_REPEATED)
        if seen:
            silent = Notice.NOT_TRAINING in seen and self._train.lacks(Signal.NET_VALUE, Signal.NET_GRAD)
            for warning in notices.after_step(seen, nothing_recorded=silent):
                self._failures.warn(warning)

    def _note_ranks(self) -> None:
        """Note what passes have shown of how the model is spread over ranks."""
        if self._rank is None:
            return
        told = {**self._rank, **self._spread.describe()}
        if told != self.writer.meta["ranks"]:
            self.writer.meta["ranks"] = told
        if (warning := self._spread.warning()) is not None and self.completed == self._start + 1:
            self._failures.warn(warning)

    def _forward_begins(self) -> None:
        """Look at what has to be looked at before a forward pass: called by the hook on the model itself."""
        if not self.router.evaluating:
            self._watch.forward_begins()
        if self._look and Notice.COMPILED not in self.router.notices:
            self._look = False
            self._follow_changes(self.completed + 1, tell=False)  # a warning, maybe an error, is for step()

    def _follow_changes(self, step: int, *, tell: bool = True) -> None:
        """Record the modules that the model has by now, if they are others than before, and tell of it."""
        if self._stopped:
            return
        if self._recorded.follow(self.writer, step):
            self._weights.exchange(self._recorded.weights)
            self._watch.choose()
        if tell:
            self._recorded.tell()

    def _begin_step(self) -> None:
        self._recorded.end_open_pass()
        wanted = bool(self._schedule(self.completed + 1))
        scheduled, paused = self._overhead.plan(wanted)
        self._scheduled = scheduled
        self._scans += scheduled
        # Interception costs a little at every operator, so it is on now and then; the first step of all always scans.
        scans = scheduled and (self._scans <= FIRST_SCANS or self._scans % SCAN_EVERY == 0)
        self.router.step_begins(intercept=scans or self.completed == self._start, paused=paused)
        self._look = scheduled or self.router.intercept  # which makes sites, and names them by the modules there are
        self._loss_scale.step_begins()
        if paused:
            self._train.end()
        else:
            self._train.begin(TRAIN, scheduled)
        self._weights.keep(Signal.WEIGHT_STEP)
        self._budget_flags = []
        if wanted and not scheduled:
            self._budget_flags.append(run_scalar("schedule_thinned", 1.0))
        if paused:
            self._budget_flags.append(run_scalar("probes_rested", 1.0))
        if self._budget_flags:
            self._failures.warn(notices.OVER_BUDGET)

    def _record_first_weights(self) -> None:
        """Record the weights before training, once it is known how they are spread: they may be after the opening."""
        if self._weights_wait and not self._stopped:
            begun = clock()
            self._weights_wait = False
            self._record_weights_alone()
            self._train.begin(TRAIN, self._scheduled)
            self._weights.keep(Signal.WEIGHT_STEP)
            self._overhead.spent += clock() - begun

    def _record_weights_alone(self) -> None:
        """Record the weights as they stand, outside of a training step."""
        self._train.begin(TRAIN, scheduled=True)
        self._store(TRAIN, self._weights.read(self.completed, [Signal.WEIGHT, Signal.WEIGHT_FROM_START]))

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
        # One after the other, as warnings may be errors: what was recorded is written whatever happens before.
        with ExitStack() as stack:
            stack.callback(self._forget)
            stack.callback(self._close_sinks, state)  # last: the folder is complete, however long a sink takes
            stack.callback(self._close_folder, state, error)
            stack.callback(self.queue.flush)
            stack.callback(self._record_the_end)
            stack.callback(self._let_go)
            self._follow_changes(self.completed)
            self._watch.ends(any_step=self.completed > self._start, unmarked=not self._train.empty)

    def _let_go(self) -> None:
        self._interventions.close()
        self._release()
        self.closed = True

    def _record_the_end(self) -> None:
        if self._weights.read_at != self.completed and not self._stopped:
            self._record_weights_alone()
        self._weights.forget()
        self._watch.tell_of_activations()
        self._note_the_end()
        if unmatched := self.router.axes.unmatched:
            self._failures.warn(f"node_axis= has patterns that matched no activation: {', '.join(unmatched)}")
        silent = self.site_log.silent()
        if silent and (self.completed > self._start or self._evaluated):
            layers = ", ".join(silent)
            self._failures.warn(f"no recorded forward pass went through {layers}: nothing of it was recorded")

    def _note_the_end(self) -> None:
        self._recorded.add_functional(self.writer, self.queue)
        self.writer.meta["coverage"] = self.coverage().as_dicts()
        self.writer.meta["cost"] = self._overhead.summary()
        if self._origin is not None:
            self._origin.ends()
            self.writer.meta["origin"] = self._origin.described()

    def _forget(self) -> None:
        # A close that was interrupted twice is ended when the Recorder is collected, or the process ends.
        if self.writer.closed:
            self.open_run.closed()

    def _close_folder(self, state: str, error: str | None) -> None:
        if self._stopped and state == "completed":
            state, error = "failed", self._failures.why_stopped
        try:
            failure = self.writer.close(state, error)
        except Exception as refused:  # noqa: BLE001 - it is reported, and what was recorded is closed
            self._disk_failed(refused)
        except BaseException as interrupt:
            with suppress(Exception):
                self.writer.close("interrupted", type(interrupt).__name__)
            raise
        else:
            self._tell_news()
            self._failures.compaction(failure)

    def _close_sinks(self, state: str) -> None:
        problems = self.writer.close_sinks("failed" if self._stopped and state == "completed" else state)
        if problems:
            with ExitStack() as stack:
                stack.callback(self._note_after_the_end)
                for problem in reversed(problems):
                    stack.callback(self._failures.sink, problem)

    def _note_after_the_end(self) -> None:
        try:
            self.writer.note_after_the_end()
        except OSError as refused:
            self._failures.warn(f"{self.path} refuses what became of the sinks ({refused}); all rows are there")

    def _disk_failed(self, error: Exception) -> None:
        self._failures.disk(error, closed=self.closed)

    def stay_behind(self) -> None:
        """Do nothing any more: this is a copy in a forked child, and the run is its parent's."""
        self.closed = self.forked = self._stopped = True
        self._recorded.stay_behind()
        self._train.end()
        self._held_out.end()

    def _release(self) -> None:
        """Take everything off the model; nothing is recorded any more."""
        self._recorded.release()
        self._train.end()
        self._held_out.end()


def _disk_failed(session: Session | None, error: Exception) -> None:
    if session is not None:
        session._disk_failed(error)


def _hook_failed(session: Session | None, error: Exception) -> None:
    if session is not None:
        session._hook_failed(error)
