"""A Recorder as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.integrations.attached import EPOCH, Attached
from dropdiag.integrations.libraries import missing
from dropdiag.store.schema import EVAL

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.trainer.states import TrainerFn

    from dropdiag.integrations.lightning_parts import recorded_part
except ImportError as error:
    raise missing(__name__, "lightning", error) from error


class Recorder(Callback):
    """Record what happens inside a model while Lightning trains it.

    Parameters
    ----------
    path : path
        The run folder of the first fit, as for `dropdiag.Recorder`.
    module : str or callable, optional
        What is recorded: the name of a part of the LightningModule, as ``"net"``, or a function that takes the
        LightningModule and returns a module. By default the part that holds all parameters, where there is one and
        the methods of the LightningModule call that part; where they call ``self(...)``, the LightningModule.
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
        When this module is imported without Lightning.

    Notes
    -----
    A step is a training batch after which an optimiser stepped, as Lightning's loggers count: with
    ``accumulate_grad_batches=4`` every fourth one; where manual optimisation steps several optimisers in a batch, all
    of them together. Each step has the loss and what ``self.log`` gave, under its own name. Validation is the
    evaluation ``"eval"``, a second dataloader's ``"eval_dataloader_idx_1"``; sanity checks are none, nor is what goes
    on outside of a fit. A checkpoint names the run, and a fit that goes on from it goes on in that run.

    Examples
    --------
    >>> import lightning as L
    >>> recorder = dd.integrations.lightning.Recorder("runs/x", every=10)
    >>> trainer = L.Trainer(max_epochs=2, callbacks=[recorder], **quiet)
    >>> trainer.fit(lightning_module, data_loader)
    >>> dd.load(recorder.path).meta["state"]
    'completed'
    """

    def __init__(
        self, path: str | Path, *, module: str | Callable[[LightningModule], nn.Module] | None = None, **options: Any
    ) -> None:
        self._attached = Attached(path, **options)
        self._module = module
        self._seen = 0
        self._loss: Tensor | None = None
        self._logged: dict[str, Tensor] = {}
        self._waiting: dict[str, Any] = {}
        self._stepped = False
        self._late: set[str] = set()

    @property
    def path(self) -> Path | None:
        """The run folder of this fit, or of the last one."""
        return self._attached.path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the Recorder: the steps of a checkpoint are restored by now, sanity checks are over."""
        self._seen, self._loss, self._logged = trainer.global_step, None, dict(trainer.logged_metrics)
        self._waiting, self._stepped, self._late = {}, False, set()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._attached.open(self._recorded(pl_module), step=_completed(trainer, pl_module), scaler=scaler)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what the LightningModule's own ``on_train_epoch_end`` has logged, which is called after this one's."""
        self._attached.log(self._new(trainer), EPOCH)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep what the LightningModule's own ``on_train_batch_end`` has logged, at the step that it is of."""
        self._add_late(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Mark a step if an optimiser has stepped: gradients are zeroed before the next batch's backward pass."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(loss, Tensor):
            # Lightning has divided it by the number of batches that are accumulated, where it accumulates.
            before = self._loss if pl_module.automatic_optimization else None
            self._loss = loss.detach() if before is None else before + loss.detach()
        self._waiting.update(self._new(trainer))
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        numbers, self._waiting = self._waiting, {}
        if self._loss is not None:
            numbers["loss"] = self._loss
        self._loss, self._stepped = None, True
        self._attached.step(numbers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what is logged once an epoch."""
        numbers = self._new(trainer)
        if self._stepped:
            self._stepped = False
            self._attached.add({name: numbers.pop(name) for name in self._late & numbers.keys()})
        self._attached.log(numbers, EPOCH)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what is logged of the step before it, so that it is not taken for the evaluation's."""
        self._add_late(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Open an evaluation at the first batch of each dataloader."""
        if batch_idx == 0 and not trainer.sanity_checking:
            self._attached.evaluation_begins(f"{EVAL}_dataloader_idx_{dataloader_idx}" if dataloader_idx else EVAL)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the evaluation, and keep its metrics."""
        if not trainer.sanity_checking:
            self._attached.evaluation_ends()
            self._attached.log(self._new(trainer), EVAL)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the run."""
        self._attached.log(self._new(trainer), EPOCH)
        self._attached.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the run as failed, or as interrupted."""
        self._attached.close(exception)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Name the run in the checkpoint, which loads without dropdiag all the same."""
        if (state := self._attached.state) is not None:
            checkpoint.setdefault(_KEY, {})[self._place(trainer)] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take note of the run that the checkpoint names, where a fit goes on from it."""
        if trainer.state.fn == TrainerFn.FITTING:  # not where the best weights are loaded for a test
            self._attached.restore(checkpoint.get(_KEY, {}).get(self._place(trainer)))

    def _place(self, trainer: Trainer) -> int:
        callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
        return [one for one in callbacks if isinstance(one, Recorder)].index(self)

    def _recorded(self, whole: LightningModule) -> nn.Module:
        if self._module is None:
            return recorded_part(whole)
        if not isinstance(self._module, str):
            return self._module(whole)
        try:
            return whole.get_submodule(self._module)
        except AttributeError:
            parts = ", ".join(name for name, _ in whole.named_children())
            raise ArgumentError(
                f"module= names no part of {type(whole).__name__}: got {self._module!r}, it has {parts or 'none'}"
            ) from None

    def _add_late(self, trainer: Trainer) -> None:
        """Keep what was logged after the last step was marked; of micro-batches the last one's value counts."""
        stepped, self._stepped, numbers = self._stepped, False, self._new(trainer)
        if stepped:
            self._late |= numbers.keys()
            self._attached.add(numbers)

    def _new(self, trainer: Trainer) -> dict[str, Any]:
        """Return what was logged since the last time, by the names that Lightning's loggers are given."""
        # Lightning hands out all it knows, and values of earlier batches and evaluations among them: in their storage.
        known, self._logged = self._logged, dict(trainer.logged_metrics)
        return {n: v for n, v in self._logged.items() if n not in known or not _same(v, known[n])}


_KEY: Final = "dropdiag"


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, Tensor) and isinstance(other, Tensor) and one.data_ptr() == other.data_ptr()


def _completed(trainer: Trainer, whole: LightningModule) -> int:
    """Return the number of steps that are completed when a fit begins."""
    if whole.automatic_optimization or len(trainer.optimizers) == 1:
        return trainer.global_step
    # Private, and what Lightning's own callbacks give to loggers: global_step counts each optimiser.
    return trainer.fit_loop.epoch_loop._batches_that_stepped
