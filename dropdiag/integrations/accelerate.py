"""A Recorder for a training loop of one's own that Accelerate spreads, accumulates and scales."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.integrations.attached import mean_of
from dropdiag.integrations.libraries import missing
from dropdiag.recorder import Recorder as PlainRecorder
from dropdiag.recording.records import user_scalars

try:
    from accelerate import Accelerator
except ImportError as error:
    raise missing(__name__, "accelerate", error) from error


class Recorder(PlainRecorder):
    """A `dropdiag.Recorder` that knows what an Accelerator does.

    Parameters
    ----------
    accelerator : Accelerator
    model : nn.Module
        What ``accelerator.prepare`` returned, or what it was given.
    path : path
    **options
        As for `dropdiag.Recorder`.

    Raises
    ------
    ArgumentError, RunError
        As `dropdiag.Recorder` does.
    NotInstalledError
        When this module is imported without Accelerate.

    Notes
    -----
    The model is unwrapped and the loss scaler found. `step` is called after every ``optimizer.step()`` and before
    ``zero_grad()``, and counts where the Accelerator synchronises gradients: with ``gradient_accumulation_steps=4``
    every fourth one, with the mean of the numbers that it was given since the last. All else is as in a plain loop:
    open it after ``prepare``, on every rank, and give ``resume=`` the step of the checkpoint that was loaded.

    Examples
    --------
    >>> from accelerate import Accelerator
    >>> accelerator = Accelerator(cpu=True)
    >>> model, opt = accelerator.prepare(model, opt)
    >>> with dd.integrations.accelerate.Recorder(accelerator, model, "runs/x") as rec:
    ...     for x, y in loader:
    ...         with accelerator.accumulate(model):
    ...             loss = F.cross_entropy(model(x), y)
    ...             accelerator.backward(loss)
    ...             opt.step()
    ...             rec.step(loss=loss)
    ...             opt.zero_grad()
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, path: str | Path, **options: Any) -> None:
        if isinstance(accelerator, nn.Module):
            kind = type(accelerator).__name__
            raise ArgumentError(f"a Recorder takes an Accelerator, a model and a path, in this order; got {kind} first")
        super().__init__(accelerator.unwrap_model(model), path, **{"scaler": accelerator.scaler, **options})
        self._accelerator = accelerator
        self._waiting: dict[str, list[float | Tensor]] = {}

    def step(self, scalars: Mapping[str, float | Tensor] | None = None, /, **named: float | Tensor) -> None:
        """Mark the end of one update, or of a part of it; parameters, errors and warnings as `dropdiag.Recorder.step`.

        Where gradients are not synchronised yet, the numbers wait for the end of the update.

        Examples
        --------
        >>> from accelerate import Accelerator
        >>> accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
        >>> with dd.integrations.accelerate.Recorder(accelerator, model, "runs/x", every=1) as rec:
        ...     for x, y in loader:  # of three batches
        ...         with accelerator.accumulate(model):
        ...             loss = F.cross_entropy(model(x), y)
        ...             accelerator.backward(loss)
        ...             opt.step()
        ...             rec.step(loss=loss)
        >>> dd.load("runs/x").select("loss")["step"].tolist()
        [1]
        """
        self._check_open("leave it before step()")
        for one in user_scalars("step", scalars, named):
            self._waiting.setdefault(one.quantity, []).append(one.value)  # type: ignore[arg-type]
        if self._accelerator.sync_gradients:
            waiting, self._waiting = self._waiting, {}
            super().step({name: mean_of(values) for name, values in waiting.items()})
