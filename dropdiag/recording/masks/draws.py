"""Tells of masks and other random numbers that are drawn inside evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from dropdiag.model.dropouts import has_own_forward, kind_of, rate_of
from dropdiag.model.rates import may_draw, plain_rate
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.masks.randomness import RandomStates, States, changed
from dropdiag.recording.notices import Notice
from dropdiag.recording.passes import PassRouter


class EvaluationDraws:
    """Compares the random states around each forward pass of the attached model inside an evaluation.

    What loaders draw between the passes is none of it.

    Parameters
    ----------
    model : nn.Module
    router : PassRouter
    modules : mapping
        Modules that are dropouts or have one inside, with their sites; it may grow.

    Attributes
    ----------
    drawn : dict
        Names of the generators that drew inside the last evaluation where no dropout explains it.
    """

    def __init__(self, model: nn.Module, router: PassRouter, modules: Mapping[int, tuple[nn.Module, SiteInfo]]) -> None:
        self._router, self._modules = router, modules
        self._states = RandomStates(model)
        self._before: States | None = None
        self._first = True
        self._active = False
        self.drawn: dict[str, None] = {}

    def begins(self) -> None:
        """Forget what the last evaluation drew."""
        self.drawn.clear()
        self._states.find()
        self._first = True

    def forward_begins(self) -> None:
        """Keep the random states: the model's forward pass begins."""
        self._active = False
        if self._states.capturing():
            self._before = None
            self._router.notices.add(Notice.DRAWS_UNSEEN)
        else:
            self._before = self._states.read(thorough=self._first)

    def forward_ends(self) -> None:
        """Note the generators that drew in the meantime, if no dropout did."""
        before, self._before = self._before, None
        if before is None or self._states.capturing():
            return
        drawn = changed(before, self._states.read(thorough=self._first))
        self._first = False
        if not drawn or self._active:
            return
        if any(module.training and may_draw(plain_rate(rate_of(module))) for module, _ in self._modules.values()):
            self.by_dropout()
            return
        self._router.notices.add(Notice.DRAWN_IN_EVALUATION)
        self.drawn |= dict.fromkeys(drawn)

    def by_dropout(self) -> None:
        """Note that a dropout is active."""
        self._active = True
        self._router.notices.add(Notice.MASKS_IN_EVALUATION)

    def watch(self, module: nn.Module) -> States | None:
        """Keep the random states before a dropout in evaluation mode that may draw all the same."""
        kind = kind_of(module)
        quiet = self._before is None or kind is None or kind.inside_layer or not has_own_forward(module)
        return None if quiet or self._states.capturing() else self._states.read(thorough=True)

    def watched(self, before: States) -> None:
        """Note whether it did."""
        if changed(before, self._states.read(thorough=True)):
            self.by_dropout()
