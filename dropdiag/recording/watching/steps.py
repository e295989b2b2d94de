"""Whether ``step()`` is called once an update: told by the weights, whose versions count their changes.

Nothing is put on the optimiser, and nothing is read back from an accelerator but in the few steps that look wrong, and
once where a thousand passes came without a step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dropdiag.recording import notices
from dropdiag.sketches.native import PLAIN

WATCHED: Final = 8
"""Trainable parameters that are looked at, spread over the model."""
UPDATES: Final = 10
"""Updates without a ``step()`` that are told: more than a discriminator has in one step, and soon enough."""
PASSES: Final = 1000
"""Forward passes without a ``step()`` that are told, where an optimiser changes weights behind their versions."""
LOOKS: Final = (PASSES // 2, PASSES)
WINDOW: Final = 16
STILL: Final = 5
"""So many steps of a window in which gradients came and no weight moved are told."""
ZEROS: Final = 3
"""Steps, of those that record the weights' gradients, that are looked at for gradients that were zeroed."""
ELEMENTS: Final = 64

Versions: TypeAlias = list[int]


class StepWatch:
    """Looks at a few parameters before each forward pass and at each ``step()``.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._told: set[str] = set()
        self._zeros_left = ZEROS
        self._window = self._still = 0
        self.choose(model)

    def choose(self, model: nn.Module) -> None:
        """Choose the parameters anew: a layer was exchanged, frozen or unfrozen."""
        found = list(model.parameters())
        tables = ((m._parameters, name, p) for m in model.modules() for name, p in m._parameters.items())
        trainable = [place for place in tables if _can_be_watched(place[2])]
        last = max(len(trainable) - 1, 0)
        places = sorted({last * k // (WATCHED - 1) for k in range(WATCHED)})
        # Not by name alone: torch.func.functional_call puts other tensors in their place for a while. No weak
        # references, with which torch.utils.swap_tensors refuses a parameter.
        self._watched = [trainable[place] for place in places if trainable]
        self._tensors = [parameter for _, _, parameter in self._watched if parameter is not None]
        self._lazy = any(map(is_lazy, found))
        self._start()

    @property
    def stale(self) -> bool:
        """Whether parameters should be chosen anew, asked between passes: some have gone, or had no values yet."""
        return self._lazy or any(table.get(name) is not known for table, name, known in self._watched)

    @property
    def unmarked(self) -> bool:
        """Whether weights have changed since the last step, or the beginning, and nobody was told."""
        return notices.STEP_FORGOTTEN not in self._told and self._versions() != self._at_step

    def _start(self) -> None:
        self._seen = self._at_step = self._versions()
        self._gradients = self._gradient_versions()
        self._values: list[Tensor] | None = None
        self._halfway: list[Tensor] = []
        self._updates, self._passes = [0] * len(self._seen), 0

    def _versions(self) -> Versions:
        # Private: torch has no public count of the changes of a tensor.
        return [p._version for p in self._tensors]

    def _gradient_versions(self) -> list[tuple[int, int] | None]:
        gradients = [p.grad for p in self._tensors]
        return [None if gradient is None else (id(gradient), gradient._version) for gradient in gradients]

    def forward_begins(self) -> str | None:
        """Note a forward pass; return a warning if the weights have changed again and again without a step."""
        now = self._versions()
        self._passes += 1
        if now != self._seen:
            self._updates = [n + (a != b) for n, a, b in zip(self._updates, now, self._seen, strict=False)]
            self._seen = now
        elif self._passes not in LOOKS:
            return None  # nothing is new since the last look
        if not self._forgotten() or notices.STEP_FORGOTTEN in self._told:
            return None
        self._updates = [0] * len(now)
        # L-BFGS calls its closure, with forward passes, many times within one step of its own.
        return None if _inside_an_optimizer() else self._tell(notices.STEP_FORGOTTEN)

    def _forgotten(self) -> bool:
        """Whether the weights have changed too often since the last step, by their versions or by what they hold."""
        # Of half of them: an embedding with max_norm changes its weight in every forward pass.
        updated = sum(n >= UPDATES for n in self._updates)
        return 2 * updated > len(self._updates) or (self._passes in LOOKS and self._moved())

    def _moved(self) -> bool:
        """Whether weights moved in the second half of the passes."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False  # what is done now would be part of the user's graph
        before, self._halfway = self._halfway, self._some_values()
        return self._passes == PASSES and not all(map(torch.equal, self._halfway, before))

    def _tell(self, message: str) -> str:
        self._told.add(message)
        return message

    def step_ends(self, *, skipped: Callable[[], bool], reads_gradients: bool) -> list[str]:
        """Note a ``step()``, and return warnings.

        Parameters
        ----------
        skipped : callable
            Whether a loss scaler skipped this step, when no weight is to move. Asking may make the host wait.
        reads_gradients : bool
            Whether the weights' gradients are recorded in this step.
        """
        now, gradients = self._versions(), self._gradient_versions()
        came = gradients != self._gradients and gradients.count(None) < len(gradients)
        told: list[str] = []
        still = came and now == self._at_step and not skipped()
        if (still or self._window) and (judged := self._judged(still=still)) is not None:
            told.append(judged)
        if reads_gradients and self._zeros_left and came:
            self._zeros_left -= 1
            if self._all_zero():
                told.append(notices.GRADIENTS_ARE_ZERO)
        self._seen = self._at_step = now
        self._gradients, self._updates, self._passes = gradients, [0] * len(now), 0
        return told

    def _judged(self, *, still: bool) -> str | None:
        """Return a warning if the weights stand still in many of the steps since the first one in which they did."""
        if self._window >= WINDOW:
            return None
        self._window += 1
        values = self._some_values()
        # Old optimisers write to p.data, which no version counts: what the weights hold decides.
        unmoved = still and bool(values) and self._values is not None and all(map(torch.equal, values, self._values))
        self._values, self._still = values, self._still + unmoved
        if self._still < STILL:
            return None
        self._window = WINDOW
        return self._tell(notices.STEP_TOO_OFTEN)

    def _some_values(self) -> list[Tensor]:
        return [p.detach().reshape(-1)[:ELEMENTS].clone() for p in self._tensors if not p.is_meta]

    def _all_zero(self) -> bool:
        found = [p.grad for p in self._tensors if p.grad is not None]
        if any(type(g) not in PLAIN or g.is_sparse or g.is_meta for g in found):
            return False
        return bool(found) and not any(bool(g.any()) for g in found)


def _can_be_watched(parameter: Tensor | None) -> bool:
    # Of another class nothing is asked: its attributes may mean anything.
    if parameter is None or type(parameter) not in PLAIN:
        return False
    return parameter.requires_grad and parameter.layout == torch.strided and not parameter.is_inference()


def _inside_an_optimizer() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), torch.optim.Optimizer):
            return True
        frame = frame.f_back
    return False
