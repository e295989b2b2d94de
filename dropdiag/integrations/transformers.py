"""A Recorder as a callback of transformers' Trainer."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from torch import Tensor, nn
from torch.optim import Optimizer

from dropdiag.errors import ArgumentError
from dropdiag.integrations.attached import Attached
from dropdiag.integrations.libraries import missing
from dropdiag.model.hook_base import check_model
from dropdiag.store.schema import EVAL, TRAIN

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise missing(__name__, "'transformers[torch]'", error) from error

LOG: Final = "log"
"""The phase of what the trainer logs beside losses and metrics."""
_KEY: Final = "dropdiag"
_EPOCH: Final = "epoch"
_EVERY_STEP: Final = frozenset(("loss", "learning_rate"))
_SPEED: Final = ("_runtime", "_samples_per_second", "_steps_per_second")
_LAST: Final = "total_flos"
"""What the trainer logs once training is over, and at no other time."""
_PHASES: Final = {TRAIN: "train_eval", "": EVAL}
"""Of evaluations whose prefix no evaluation of a Recorder may have."""


class Recorder(TrainerCallback):
    """Record what happens inside a model while transformers' Trainer trains it.

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
        When this module is imported without transformers.

    Notes
    -----
    A step is an update, over all its micro-batches. Each has the loss that was trained on and the learning rate; what
    else the trainer logs (``grad_norm``, say) comes at its own steps, in the phase ``"log"``. An evaluation while it
    trains is called by the trainer's prefix: ``"eval"``, ``"eval_NAME"`` of several data sets; one with the prefix
    ``"train"`` is ``"train_eval"``. Others are not recorded.
    While it trains, the trainer's methods ``training_step``, ``evaluation_loop`` and ``_run_epoch`` are called through
    the callback, as no event tells of losses, of the beginning of an evaluation, or of errors. A checkpoint names the
    run, and a training that resumes from it goes on in that run.

    Examples
    --------
    >>> from transformers import Trainer
    >>> recorder = dd.integrations.transformers.Recorder("runs/x", every=10)
    >>> trainer = Trainer(classifier, arguments, train_dataset=samples, callbacks=[recorder])
    >>> result = trainer.train()
    {'train_runtime': ...}
    >>> dd.load(recorder.path).meta["state"]
    'completed'
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._attached = Attached(path, **options)
        self._begin()

    def _begin(self) -> None:
        self._around: _Around | None = None
        self._loss: Tensor | None = None
        self._evaluated: dict[str, Collection[str]] = {}
        self._epoch_at = -1

    def __getstate__(self) -> dict[str, Any]:
        return {"attached": self._attached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._attached = state["attached"]
        self._begin()

    @property
    def path(self) -> Path | None:
        """The run folder of this training, or of the last one."""
        return self._attached.path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the Recorder: a checkpoint is loaded by now."""
        trainer = _calling_trainer()
        check_model(trainer.model_wrapped)  # an nn.DataParallel is outside of the model
        self._let_go()  # of a training that never said its end: its run is closed below
        saved: Any = state.stateful_callbacks  # a dict by now, which goes into each checkpoint's trainer_state.json
        key = _key_of(self, trainer)
        self._attached.restore(saved.get(key))
        model: nn.Module = kwargs["model"]
        self._attached.open(model, step=state.global_step, scaler=getattr(trainer.accelerator, "scaler", None))
        saved[key] = self._attached.state
        self._evaluated, self._epoch_at = {}, -1
        self._around = _Around(
            trainer,
            training_step=self._training_step,
            evaluation_loop=self._evaluation_loop,
            _run_epoch=self._run_epoch,
        )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark a step: gradients are zeroed right after this."""
        numbers: dict[str, Any] = {} if self._loss is None else {"loss": self._loss}
        optimizer: Optimizer | None = kwargs.get("optimizer")
        if optimizer is not None:
            numbers["learning_rate"] = optimizer.param_groups[0]["lr"]
        self._loss = None
        self._attached.step(numbers)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep what is logged and was not recorded already."""
        over = _LAST in (logs or {})
        numbers: dict[str, dict[str, Any]] = {LOG: {}}
        for name, value in (logs or {}).items():
            phase = LOG if over else self._phase_of(name)
            if phase is not None:
                numbers.setdefault(phase, {})[name] = value
        if state.global_step == self._epoch_at:  # it comes with whatever is logged, several times a step
            numbers[LOG].pop(_EPOCH, None)
        elif _EPOCH in numbers[LOG]:
            self._epoch_at = state.global_step
        for phase, told in numbers.items():
            self._attached.log(told, phase)
        if over:  # the best weights may be loaded before the trainer says that it has ended
            self._end(None)

    def _phase_of(self, name: str) -> str | None:
        """Return where a number that is logged while it trains belongs; None if it is recorded already."""
        if name in _EVERY_STEP:
            return None
        prefix = max((one for one in self._evaluated if name.startswith(f"{one}_")), key=len, default=None)
        if prefix is None:
            return LOG
        # What a subclass computes after the evaluation is logged, and not among what the evaluation returned.
        known = name in self._evaluated[prefix] or name.removeprefix(prefix) in _SPEED
        return None if known else _PHASES.get(prefix, prefix)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the run."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._let_go()
        self._attached.close(error)

    def _let_go(self) -> None:
        if self._around is not None:
            self._around.remove()
        self._around = self._loss = None

    def _training_step(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loss = method(*args, **kwargs)
        if isinstance(loss, Tensor):  # the trainer has divided it by the number of micro-batches
            self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()
        return loss

    def _evaluation_loop(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(method).bind(*args, **kwargs)
        given.apply_defaults()
        prefix = str(given.arguments.get("metric_key_prefix", "eval"))
        phase = _PHASES.get(prefix, prefix)
        self._evaluated[prefix] = ()
        with self._attached.evaluation(phase):
            output = method(*args, **kwargs)
        self._evaluated[prefix] = frozenset(output.metrics or ())
        self._attached.log(output.metrics or {}, phase)
        return output

    def _run_epoch(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            self._end(error)
            raise


class _Around:
    """Functions around methods of one trainer, until they are removed.

    Parameters
    ----------
    trainer : Trainer
    **functions
        By the method's name; each is called with the method and its arguments.
    """

    def __init__(self, trainer: Trainer, **functions: Callable[..., Any]) -> None:
        self._own = vars(trainer)
        # one that this version of the trainer does not have is not called either
        methods = {name: method for name in functions if (method := getattr(trainer, name, None)) is not None}
        self._put = {n: _Through(functions[n], method, self._own.get(n)) for n, method in methods.items()}
        self._own.update(self._put)

    def remove(self) -> None:
        """Leave the trainer as it was; what somebody has put around it in the meantime stays."""
        for name, through in self._put.items():
            through.function = None
            while isinstance(top := self._own.get(name), _Through) and top.function is None:
                if top.before is None:
                    del self._own[name]
                else:
                    self._own[name] = top.before


class _Through:
    """A method that is called through a function, and as it is when there is none any more."""

    def __init__(self, function: Callable[..., Any], method: Callable[..., Any], before: Any) -> None:
        self.function: Callable[..., Any] | None = function
        self.before = before  # what stood in the trainer's own attributes
        self.__wrapped__ = method  # whose signature this has

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self.__wrapped__
        return method(*args, **kwargs) if self.function is None else self.function(method, *args, **kwargs)


def _key_of(recorder: Recorder, trainer: Trainer) -> str:
    """Return under what a checkpoint names the run: each of several Recorders has its own."""
    callbacks: list[Any] = trainer.callback_handler.callbacks
    place = [one for one in callbacks if isinstance(one, Recorder)].index(recorder)
    return f"{_KEY}-{place + 1}" if place else _KEY


def _calling_trainer() -> Trainer:
    """Return the trainer whose event this is: callbacks are not told."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), Trainer):
            return found
        frame = frame.f_back
    raise ArgumentError(
        "dropdiag.integrations.transformers.Recorder is a callback of a transformers.Trainer: no Trainer has called "
        "on_train_begin(); in a loop of your own use dropdiag.Recorder"
    )
