"""A Recorder as a callback of skorch's nets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Final

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dropdiag.integrations.attached import DEFAULTS, EPOCH, Attached, check_options, mean_of
from dropdiag.integrations.libraries import missing
from dropdiag.store.schema import EVAL

try:
    from skorch import NeuralNet
    from skorch.callbacks import Callback
except ImportError as error:
    raise missing(__name__, "skorch", error) from error

_LOOP: Final = "fit_loop"
_STEP: Final = "dropdiag_step"
_STATE: Final = "dropdiag"


class Recorder(Callback):  # type: ignore[misc]
    """Record what happens inside a module while skorch trains it.

    Parameters
    ----------
    path : path
        The run folder of the first fit, as for `dropdiag.Recorder`. Give ``name="auto"`` where the net is cloned and
        fitted several times, as `GridSearchCV` does: each fit is a run below it.
    module : str, default "module"
        What is recorded, by the net's name for it.
    **options
        As for `dropdiag.Recorder`: ``every``, ``probes``, ``config``, ``include``, ``name``, ... Each is a parameter of
        the callback: ``net.set_params(callbacks__Recorder__every=5)``.

    Attributes
    ----------
    path_ : Path or None
        The run folder of this fit, or of the last one.

    Raises
    ------
    ArgumentError
        For an option that `dropdiag.Recorder` does not have.
    NotInstalledError
        When this module is imported without skorch.

    Notes
    -----
    A step is an update: the optimiser's step, wherever ``train_step`` takes it. Its loss is what skorch tells of the
    batch, or the mean over the batches where gradients are accumulated. With several optimisers a step is a batch in
    which one of them stepped. Validation is the evaluation ``"eval"``, and so is the phase of the numbers in the
    history; those of training come in ``"train_epoch"``. The net's parameters that are numbers or words are in the
    run's config, under ``"net"``.

    ``fit`` begins a new run, ``partial_fit`` goes on in the last one. The history names the run, and training that
    resumes from a checkpoint with a history, or from a pickled net, goes on in it.

    Within a fit the callback stands first among the net's, so that validation ends before others make predictions; and
    ``fit_loop`` is called through it, as skorch tells callbacks of no error and keeps an interrupt to itself.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> recorder = dd.integrations.skorch.Recorder("runs/x", every=10)
    >>> net = NeuralNetClassifier(model, criterion=nn.CrossEntropyLoss, max_epochs=2, callbacks=[recorder], verbose=0)
    >>> fitted = net.fit(x.numpy(), y.numpy())
    >>> dd.load(recorder.path_).meta["state"]
    'completed'
    """

    def __init__(self, path: str | Path, *, module: str = "module", **options: Any) -> None:
        check_options(options)
        # by scikit-learn's conventions: parameters are attributes as they are given, what a fit makes ends with "_"
        self.__dict__.update({"path": path, "module": module, **DEFAULTS, **options})
        self._begin()

    def _begin(self) -> None:
        self.where_ = self.path
        self.attached_ = Attached(self.path)
        self.fits_ = self.in_epoch_ = False
        self._forget()

    def _forget(self) -> None:
        self.handles_: list[RemovableHandle] = []
        self.losses_: list[Tensor] = []
        self.stepped_ = self.marked_ = self.validates_ = self.named_ = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._get_param_names()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def path_(self) -> Path | None:
        """The run folder of this fit, or of the last one."""
        return self.attached_.path

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Stand first, and around the loop that follows."""
        net.callbacks_ = sorted(net.callbacks_, key=lambda one: one[1] is not self)
        own = vars(net)
        own[_LOOP] = partial(self._fit_loop, net, net.fit_loop, own.get(_LOOP))

    def _fit_loop(self, net: NeuralNet, loop: Callable[..., Any], before: object, *args: Any, **kwargs: Any) -> Any:
        del vars(net)[_LOOP]  # whatever stands there is a parameter of the net
        if before is not None:
            vars(net)[_LOOP] = before
        self.fits_ = True
        try:
            result = loop(*args, **kwargs)
        except KeyboardInterrupt as error:  # between epochs it is early stopping
            self._end(net, error if self.in_epoch_ else None)
            raise
        except BaseException as error:
            self._end(net, error)
            raise
        self._end(net)
        return result

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the Recorder at the first one: what others load at the beginning of training is loaded by now."""
        if self.attached_.recorder is not None:
            self._log_epochs(net, len(net.history) - 1)
        elif self.fits_:
            self._open(net)
        self.in_epoch_, self.named_ = True, False

    def on_batch_begin(self, net: NeuralNet, batch: Any = None, training: bool | None = None, **kwargs: Any) -> None:
        """Open an evaluation at the first batch of validation."""
        if not training and not self.validates_:
            self.validates_ = True
            self.attached_.evaluation_begins(EVAL)

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool | None = None, **kwargs: Any) -> None:
        """Keep the loss, at the step that is marked by now."""
        recorder = self.attached_.recorder
        if not training or recorder is None:
            return
        if isinstance(loss := kwargs.get("loss"), Tensor):
            self.losses_.append(loss.detach())
        if self.stepped_:
            self._mark()
        if self.marked_ and self.losses_:
            losses, self.losses_, self.marked_ = self.losses_, [], False
            self.attached_.add({"loss": mean_of(losses)})
        net.history.record_batch(_STEP, recorder.completed)
        if not self.named_:
            self.named_ = True
            net.history.record_batch(_STATE, self.attached_.state)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close the evaluation."""
        self.in_epoch_ = self.validates_ = False
        self.attached_.evaluation_ends()

    def _open(self, net: NeuralNet) -> None:
        given = self.get_params(deep=False)
        where, module = given.pop("path"), getattr(net, f"{given.pop('module')}_")
        if given["config"] is None or isinstance(given["config"], Mapping):
            given["config"] = {"net": _words_and_numbers(net), **(given["config"] or {})}
        before, self.attached_ = self.attached_, Attached(where, **given)
        self.attached_.path = before.path if self.where_ == where else None
        self.where_ = where
        history = net.history.to_list()
        self.attached_.restore(_named_run(history))
        scaler = getattr(getattr(net, "accelerator", None), "scaler", None)
        self.attached_.open(module, step=_completed(history), scaler=scaler)
        self._forget()
        self.logged_ = len(history) - 1
        # An event would come too late where train_step zeroes gradients itself, and once a batch where it accumulates.
        optimizers = (getattr(net, f"{name}_") for name in net._optimizers)
        inner = [getattr(one, "optimizer", one) for one in optimizers]  # that of an Accelerator's wrapper
        self.handles_ = [one.register_step_post_hook(self._steps) for one in inner]

    def _steps(self, *_: object) -> None:
        self.stepped_ = True
        if len(self.handles_) == 1:
            self._mark()

    def _mark(self) -> None:
        self.stepped_, self.marked_ = False, True
        self.attached_.step({})

    def _end(self, net: NeuralNet, error: BaseException | None = None) -> None:
        self.fits_ = False
        for handle in self.handles_:
            handle.remove()
        if self.attached_.recorder is not None:
            self._log_epochs(net, len(net.history) - (error is not None))
        self.attached_.close(error)
        self._forget()

    def _log_epochs(self, net: NeuralNet, until: int) -> None:
        """Keep what the history holds of the epochs that are over: callbacks behind this one have written to it."""
        for epoch in net.history.to_list()[self.logged_ : until]:
            told = {name: value for name, value in epoch.items() if _is_result(name, value)}
            for phase, training in ((EVAL, False), (EPOCH, True)):
                numbers = {n: v for n, v in told.items() if n.startswith(("train_", "event_")) is training}
                self.attached_.log(numbers, phase)
        self.logged_ = until


def _is_result(name: str, value: object) -> bool:
    apart = name in ("epoch", "dur") or name.endswith("_batch_count")
    return not apart and isinstance(value, Real) and not isinstance(value, bool)


def _batches(history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [batch for epoch in history for batch in epoch.get("batches", ()) if "train_loss" in batch]


def _completed(history: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of updates that a history tells of: where a Recorder has counted them, its numbers."""
    count = 0
    for batch in _batches(history):
        count = batch.get(_STEP, count + 1)
    return count


def _named_run(history: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    return next((batch[_STATE] for batch in reversed(_batches(history)) if batch.get(_STATE)), None)


def _words_and_numbers(net: NeuralNet) -> dict[str, Any]:
    return {n: v for n, v in net.get_params(deep=False).items() if isinstance(v, (str, bool, int, float))}
