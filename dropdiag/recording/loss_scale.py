"""The loss scale of mixed-precision training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.recording.records import Record, run_scalar
from dropdiag.sketches.native import PLAIN


class LossScale:
    """Divides gradients by a `torch.amp.GradScaler`'s scale and reports which steps it skipped.

    Parameters
    ----------
    scaler : torch.amp.GradScaler or None
        None: gradients are what they are.

    Raises
    ------
    ArgumentError
        If it is neither.
    """

    def __init__(self, scaler: object | None) -> None:
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise ArgumentError(f"scaler= takes a torch.amp.GradScaler, got {type(scaler).__name__}")
        self._scaler: Any = scaler if scaler is not None and scaler.is_enabled() else None
        self._before: float | Tensor = 1.0
        self.active = self._scaler is not None

    def unscaled(self, gradient: Tensor) -> Tensor:
        """Return a gradient in units of the loss."""
        # torch refuses to divide a DTensor by a plain tensor, and no subclass is read anyway.
        if self._scaler is None or type(gradient) not in PLAIN:
            return gradient
        return gradient / self._now()

    def step_begins(self) -> None:
        """Keep the scale at the beginning of this step."""
        if self._scaler is not None:
            self._before = self._now()

    def skipped(self) -> list[Record]:
        """Return whether the scaler skipped the step that ends: it then lowers its scale."""
        if self._scaler is None:
            return []
        lowered = torch.as_tensor(self._now() < self._before).to(torch.float64)
        return [run_scalar("step_skipped", lowered)]

    def lowered(self) -> bool:
        """Whether the scaler skipped the step that ends; makes the host wait for an accelerator."""
        return self._scaler is not None and bool(self._now() < self._before)

    def _now(self) -> float | Tensor:
        # The public get_scale() makes the host wait for an accelerator; the tensor behind it does not.
        scale = self._scaler._scale
        now: float | Tensor = self._scaler.get_scale() if scale is None else scale.clone()
        return now
