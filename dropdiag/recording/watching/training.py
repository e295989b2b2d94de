"""What is to be told of a training while it runs: steps that are not marked, and activations that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import nn

from dropdiag.model.sites import ACTIVATION, OUTPUT, Site
from dropdiag.recording import notices
from dropdiag.recording.failures import Failures
from dropdiag.recording.functional import FunctionalCalls
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.notices import Notice
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.watching.steps import StepWatch

SEEN: Final = 8
"""Functions and modules that are named where no activation is known."""


class TrainingWatch:
    """Looks at forward passes and steps, and warns.

    Parameters
    ----------
    model : nn.Module
    sites : sequence of Site
        What the survey found.
    functional : FunctionalCalls
    router : PassRouter
    loss_scale : LossScale
    failures : Failures
    wants_activations : bool
        Whether a probe is fed with net or node values, or their gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Iterable[Site],
        functional: FunctionalCalls,
        *,
        router: PassRouter,
        loss_scale: LossScale,
        failures: Failures,
        wants_activations: bool,
    ) -> None:
        self._model, self._functional, self._router = model, functional, router
        self._loss_scale, self._failures = loss_scale, failures
        self._steps = StepWatch(model)
        known = any(site.kind in (ACTIVATION, OUTPUT) for site in sites)
        self._wonders = wants_activations and not known  # whether there is any activation
        self._functional.others = set() if self._wonders else None
        self._passed = self._passed_in_evaluation_mode = False

    def choose(self) -> None:
        """Look at the parameters that the model has by now."""
        self._steps.choose(self._model)

    def forward_begins(self) -> None:
        """Note that a forward pass outside of evaluations begins."""
        if self._wonders:
            self.tell_of_activations()
            self._passed |= self._model.training
            self._passed_in_evaluation_mode |= not self._model.training and torch.is_grad_enabled()
        self._tell(self._steps.forward_begins())

    def step_ends(self, *, reads_gradients: bool) -> None:
        """Note the end of a step, in which the weights' gradients are recorded or not."""
        if self._wonders:
            self.tell_of_activations()
        if self._wonders and self._passed_in_evaluation_mode:  # in which no function is looked for
            self._tell(Notice.NOT_TRAINING.value)
        for warning in self._steps.step_ends(skipped=self._loss_scale.lowered, reads_gradients=reads_gradients):
            self._tell(warning)
        if self._steps.stale:
            self.choose()

    def tell_of_activations(self) -> None:
        """Warn once, as soon as a forward pass is over, where no activation was in it."""
        if self._wonders and self._passed:
            self._wonders = False
            seen, self._functional.others = self._functional.others or set(), None
            if not self._functional.sites and not self._functional.failed:
                compiled = Notice.COMPILED in self._router.notices
                unknown = notices.NO_ACTIVATION.format(seen=_seen(self._model, seen))
                self._tell(Notice.COMPILED.value if compiled else unknown)

    def ends(self, *, any_step: bool, unmarked: bool) -> None:
        """Note the end of the run: whether a step was marked, and whether passes came since the last one."""
        if not any_step and unmarked and self._steps.unmarked:
            self._tell(notices.NO_STEP)

    def _tell(self, warning: str | None) -> None:
        if warning is not None:
            self._failures.warn(warning)


_LIKE_ACTIVATIONS: Final = (
    *("abs", "amax", "atan", "clamp", "clamp_min", "clip", "cos", "cosh", "erf", "exp", "expm1", "floor", "heaviside"),
    *("log", "log1p", "logsumexp", "max", "maximum", "min", "minimum", "pow", "round", "rsqrt", "sgn", "sign", "sin"),
    *("sinc", "sinh", "sort", "sqrt", "square", "tan", "topk", "where"),
)
"""Functions that people make activations of, by name."""


def _seen(model: nn.Module, functions: set[str]) -> str:
    """Name what may be activations: functions that were called, and modules that are not torch's."""
    own = {type(m).__name__ for m in model.modules() if m is not model and not type(m).__module__.startswith("torch.")}
    called = {name.rstrip("_") for name in functions}.intersection(_LIKE_ACTIVATIONS)
    parts = {"functions": sorted(called)[:SEEN], "modules": sorted(own)[:SEEN]}
    return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names) or "none that could be one"
