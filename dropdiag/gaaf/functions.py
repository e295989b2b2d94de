"""Which GAAF stands at which call of a function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from dropdiag.errors import ArgumentError
from dropdiag.functional.calls import NamedCall
from dropdiag.functional.functions import FUNCTIONS, MIXING_FUNCTIONS
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.same import is_over
from dropdiag.gaaf.shapes import BASES, NAMED, Function

FunctionSubstitute: TypeAlias = GAAF | Callable[[Function], GAAF]

_NOT_ONE: Final = {
    **dict.fromkeys(MIXING_FUNCTIONS, "mixes net values"),
    "glu": "is a product of two net values",
    "prelu": "has slopes that are learned, which a GAAF outside of the model could not train: use nn.PReLU",
    "rrelu": "draws its slopes",
}
"""Functions that no GAAF can stand in for, and why."""


def check_wanted(wanted: Mapping[str, FunctionSubstitute | None]) -> None:
    """Refuse names that no GAAF can stand in for, and what cannot stand in for any function."""
    for name, given in wanted.items():
        if not (callable(given) or (given is None and name in NAMED)):
            raise ArgumentError(f"{name!r} must be given a GAAF, or a function of phi that makes one; got {given!r}")
        if name in _NOT_ONE:
            raise ArgumentError(f"GAAF cannot take the place of {name}, which {_NOT_ONE[name]}")
        seen = {function.name for function in FUNCTIONS.values() if not function.of_masks}
        if name not in seen:
            known = ", ".join(sorted(seen - {*_NOT_ONE}))
            raise ArgumentError(
                f"{name!r} is no activation function that is known; those are {known}, and functions of your own under "
                "@dropdiag.register_activation"
            )


class FunctionGAAFs:
    """The GAAFs at the calls of functions, made as calls are seen.

    Parameters
    ----------
    wanted : mapping
        Name of a function -> a GAAF, each site getting a copy of its own, or a function that makes one of phi, which is
        the function with the settings of the call; None for GAAF with the default shape of that name.

    Attributes
    ----------
    named : bool
        Whether the functions were asked for by name.
    at : dict of str to GAAF
        By site.
    called : set of str
        The names that were called.
    """

    def __init__(self, wanted: Mapping[str, FunctionSubstitute | None]) -> None:
        self.wanted = dict(wanted)
        self.named = any(given is not None for given in wanted.values())
        self.at: dict[str, GAAF] = {}
        self.called: set[str] = set()

    @property
    def spelt(self) -> set[str]:
        """The names in code of the functions that are replaced: ``relu`` and ``relu_``."""
        known = ((getattr(called, "__name__", ""), function.name) for called, function in FUNCTIONS.items())
        return {name for name, function in known if function in self.wanted and name}

    def get(self, layer: str, call: NamedCall) -> GAAF | None:
        """Return the GAAF of a site; None where the function is to stay as it is."""
        name = call.function.name
        if name not in self.wanted or call.phi is None:
            return None
        self.called.add(name)
        return self.made(layer, call.activation, name, call.phi)

    def made(self, layer: str, activation: str, name: str, phi: Function) -> GAAF:
        """Return the GAAF of a site, which is made where it is asked for first."""
        if layer not in self.at:
            self.at[layer] = _substitute(layer, activation, phi, self.wanted[name], name)
        return self.at[layer]


def _substitute(layer: str, activation: str, phi: Function, given: FunctionSubstitute | None, name: str) -> GAAF:
    if given is None:
        plain = activation == name  # without settings
        return GAAF(BASES[name] if plain else phi, shape=NAMED[name][2])
    new: Any = copy.deepcopy(given) if isinstance(given, GAAF) else given(phi)
    if not isinstance(new, GAAF):
        raise ArgumentError(f"{layer} must be replaced by a GAAF, got {type(new).__name__}")
    if [*new.parameters()]:
        raise ArgumentError(f"the GAAF for {layer} has parameters, which no optimiser of the model would train")
    if not is_over(new, phi):
        raise ArgumentError(
            f"{layer} is a call of {activation}, but the GAAF for it is over another function, {new}; "
            f"{{{name!r}: lambda phi: GAAF(phi, shape=...)}} takes the settings of the call"
        )
    return new


def alike(gaafs: list[GAAF]) -> bool:
    """Whether GAAFs are the same function, as far as their settings tell."""
    first = _settings(gaafs[0])
    return all(_settings(gaaf) == first for gaaf in gaafs)


def _settings(gaaf: GAAF) -> tuple[object, ...]:
    return (repr(gaaf.base), repr(gaaf.shape), gaaf.surrogate, gaaf.k, gaaf.height, gaaf.width, gaaf.exact_forward)
