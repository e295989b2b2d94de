"""The life of a Recorder inside somebody else's trainer: opened, stepped and closed as the trainer says.

A trainer's own file only translates the trainer's events. It opens the Recorder at the start of a fit, when the number
of steps that a checkpoint restored is known; marks a step after each update and before the gradients are zeroed; opens
and closes evaluations; and closes the Recorder at the end of the fit, or with the exception that ended it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.recorder import Recorder
from dropdiag.recording.naming import AUTO, Numbered
from dropdiag.recording.records import user_scalar, user_scalars
from dropdiag.store.folder import FORCE, forced, read_meta
from dropdiag.store.schema import TRAIN
from dropdiag.store.storage.places import as_path

DEFAULTS: Final = {
    name: parameter.default
    for name, parameter in inspect.signature(Recorder).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}
"""The options of a `dropdiag.Recorder`."""
EPOCH: Final = "train_epoch"
"""The phase of what a trainer tells of training once an epoch."""
UNFINISHED: Final = "the trainer began anew without having said that this training had ended"
NO_RUN: Final = (
    "the training goes on at step {step}, and no run is known to go on in: its steps are counted from 1, in a new run "
    "({path}). Give path= of the run folder and resume=True to go on there"
)
LEFT_OUT: Final = (
    "not recorded of what the trainer logs, as a number has to be one real number under a name that dropdiag does not "
    "take itself: {names}"
)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` for an option that `dropdiag.Recorder` does not have: now, not when training begins."""
    if unknown := sorted(options.keys() - DEFAULTS.keys()):
        raise ArgumentError(f"a Recorder takes no {', '.join(unknown)}; it takes {', '.join(DEFAULTS)}")


class Attached:
    """A Recorder that a trainer opens and closes, once a fit.

    Copies and pickles keep the arguments and no run: a Recorder belongs to one training in one process.

    Parameters
    ----------
    path : path
        As for `dropdiag.Recorder`.
    **options
        As for `dropdiag.Recorder`.

    Raises
    ------
    ArgumentError
        For an option that `dropdiag.Recorder` does not have.

    Attributes
    ----------
    recorder : Recorder or None
        While a fit goes on.
    path : Path or None
        The run folder of this fit, or of the last one.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        check_options(options)
        self._where, self._options = path, options
        self._begin()

    def _begin(self) -> None:
        self.recorder: Recorder | None = None
        self.path: Path | None = None
        self._evaluation: AbstractContextManager[None] | None = None
        self._loaded, self._known = False, dict[str, Any]()
        self._left_out: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self._where, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._where, self._options = state["where"], state["options"]
        self._begin()

    @property
    def state(self) -> dict[str, Any] | None:
        """What a checkpoint has to say of the run, to go on in it: plain JSON. None before the first fit.

        Checkpoints are saved after the fit, too, and after the error that ended it.
        """
        return None if self.path is None else {"path": str(self.path), "id": _id_of(self.path)}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Take note of the checkpoint that the next fit goes on from: of the `state` in it, None if there is none."""
        self._loaded, self._known = True, dict(state or {})

    def open(self, model: nn.Module, *, step: int = 0, scaler: object | None = None) -> Recorder:
        """Open the Recorder, at the start of a fit.

        Parameters
        ----------
        model : nn.Module
            Unwrapped; what records it is put on before its first training pass.
        step : int
            Completed steps, those that a checkpoint restored among them. From 0 a new run begins: at the path, or, if
            this is not the first fit, under the same name with a number. Otherwise the run goes on that the checkpoint
            tells of (`restore`), or, if none was loaded, that of the last fit.
        scaler : torch.amp.GradScaler, optional
            That of the trainer; one that is among the options goes before.

        Raises
        ------
        ArgumentError, RunError
            As `dropdiag.Recorder` does.

        Warns
        -----
        DropdiagWarning
            If the training goes on, and there is no run to go on in.
        """
        self.close(RuntimeError(UNFINISHED))
        given = {"scaler": scaler, **self._options}
        where, chosen, lost = self._place(step, given.pop("name", None), given.pop("resume", False))
        self.recorder = Recorder(model, where, **given, **chosen)
        self.path, self._loaded = self.recorder.path, False
        if lost:
            warnings.warn(NO_RUN.format(step=step, path=self.path), DropdiagWarning, stacklevel=2)
        return self.recorder

    def _place(self, step: int, name: str | None, resume: Any) -> tuple[str | Path, dict[str, Any], bool]:
        """Return path, name and resume of the Recorder to open, and whether the run to go on in is not known."""
        if resume is not False:
            return self._where, {"name": name, "resume": _from_step(resume, step)}, False
        found = self._goes_on_in() if step else None
        if found is not None:
            # Beside a process that is taken for alive: a job that was preempted is started again within moments.
            return found, {"resume": (FORCE, step)}, False
        if self.path is None or name == AUTO:
            return self._where, {"name": name}, bool(step)
        here = as_path(self._where)
        first = here if name is None else here / name
        return first.parent, {"name": Numbered(first.name)}, bool(step)

    def _goes_on_in(self) -> Path | None:
        """Return the folder of the run that a checkpoint tells of; without a checkpoint that of the last fit."""
        if not self._loaded:
            return self.path
        if self._known.get("id") is None:
            return None
        here = as_path(self._where)
        folders = [as_path(str(self._known["path"]), like=here), here]  # the second where all was moved
        return next((folder for folder in folders if _id_of(folder) == self._known["id"]), None)

    def step(self, scalars: Mapping[str, Any]) -> None:
        """Mark the end of one update: after the optimiser's step, before gradients are zeroed."""
        if self.recorder is not None:
            self.recorder.step(self._numbers(scalars))

    def add(self, scalars: Mapping[str, Any]) -> None:
        """Keep numbers of the step that was marked last, where the trainer tells of them after that."""
        if self.recorder is not None and (numbers := self._numbers(scalars)):
            self.recorder._session.put(TRAIN, user_scalars("step", numbers, {}))

    def log(self, scalars: Mapping[str, Any], phase: str) -> None:
        """Keep numbers at the current step."""
        if self.recorder is not None and (numbers := self._numbers(scalars)):
            self.recorder.log(numbers, phase=phase)

    def evaluation_begins(self, name: str) -> None:
        """Open an evaluation; one that is open is closed."""
        self.evaluation_ends()
        if self.recorder is not None:
            self._evaluation = self.recorder.evaluation(name)
            self._evaluation.__enter__()

    def evaluation_ends(self, error: BaseException | None = None) -> None:
        """Close the evaluation that is open, if one is; with an error nothing of it is kept."""
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is not None:
            _leave(evaluation, error)

    @contextmanager
    def evaluation(self, name: str) -> Iterator[None]:
        """Record what goes on inside as an evaluation; nothing of it is kept if it raises."""
        self.evaluation_begins(name)
        try:
            yield
        except BaseException as error:
            self.evaluation_ends(error)
            raise
        self.evaluation_ends()

    def close(self, error: BaseException | None = None) -> None:
        """Close the Recorder, if it is open: completed, or with what ended the training."""
        recorder, self.recorder = self.recorder, None
        if recorder is None:
            return
        try:
            self.evaluation_ends(error)
        finally:
            _leave(recorder, error)

    def _numbers(self, scalars: Mapping[str, Any]) -> dict[str, Any]:
        """Return those that a Recorder takes; tell of each of the others once."""
        taken = {name: value for name, value in scalars.items() if _is_number(name, value)}
        if len(taken) < len(scalars) and (new := {str(name) for name in scalars if name not in taken} - self._left_out):
            self._left_out |= new
            warnings.warn(LEFT_OUT.format(names=", ".join(sorted(new))), DropdiagWarning, stacklevel=3)
        return taken


def mean_of(values: Sequence[Any]) -> Any:
    """Return the mean of numbers or tensors: of the micro-batches of an update, in their order."""
    return sum(values[1:], values[0]) / len(values)


def _is_number(name: object, value: object) -> bool:
    if isinstance(value, Tensor):  # not read here, which would make the host wait for an accelerator
        value = 0.0 if value.numel() == 1 and not value.is_complex() else None
    try:
        user_scalar(name, value)
    except ArgumentError:
        return False
    return True


def _from_step(resume: Any, step: int) -> Any:
    """Return ``resume=`` with the step of a checkpoint, where the user gives none."""
    force, chosen = forced(resume)
    if not step or chosen is not True:
        return resume
    return (FORCE, step) if force else step


def _id_of(folder: Path) -> str | None:
    try:
        return read_meta(folder).get("id")
    except RunError:  # no run, or none yet
        return None


def _leave(context: AbstractContextManager[Any], error: BaseException | None) -> None:
    """Leave a context as the ``with`` statement does."""
    if error is None:
        context.__exit__(None, None, None)
    else:
        context.__exit__(type(error), error, error.__traceback__)
