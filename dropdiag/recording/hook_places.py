"""Which hook of a module runs last before its function, and which first after it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

from torch import nn

from dropdiag.model.hook_base import DropdiagHook


class _Place(NamedTuple):
    """A module's table of hooks, which torch runs in its order, and where one of ours belongs in it."""

    hooks: OrderedDict[int, Any]
    number: int
    last: bool

    def restore(self) -> None:
        """Move the hook there again, if others were registered."""
        hooks, number, last = self
        if len(hooks) > 1 and number in hooks and number != next(reversed(hooks) if last else iter(hooks)):
            hooks.move_to_end(number, last=last)


class HookPlaces:
    """Keeps hooks where they see what enters a function, and what leaves it.

    A pre-hook that comes after ours may give the function another input than ours has seen (pytorch#22285), and what
    another forward hook makes of the output is not what left the function.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._places: list[_Place] = []
        self._hooks: list[OrderedDict[int, Any]] = []
        self._of: defaultdict[int, list[_Place]] = defaultdict(list)

    def keep(
        self, module: nn.Module, *, last_before: DropdiagHook | None = None, first_after: DropdiagHook | None = None
    ) -> None:
        """Keep a pre-hook of a module the last, and a forward hook the first."""
        # Private, as torch has no public order of hooks. Moving the model's own pre-hooks is of no use: places are
        # restored by one of them, when the order is settled already.
        if last_before is not None and module is not self._model:
            self._add(module, _Place(module._forward_pre_hooks, last_before.number, last=True))  # type: ignore[arg-type]
        if first_after is not None:
            self._add(module, _Place(module._forward_hooks, first_after.number, last=False))  # type: ignore[arg-type]

    def _add(self, module: nn.Module, place: _Place) -> None:
        place.restore()
        self._places.append(place)
        self._hooks.append(place.hooks)
        self._of[id(module)].append(place)

    def forget(self, module: nn.Module) -> None:
        """Keep nothing of a module any more."""
        for place in self._of.pop(id(module), ()):
            at = next(i for i, known in enumerate(self._places) if known is place)
            del self._places[at], self._hooks[at]

    def restore(self, *, of: nn.Module | None = None) -> None:
        """Move hooks to their places again: those of a module, or all."""
        if of is None and max(map(len, self._hooks), default=0) <= 1:  # in nearly all models, and quickly known
            return
        for place in self._places if of is None else self._of[id(of)]:
            place.restore()


def is_last(module: nn.Module, hook: DropdiagHook) -> bool:
    """Whether no other pre-hook of a module comes after one."""
    hooks = module._forward_pre_hooks
    return len(hooks) == 1 or list(hooks)[-1:] == [hook.number] or hook.number not in hooks
