"""Whether a model without its dropouts is a function: the same input gives the same output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.state.random_states import same_states
from dropdiag.measure.passes.tensors import close, tensors_in

_PASSES: Final = 8
"""So many are compared, where random numbers are drawn without dropouts: they may have no effect, or a rare one."""


@dataclass
class Outputs:
    """Sums over what each module takes and gives, in the order in which they end: enough to tell two passes apart."""

    calls: list[tuple[str, list[float], list[float]]] = field(default_factory=list)

    def watch(self, modules: Mapping[str, nn.Module], hooks: ExitStack) -> None:
        """Put hooks on all modules for one pass."""
        for name, module in modules.items():
            taken: list[list[float]] = []
            hooks.enter_context(module.register_forward_pre_hook(partial(self._before, taken), with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(partial(self._after, name, taken)))

    def source(self, other: Outputs) -> str | None:
        """Return the first module to end that took the same in another pass and gave something else."""
        for (name, x, y), (their, also_x, also_y) in zip(self.calls, other.calls, strict=False):
            if name == their and x == also_x and y != also_y:
                return name
        return None

    def _before(self, taken: list[list[float]], _m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken.append(_sums((*args, *kwargs.values())))

    def _after(self, name: str, taken: list[list[float]], _module: nn.Module, _args: object, output: Any) -> None:
        self.calls.append((name, taken.pop(), _sums(output)))


def steady_output(passes: Passes) -> Any:
    """Return what a model gives with all of its dropouts off; its loss may be asked for next.

    Raises
    ------
    ArgumentError
        Where that changes with the random numbers: some masks, or other noise, could not be switched off.
    """
    with passes.switched(False):
        passes.seed(0)
        before = passes.random.now()
        output = passes.forward()
        if same_states(before, passes.random.now()):
            return output
        first = Outputs()
        _once(passes, first, 0)
        for k in range(1, _PASSES):
            seen = Outputs()
            other = _once(passes, seen, k)
            both = zip(tensors_in(output), tensors_in(other), strict=False)
            if not all(close(one.detach(), another.detach()) for one, another in both):
                _refuse(passes, first.source(seen))
    return output


def _once(passes: Passes, outputs: Outputs, k: int) -> Any:
    passes.seed(k)
    with passes.watched(partial(outputs.watch, passes.copy.found.modules)):
        return passes.forward()


def _refuse(passes: Passes, name: str | None) -> None:
    who = "the model" if name is None else f"{name} (a {type(passes.copy.found.modules[name]).__name__})"
    raise ArgumentError(
        f"with all of its dropouts off the model's output changes from pass to pass, as {who} draws random numbers "
        "that are no dropout which is known: dropdiag.interventions.list(model) shows those that are"
    )


def _sums(nested: Any) -> list[float]:
    tensors = [t.detach().to(torch.float64) for t in tensors_in(nested) if t.is_floating_point()]
    return [float(sums) for t in tensors for sums in (t.sum(), t.abs().sum())]
