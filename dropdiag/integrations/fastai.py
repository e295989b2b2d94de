"""A Recorder as a callback of fastai's Learner."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from dropdiag.integrations.attached import EPOCH, Attached, mean_of
from dropdiag.integrations.libraries import missing
from dropdiag.store.schema import EVAL

try:
    from fastai.callback.core import (
        Callback,
        CancelBatchException,
        CancelEpochException,
        CancelFitException,
        CancelTrainException,
        CancelValidException,
    )
    from fastai.learner import Learner
except ImportError as error:
    raise missing(__name__, "fastai", error) from error

_METHOD: Final = "_with_events"
_CANCELS: Final = (
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CancelTrainException,
    CancelValidException,
)


class Recorder(Callback):  # type: ignore[misc]
    """Record what happens inside a model while fastai trains it.

    Parameters
    ----------
    path : path
        The run folder of the first fit, as for `dropdiag.Recorder`.
    **options
        As for `dropdiag.Recorder`: ``every``, ``probes``, ``config``, ``include``, ``name``, ...

    Attributes
    ----------
    path : Path or None
        The run folder of this fit, or of the last one.

    Raises
    ------
    ArgumentError
        For an option that `dropdiag.Recorder` does not have.
    NotInstalledError
        When this module is imported without fastai.

    Notes
    -----
    A step is an update, over all its batches where gradients are accumulated; it has the loss and the learning rate
    (``lr``, of the last group). What fastai tells at the end of an epoch comes in the phase ``"eval"``, what it tells
    of training (``train_loss``) in ``"train_epoch"``. Each fit is a run of its own, and so is each half of
    ``fine_tune``; ``lr_find``, ``validate`` and ``get_preds`` are none. ``fit(start_epoch=...)`` goes on in the run of
    the last fit. fastai's files do not tell of the run: in a new process give its folder and ``resume=True``.

    Within a fit the Learner's method ``_with_events`` is called through the callback, as no event tells of errors.

    Examples
    --------
    >>> from fastai.learner import Learner
    >>> recorder = dd.integrations.fastai.Recorder("runs/x", every=10)
    >>> learn = Learner(dls, model, loss_func=nn.CrossEntropyLoss(), cbs=[recorder])
    >>> with learn.no_logging():
    ...     learn.fit(2)
    >>> dd.load(recorder.path).meta["state"]
    'completed'
    """

    order = 55  # behind MixedPrecision, which updates the scale, and behind fastai's Recorder, which computes metrics
    name = "dropdiag_recorder"  # learn.recorder is fastai's own
    remove_on_fetch = True

    def __init__(self, path: str | Path, **options: Any) -> None:
        self._attached = Attached(path, **options)
        self._begin()

    def _begin(self) -> None:
        self._put: tuple[dict[str, Any], Any] | None = None
        self._in_epoch = False
        self._losses: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"attached": self._attached, "learn": self.learn}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._attached, self.learn = state["attached"], state["learn"]
        self._begin()

    @property
    def path(self) -> Path | None:
        """The run folder of this fit, or of the last one."""
        return self._attached.path

    def before_fit(self) -> None:
        """Stand around the events of a fit; ``validate`` and ``get_preds`` say that they are one, within a fit too."""
        if self._in_epoch:
            return
        self._end()
        own = vars(self.learn)
        self._put = own, partial(self._around, self.learn._with_events)
        own[_METHOD] = self._put[1]

    def before_train(self) -> None:
        """Open the Recorder: this is training, and the model is what it is trained as."""
        if self._attached.recorder is None and not hasattr(self.learn, "lr_finder"):
            self._losses = []
            scaler = getattr(self.learn, "scaler", None)
            self._attached.open(self.learn.model, step=_completed(self.learn), scaler=scaler)

    def after_loss(self) -> None:
        """Keep the loss of this batch for the step that it is a part of."""
        if self.learn.training and self._attached.recorder is not None:
            self._losses.append(self.learn.loss.detach().as_subclass(Tensor).mean())

    def after_step(self) -> None:
        """Mark a step: gradients are zeroed right after this."""
        losses, self._losses = self._losses, []
        numbers: dict[str, Any] = {"lr": self.learn.opt.hypers[-1]["lr"]}
        if losses:
            numbers["loss"] = mean_of(losses)
        self._attached.step(numbers)

    def after_epoch(self) -> None:
        """Keep what is told at the end of an epoch."""
        told = getattr(self.learn, "recorder", None)
        if told is None or self._attached.recorder is None:
            return
        names, values = [one for one in told.metric_names[1:] if one != "time"], list(told.final_record)
        if len(names) != len(values):  # a part of the epoch was cancelled
            return
        for phase, training in ((EVAL, False), (EPOCH, True)):
            numbers = {n: v for n, v in zip(names, values, strict=True) if n.startswith("train_") is training}
            self._attached.log({n: v for n, v in numbers.items() if v is not None}, phase)

    def after_fit(self) -> None:
        """Close the run."""
        if not self._in_epoch:
            self._end()

    def _end(self, error: BaseException | None = None) -> None:
        if self._put is not None:
            own, function = self._put
            if own.get(_METHOD) is function:
                del own[_METHOD]
        self._put = None
        self._attached.close(error)

    def _around(
        self, method: Callable[..., None], f: Callable[[], None], event: str, *args: Any, **kwargs: Any
    ) -> None:
        if event == "validate":
            f = partial(self._validation, f)
        if event != "epoch":
            method(f, event, *args, **kwargs)
            return
        self._in_epoch = True
        try:
            method(f, event, *args, **kwargs)
        except _CANCELS:
            raise
        except BaseException as error:
            self._end(error)
            raise
        finally:
            self._in_epoch = False

    def _validation(self, batches: Callable[[], None]) -> None:
        # Not for predictions that another callback asks for, from which it may leave this one out.
        if self.learn is not None and not hasattr(self.learn, "gather_preds"):
            self._attached.evaluation_begins(EVAL)
        try:
            batches()
        except CancelValidException:
            self._attached.evaluation_ends()
            raise
        except BaseException as error:
            self._attached.evaluation_ends(error)
            raise
        self._attached.evaluation_ends()


def _completed(learn: Learner) -> int:
    """Return the number of updates in the epochs that ``fit(start_epoch=...)`` skips."""
    skips = getattr(learn, "skip_to_epoch", None)
    if skips is None:
        return 0
    loader, accumulates = learn.dls.train, getattr(learn, "gradient_accumulation", None)
    batches = 1
    if accumulates is not None:  # it counts samples
        batches = math.ceil(accumulates.n_acc / (getattr(loader, "bs", None) or loader.batch_size or 1))
    return int(skips._skip_to * len(loader) // batches)
