"""Replace the activations of a built model by GAAF, and put them back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn

from dropdiag.deprecation import warn_of
from dropdiag.errors import ArgumentError
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.shapes import MODULES
from dropdiag.model.activations import is_activation

Substitute: TypeAlias = GAAF | Callable[[nn.Module], GAAF]

_PROBES: Final = (-20.0, -6.0, -3.0, -1.5, -1.0, -0.6, -0.2, 0.0, 0.2, 0.6, 1.0, 1.5, 3.0, 6.0, 20.0)


@dataclass(frozen=True)
class Swap:
    """One module that was exchanged for a GAAF: an attribute of its parent."""

    name: str
    parent: nn.Module
    attribute: str
    before: nn.Module
    after: GAAF


@dataclass(frozen=True)
class Replacement:
    """What `replace` did; `restore` undoes it. Also a context manager that restores at its end.

    Attributes
    ----------
    swaps : tuple of Swap
        In the model's order.
    """

    swaps: tuple[Swap, ...]

    @property
    def modules(self) -> dict[str, GAAF]:
        """The GAAF modules by their name in the model."""
        return {swap.name: swap.after for swap in self.swaps}

    @property
    def places(self) -> tuple[Swap, ...]:
        """The swaps, under the name that they had before."""
        warn_of("Replacement.places", "Replacement.swaps")
        return self.swaps

    def restore(self) -> None:
        """Put the very modules back that were there before. May be called again.

        Raises
        ------
        ArgumentError
            If another module stands by now where a GAAF was put; nothing is changed then.
        """
        for swap in self.swaps:
            now = getattr(swap.parent, swap.attribute, None)
            if now is not swap.after and now is not swap.before:
                raise ArgumentError(f"{swap.name} is no longer the GAAF that was put there, but {type(now).__name__}")
        for swap in self.swaps:
            setattr(swap.parent, swap.attribute, swap.before)

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def replace(model: nn.Module, mapping: Mapping[type[nn.Module], Substitute] | None = None) -> Replacement:
    """Replace a model's activation modules by GAAF.

    Parameters
    ----------
    model : nn.Module
        Changed in place. Its parameters stay the same objects, so optimisers can be kept.
    mapping : mapping, optional
        Class of the modules to replace (no subclasses) -> the GAAF to put there, or a function of the old module that
        makes it, e.g. ``{nn.LeakyReLU: lambda old: GAAF(old)}``. Each module gets a copy of its own; one that the
        model holds under several names is replaced by one GAAF. By default every tanh, sigmoid, ReLU, leaky ReLU, GELU,
        SiLU and hardtanh of torch's, with its own settings and its default shape; other classes (those of transformers,
        say) have to be named, with a shape: ``{NewGELUActivation: lambda old: GAAF(old, shape="shifted_sigmoid")}``.

    Returns
    -------
    Replacement
        ``.restore()`` puts the old modules back.

    Raises
    ------
    ArgumentError
        If nothing matches; if the GAAF's phi is another function than the module's; if the module has hooks, which
        would be lost (a Recorder's, say: close it first); if it is the model itself. Nothing is changed then.

    Notes
    -----
    Functions such as ``F.relu`` in a forward method are not seen. ``state_dict`` stays the same as long as the
    activations have no parameters.
    """
    wanted = dict.fromkeys(MODULES, gaaf_of) if mapping is None else dict(mapping)
    made: dict[int, GAAF] = {}
    swaps: list[Swap] = []
    # A GAAF's own base is an activation too, and stays.
    inside = {id(part) for module in model.modules() if isinstance(module, GAAF) for part in module.modules()}
    for parent_name, parent in model.named_modules():
        if id(parent) in inside:
            continue
        # Private, but named_children() leaves out the second name of one module, which has to be exchanged as well.
        for attribute, old in parent._modules.items():
            if old is not None and type(old) in wanted:
                name = f"{parent_name}.{attribute}" if parent_name else attribute
                if id(old) not in made:
                    made[id(old)] = _substitute(name, old, wanted[type(old)])
                swaps.append(Swap(name, parent, attribute, old, made[id(old)]))
    if not swaps:
        kinds = ", ".join(kind.__name__ for kind in wanted)
        others = sorted({type(m).__name__ for m in model.modules() if is_activation(m)} - {k.__name__ for k in wanted})
        found = f"; it has {', '.join(others)}: name their classes in mapping=" if others else ""
        itself = " (the model itself is one, and has no place in a parent)" if type(model) in wanted else ""
        raise ArgumentError(f"the model has no module of {kinds}{itself}{found}; functions such as F.relu are not seen")
    # Only now that nothing can be refused any more is the model changed.
    for swap in swaps:
        setattr(swap.parent, swap.attribute, swap.after)
    return Replacement(tuple(swaps))


def gaaf_of(old: nn.Module) -> GAAF:
    """Return GAAF over a copy of a module, which may not work in place."""
    base = copy.deepcopy(old)
    if getattr(base, "inplace", False):
        base.inplace = False  # type: ignore[assignment]
    return GAAF(base)


def _substitute(name: str, old: nn.Module, given: Substitute) -> GAAF:
    # Private tables, as torch cannot be asked whether a module has hooks; they would stay on the module taken out.
    if old._forward_hooks or old._forward_pre_hooks or old._backward_hooks or old._backward_pre_hooks:
        raise ArgumentError(f"{name} has hooks, which would be lost: take them off first (a Recorder: close() it)")
    new = copy.deepcopy(given) if isinstance(given, GAAF) else given(old)
    if not isinstance(new, GAAF):
        raise ArgumentError(f"{name} must be replaced by a GAAF, got {type(new).__name__}")
    if not _same(old, new):
        raise ArgumentError(
            f"{name} is {old}, but the GAAF for it is over another function, {new}; "
            f"{{nn.{type(old).__name__}: lambda old: GAAF(old)}} takes the module's own settings"
        )
    return new.train(old.training)


def _same(old: nn.Module, new: GAAF) -> bool:
    """Whether phi of the GAAF gives what the module gives (in evaluation mode, at a few points)."""
    x = torch.tensor(_PROBES, device="cpu")

    def values(function: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            return function(x.clone()).detach().float()

    module = copy.deepcopy(old).eval().to("cpu", torch.float32)
    base = copy.deepcopy(new.base).eval().to("cpu", torch.float32) if isinstance(new.base, nn.Module) else new.base
    return torch.allclose(values(module), values(base), rtol=1e-4, atol=1e-5)
