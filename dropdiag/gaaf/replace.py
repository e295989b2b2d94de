"""Replace the activations of a built model by GAAF, modules and functions, and put them back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

from torch import nn

from dropdiag.deprecation import warn_of
from dropdiag.errors import ArgumentError
from dropdiag.functional.written import seems_to_call
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.calls import FunctionCalls, calls_of
from dropdiag.gaaf.functions import FunctionGAAFs, FunctionSubstitute, check_wanted
from dropdiag.gaaf.same import is_over
from dropdiag.gaaf.shapes import BASES, MODULES
from dropdiag.model.activations import is_activation
from dropdiag.model.hook_base import eager, why_unhookable

Substitute: TypeAlias = GAAF | Callable[[nn.Module], GAAF]
Mapped: TypeAlias = Mapping[type[nn.Module] | str, Any]


@dataclass(frozen=True)
class Swap:
    """One module that was exchanged for a GAAF: an attribute of its parent."""

    name: str
    parent: nn.Module
    attribute: str
    before: nn.Module
    after: GAAF


@dataclass(frozen=True, repr=False)
class Replacement:
    """What `replace` did; `restore` undoes it. Also a context manager that restores at its end.

    Attributes
    ----------
    swaps : tuple of Swap
        The modules, in the model's order.
    calls : FunctionCalls or None
        What puts GAAF in the place of functions; None where modules alone were replaced.

    Examples
    --------
    >>> with dd.gaaf.replace(model) as done:
    ...     inside = type(model.act1).__name__
    >>> inside, type(model.act1).__name__
    ('GAAF', 'Tanh')
    """

    swaps: tuple[Swap, ...]
    calls: FunctionCalls | None = None

    @property
    def modules(self) -> dict[str, GAAF]:
        """The GAAF modules by their name in the model.

        Examples
        --------
        >>> sorted(dd.gaaf.replace(model).modules)
        ['act1', 'act2']
        """
        return {swap.name: swap.after for swap in self.swaps}

    @property
    def functions(self) -> dict[str, GAAF]:
        """The GAAFs in the place of functions, by the site that a Recorder shows: ``conv1:relu``.

        Which calls there are is known only as they are made: it is empty before the model's first forward pass, and is
        filled as calls are seen.

        Examples
        --------
        >>> dd.gaaf.replace(model).functions
        {}
        """
        return {} if self.calls is None else dict(self.calls.gaafs.at)

    @property
    def places(self) -> tuple[Swap, ...]:
        """The swaps, under the name that they had before."""
        warn_of("Replacement.places", "Replacement.swaps")
        return self.swaps

    def restore(self) -> None:
        """Put the very modules back that were there before, and let functions be themselves. May be called again.

        Raises
        ------
        ArgumentError
            If another module stands by now where a GAAF was put; nothing is changed then.

        Examples
        --------
        >>> done = dd.gaaf.replace(model)
        >>> done.restore()
        >>> type(model.act1).__name__
        'Tanh'
        """
        for swap in self.swaps:
            now = getattr(swap.parent, swap.attribute, None)
            if now is not swap.after and now is not swap.before:
                raise ArgumentError(f"{swap.name} is no longer the GAAF that was put there, but {type(now).__name__}")
        for swap in self.swaps:
            setattr(swap.parent, swap.attribute, swap.before)
        if self.calls is not None:
            self.calls.release()

    def __repr__(self) -> str:
        parts = [", ".join(dict.fromkeys(swap.name for swap in self.swaps)) or "no module"]
        if self.calls is not None:
            none_yet = "functions as they are called, none of which was seen so far: run the model once"
            parts.append(", ".join(self.functions) or none_yet)
        return f"GAAF in the place of {'; '.join(parts)}"

    def __enter__(self) -> Replacement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def replace(model: nn.Module, mapping: Mapped | None = None) -> Replacement:
    """Replace a model's activations by GAAF: modules, and functions that forward methods call.

    Parameters
    ----------
    model : nn.Module
        Changed in place. Its parameters stay the same objects, so optimisers can be kept.
    mapping : mapping, optional
        What is replaced -> the GAAF to put there, or a function of what was there that makes it. A module by its class
        (no subclasses): ``{nn.LeakyReLU: lambda old: GAAF(old)}``. Each module gets a copy of its own; one that the
        model holds under several names is replaced by one GAAF. A function by its name, however it is spelt:
        ``{"relu": GAAF("relu")}``, or of phi, the function with the settings of the call: ``{"leaky_relu": lambda phi:
        GAAF(phi, shape="shifted_sigmoid")}``. Each site gets a GAAF of its own. By default every tanh, sigmoid, ReLU,
        leaky ReLU, GELU, SiLU and hardtanh of torch's, module or function, with its own settings and its default shape;
        others (classes of transformers, say) have to be named, with a shape: ``{NewGELUActivation: lambda old:
        GAAF(old, shape="shifted_sigmoid")}``.

    Returns
    -------
    Replacement
        ``.restore()`` puts the old modules back. ``.modules`` are known at once, ``.functions`` as they are called.

    Raises
    ------
    ArgumentError
        If nothing matches; if the GAAF's phi is another function than the module's; if a module has hooks, which would
        be lost (a Recorder's, say: close it first); if it is the model itself; if functions of the model are replaced
        already, or cannot be (nn.DataParallel, scripted parts, a name that is not known). Nothing is changed then.
        A GAAF over another function than the one that is called is told in the forward pass that calls it.

    Notes
    -----
    ``state_dict`` stays the same as long as the activations have no parameters; GAAFs of functions are no modules of
    the model.

    Functions are replaced while the model, or a part of it that calls them, is being called, in its thread and nowhere
    else; a method that is called past that (``model.encode(x)``) is not seen. Their sites are those of a Recorder,
    which may be attached before or after: it sees the same sites, judged by phi. An operation in place stays one.
    Copies and pickles of the model keep their GAAFs. Parts that `torch.utils.checkpoint` runs again have to be
    modules. `torch.compile` refuses such a model, and parts of it that call functions of these names, with an error
    that says so: use modules there.

    Examples
    --------
    >>> done = dd.gaaf.replace(model, {nn.Tanh: dd.GAAF("tanh")})
    >>> type(model.act1).__name__
    'GAAF'
    >>> done.restore()
    """
    wanted: dict[Any, Any] = dict.fromkeys(MODULES, gaaf_of) if mapping is None else dict(mapping)
    named = {name: given for name, given in wanted.items() if isinstance(name, str)}
    classes = {kind: given for kind, given in wanted.items() if not isinstance(kind, str)}
    calls = _calls(model, named or None if mapping is not None else dict.fromkeys(BASES))
    swaps = _swaps(model, classes)
    if not swaps and calls is None:
        raise ArgumentError(_why_nothing(model, classes))
    # Only now that nothing can be refused any more is the model changed.
    for swap in swaps:
        setattr(swap.parent, swap.attribute, swap.after)
    return Replacement(tuple(swaps), None if calls is None else calls())


def _swaps(model: nn.Module, wanted: Mapping[type[nn.Module], Substitute]) -> list[Swap]:
    """Return the exchanges of modules that are wanted."""
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
    return swaps


def _calls(
    model: nn.Module, wanted: Mapping[str, FunctionSubstitute | None] | None
) -> Callable[[], FunctionCalls] | None:
    """Return what replaces functions, once it may; None where there are none to replace."""
    if wanted is None:
        return None
    check_wanted(wanted)
    gaafs, model = FunctionGAAFs(wanted), eager(model)
    parts = [module for module in model.modules() if seems_to_call(module, wanted)]
    if not (parts or gaafs.named):
        return None
    if calls_of(model) is not None:
        if not gaafs.named:
            return None
        raise ArgumentError("functions of this model are replaced already: restore() that first, and name all of them")
    for name, module in model.named_modules():
        if reason := why_unhookable(module):
            raise ArgumentError(f"functions cannot be replaced: {name or 'the model'} {reason}")
    return lambda: FunctionCalls(model, gaafs, parts)


def _why_nothing(model: nn.Module, wanted: Mapping[type[nn.Module], Substitute]) -> str:
    kinds = ", ".join(kind.__name__ for kind in wanted)
    others = sorted({type(m).__name__ for m in model.modules() if is_activation(m)} - {k.__name__ for k in wanted})
    found = f"; it has {', '.join(others)}: name their classes in mapping=" if others else ""
    itself = " (the model itself is one, and has no place in a parent)" if type(model) in wanted else ""
    if calls_of(eager(model)) is not None:
        return "the activation functions of this model are replaced already, and it has no modules to replace"
    return (
        f"the model has no module of {kinds}{itself}{found}; and the code of its forward methods calls none of "
        f"{', '.join(BASES)}: what is called elsewhere has to be named, as in {{'relu': GAAF('relu')}}"
    )


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
    if not is_over(new, old):
        raise ArgumentError(
            f"{name} is {old}, but the GAAF for it is over another function, {new}; "
            f"{{nn.{type(old).__name__}: lambda old: GAAF(old)}} takes the module's own settings"
        )
    return new.train(old.training)
