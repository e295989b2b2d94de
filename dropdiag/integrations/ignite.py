"""A Recorder as a handler of Ignite's engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.integrations.attached import EPOCH, Attached, mean_of
from dropdiag.integrations.libraries import missing
from dropdiag.store.schema import EVAL, TRAIN

try:
    from ignite.engine import Engine, Events
except ImportError as error:
    raise missing(__name__, "pytorch-ignite", error) from error

HANDLED: Final = "the training ended with an exception, which a handler of the trainer's took"
_RUN: Final = "run"


def named(output: Any) -> Mapping[str, Any]:
    """Return the numbers in what an update returns, by name: a mapping as it is, a lone number as the loss."""
    if isinstance(output, Mapping):
        return output
    return {"loss": output} if isinstance(output, (Real, Tensor)) else {}


class Recorder:
    """Record what happens inside a model while an Ignite engine trains it.

    Parameters
    ----------
    path : path
        The run folder of the first training, as for `dropdiag.Recorder`.
    **options
        As for `dropdiag.Recorder`: ``every``, ``probes``, ``config``, ``include``, ``name``, ...

    Attributes
    ----------
    path : Path or None
        The run folder of this training, or of the last one.

    Raises
    ------
    ArgumentError
        For an option that `dropdiag.Recorder` does not have.
    NotInstalledError
        When this module is imported without Ignite.

    Notes
    -----
    A step is an update, over all its iterations where gradients are accumulated. It has what the update returned;
    `attach` says under which names. The trainer's own metrics come at the end of each epoch, in the phase
    ``"train_epoch"``; an evaluator's at the end of its run, in the phase that it is called by. What evaluators do
    outside of a training is not recorded. ``Checkpoint({"trainer": trainer, "recorder": recorder, ...})`` names the
    run, and a training that resumes from it goes on in that run.

    The trainer's and the evaluators' ``run`` is called through the Recorder: no event tells of the end of every run,
    and a handler of ``EXCEPTION_RAISED`` would keep exceptions from coming through.

    Examples
    --------
    >>> from ignite.engine import create_supervised_trainer
    >>> trainer = create_supervised_trainer(model, opt, F.cross_entropy)
    >>> recorder = dd.integrations.ignite.Recorder("runs/x", every=10).attach(trainer, model)
    >>> state = trainer.run(loader, max_epochs=2)
    >>> dd.load(recorder.path).meta["state"]
    'completed'
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._attached = Attached(path, **options)
        self._begin()

    def _begin(self) -> None:
        self._trainer: Engine | None = None
        self._interrupted = False
        self._state: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"attached": self._attached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._attached = state["attached"]
        self._begin()

    @property
    def path(self) -> Path | None:
        """The run folder of this training, or of the last one."""
        return self._attached.path

    def attach(
        self,
        trainer: Engine,
        model: nn.Module,
        evaluators: Engine | Mapping[str, Engine] | None = None,
        *,
        gradient_accumulation_steps: int | None = None,
        output_transform: Callable[[Any], Mapping[str, Any]] = named,
    ) -> Recorder:
        """Record each training of an engine from now on.

        Parameters
        ----------
        trainer : Engine
        model : nn.Module
            What it trains.
        evaluators : Engine or mapping, optional
            One, whose evaluations are called ``"eval"``, or several by what theirs are called:
            ``{"eval": evaluator, "test": test_evaluator}``.
        gradient_accumulation_steps : int, optional
            Every how many iterations the trainer updates. Found by itself, as is a loss scaler, where the trainer is
            one that Ignite creates (``create_supervised_trainer``, ``supervised_training_step``); else 1.
        output_transform : callable, optional
            Takes what an update returns, and returns numbers by name. By default a mapping is taken as it is, and one
            number for the loss. Accumulated, they are averaged.

        Returns
        -------
        Recorder
            Itself.

        Raises
        ------
        ArgumentError
            If it is attached to the trainer already, or an argument is not as above.

        Notes
        -----
        Evaluations see the steps before them whatever the order of handlers. Metrics that are attached to the trainer
        after its run has begun may be those of the epoch before.

        Examples
        --------
        >>> from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
        >>> trainer = create_supervised_trainer(model, opt, F.cross_entropy)
        >>> evaluator = create_supervised_evaluator(model)
        >>> handler = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(held_out))
        >>> recorder = dd.integrations.ignite.Recorder("runs/x").attach(trainer, model, {"held_out": evaluator})
        >>> state = trainer.run(loader, max_epochs=2)
        >>> "held_out" in set(dd.load(recorder.path).scalars["phase"])
        True
        """
        called = {EVAL: evaluators} if isinstance(evaluators, Engine) else dict(evaluators or {})
        _check(trainer, called)
        if trainer.has_event_handler(self._started, Events.STARTED):
            raise ArgumentError("this Recorder is attached to this trainer already; attach it once")
        every = gradient_accumulation_steps
        if every is None:
            every = _of_update(trainer, "gradient_accumulation_steps") or 1
        elif not isinstance(every, int) or every < 1:
            raise ArgumentError(f"gradient_accumulation_steps= takes an integer of at least 1, got {every!r}")
        trainer.add_event_handler(Events.STARTED, self._started, model, every, output_transform)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        trainer.add_event_handler(Events.INTERRUPT, self._interrupts)
        vars(trainer)[_RUN] = partial(self._training, trainer, trainer.run)
        for name, evaluator in called.items():
            vars(evaluator)[_RUN] = partial(self._evaluation, name, evaluator, evaluator.run)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to say of the run, to go on in it: plain JSON."""
        return {_RUN: self._state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take note of the run that a checkpoint names."""
        self._attached.restore(state_dict.get(_RUN))

    def _training(self, trainer: Engine, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._interrupted = False
        try:
            state = run(*args, **kwargs)
        except BaseException as error:
            self._end(trainer, error)
            raise
        if not self._interrupted:  # else it goes on with the next run(), in the middle
            handled = trainer.last_event_name == Events.EXCEPTION_RAISED
            self._end(trainer, RuntimeError(HANDLED) if handled else None)
        return state

    def _started(
        self, trainer: Engine, model: nn.Module, every: int, transform: Callable[[Any], Mapping[str, Any]]
    ) -> None:
        self._every, self._transform = every, transform
        self._seen = trainer.state.iteration  # that of a checkpoint, where one is loaded
        self._waiting: dict[str, list[Any]] = {}
        self._attached.open(model, step=self._seen // every, scaler=_of_update(trainer, "scaler"))
        self._state, self._trainer = self._attached.state, trainer
        # only now, and so behind the metrics, which are computed by handlers of the same event
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _iteration_completed(self, trainer: Engine) -> None:
        iteration = trainer.state.iteration
        if iteration == self._seen:
            return
        self._seen = iteration
        for name, value in self._transform(trainer.state.output).items():
            self._waiting.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)
        if iteration % self._every == 0:
            waiting, self._waiting = self._waiting, {}
            self._attached.step({name: _mean(values) for name, values in waiting.items()})

    def _epoch_completed(self, trainer: Engine) -> None:
        self._attached.log(_metrics(trainer), EPOCH)

    def _interrupts(self) -> None:
        self._interrupted = True

    def _end(self, trainer: Engine, error: BaseException | None = None) -> None:
        self._trainer = None
        if trainer.has_event_handler(self._epoch_completed, Events.EPOCH_COMPLETED):
            trainer.remove_event_handler(self._epoch_completed, Events.EPOCH_COMPLETED)
        self._attached.close(error)

    def _evaluation(self, name: str, evaluator: Engine, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._trainer is None:
            return run(*args, **kwargs)
        if self._trainer.last_event_name == Events.ITERATION_COMPLETED:  # the handler that evaluates may be before ours
            self._iteration_completed(self._trainer)
        with self._attached.evaluation(name):
            state = run(*args, **kwargs)
        self._attached.log(_metrics(evaluator), name)
        return state


def _check(trainer: object, evaluators: Mapping[Any, Any]) -> None:
    for engine in (trainer, *evaluators.values()):
        if not isinstance(engine, Engine):
            raise ArgumentError(f"attach() takes a trainer and evaluators that are Ignite's Engines, got {engine!r}")
    if TRAIN in evaluators:
        raise ArgumentError(f"an evaluation cannot be called {TRAIN!r}, the phase of training steps; say 'train_eval'")


def _of_update(trainer: Engine, name: str) -> Any:
    """Return a variable that the trainer's update closes over, as those do that Ignite creates; None without it."""
    update = trainer._process_function  # private: an engine does not tell of it otherwise
    ours = inspect.isfunction(update) and update.__module__.startswith("ignite.")
    return inspect.getclosurevars(update).nonlocals.get(name) if ours else None


def _metrics(engine: Engine) -> dict[str, Any]:
    """Return an engine's metrics; those that are several have each its own name beside the whole."""
    return {name: value for name, value in engine.state.metrics.items() if not isinstance(value, Mapping)}


def _mean(values: list[Any]) -> Any:
    numbers = len(values) > 1 and all(isinstance(value, (Real, Tensor)) for value in values)
    return mean_of(values) if numbers else values[-1]
