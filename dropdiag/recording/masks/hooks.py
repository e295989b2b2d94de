"""The hooks on a dropout: in steps that are not scheduled they return at once."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeAlias

from torch import nn

from dropdiag.model.dropouts import kept_rate
from dropdiag.model.hook_base import DropdiagHook
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.masks.randomness import States
from dropdiag.recording.masks.reader import Begun, MaskReader
from dropdiag.recording.nested import tensors
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import PassRouter

Pending: TypeAlias = "deque[Begun | States | None]"
"""The passes of one module that have begun and not ended, the innermost last; in evaluations, random states."""


class MaskBegins(DropdiagHook):
    """Forward pre-hook of a dropout: its input is what the mask is applied to."""

    n_args = 3

    def __init__(self, reader: MaskReader, router: PassRouter, info: SiteInfo, pending: Pending) -> None:
        self.reader, self.router, self.info, self.pending = reader, router, info, pending

    def fire(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Hand over the input."""
        reader = self.reader
        if not reader.listening:  # as in most steps
            return
        begun = clock()
        try:
            taken = self._begin(module, args, kwargs)
        except Exception as error:  # noqa: BLE001 - a rate may be a user's own property, which must not end the training
            reader.fail(self.info, error)
            taken = None
        self.pending.append(taken)
        self.router.overhead.spent += clock() - begun

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        reader, kind = self.reader, self.info.site.dropout
        if kind is None:
            return None
        rate = kept_rate(kind, module)
        if self.router.evaluating and not module.training:
            reader.begins(self.info, None, rate, draws=False)
            return reader.draws.watch(module)
        if kind.by_functions:
            return reader.module_begins(self.info, rate, draws=module.training)
        x = None if kind.unseen else next(tensors((args, kwargs)), None)
        return reader.begins(reader.located(self.info, x), x, rate, draws=module.training)


class MaskEnds(DropdiagHook):
    """Forward hook of a dropout, called after an exception as well."""

    def __init__(self, reader: MaskReader, router: PassRouter, info: SiteInfo, pending: Pending) -> None:
        self.reader, self.router, self.pending = reader, router, pending
        self.by_functions = info.site.dropout is not None and info.site.dropout.by_functions

    def fire(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Hand over the output."""
        if not self.pending:
            return
        taken = self.pending.pop()
        if taken is None:
            return
        begun = clock()
        if isinstance(taken, dict):
            self.reader.draws.watched(taken)
        elif self.by_functions:
            self.reader.module_ends(module, taken)
        else:
            self.reader.ends(taken, output)
        self.router.overhead.spent += clock() - begun
