"""Masks that are put behind modules of a model for a measurement."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.functional.calls import NamedCall
from dropdiag.measure.passes.called_activations import CalledActivations, Taker
from dropdiag.measure.passes.net_values import Calls
from dropdiag.measure.passes.state.random_states import seed_generators
from dropdiag.measure.passes.state.reachable import reachable


@dataclass(frozen=True)
class PlacedMask:
    """A dropout that is to stand behind a module, or behind the calls of a function.

    Attributes
    ----------
    name : str
        Of the dropout, which its random numbers are of.
    behind : nn.Module or str
        A module, or the site of a function.
    dropout : nn.Module
        What is applied to the output: a copy of it, in training mode.
    """

    name: str
    behind: nn.Module | str = field(repr=False)
    dropout: nn.Module = field(repr=False)


class PlacedMasks:
    """Masks behind modules, in the passes in which they are watched.

    Parameters
    ----------
    masks : iterable of PlacedMask
    begin_site : callable
        (name, call) -> the seed that it began the random numbers with.
    called : CalledActivations
        Hands over the calls of functions.

    Attributes
    ----------
    drawn : set of str
    """

    def __init__(
        self, masks: Iterable[PlacedMask], begin_site: Callable[[str, int], int], called: CalledActivations
    ) -> None:
        self._masks = [(mask, copy.deepcopy(mask.dropout).train()) for mask in masks]
        self._begin_site, self._called = begin_site, called
        self.drawn: set[str] = set()

    def watch(self, hooks: ExitStack) -> None:
        """Put the masks behind their modules for one pass."""
        calls = Calls()
        for mask, dropout in self._masks:
            if isinstance(mask.behind, str):
                self._called.take(hooks, Taker(after=partial(self._drop_call, mask, dropout, calls)))
                continue
            hook = partial(self._drop, mask.name, dropout, calls)
            hooks.enter_context(mask.behind.register_forward_hook(hook))

    def _drop_call(
        self, mask: PlacedMask, dropout: nn.Module, calls: Calls, call: NamedCall, h: Tensor
    ) -> Tensor | None:
        return self._drop(mask.name, dropout, calls, call.module, (), h) if call.layer == mask.behind else None

    def _drop(
        self, name: str, dropout: nn.Module, calls: Calls, module: nn.Module, _args: Any, output: object
    ) -> Tensor:
        """Forward hook: return the output under a mask."""
        if not isinstance(output, Tensor):
            raise ArgumentError(
                f"no mask can stand behind a {type(module).__name__} (for {name}): it gives a {type(output).__name__} "
                "and not one tensor"
            )
        seed = self._begin_site(name, calls.next(name)[0])
        seed_generators(reachable(dropout, None).generators, seed)
        self.drawn.add(name)
        dropped: Tensor = dropout(output)
        return dropped
