"""The dropouts of a built model: where each keeps its rate, and whether that can be set."""

from __future__ import annotations

import fnmatch
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np
from torch import Tensor, nn

from dropdiag.interventions import code
from dropdiag.interventions.slots import own_rate
from dropdiag.model.dropouts import kind_of, rate_of
from dropdiag.model.hook_base import eager
from dropdiag.model.inserted import named_inserted
from dropdiag.printable import printable

_WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Of `torch.compile`, FSDP and checkpointing."""


@dataclass(frozen=True)
class DropoutSite:
    """One dropout of a model.

    Attributes
    ----------
    name : str
        Of a dropout module, its name in the model. Inside a layer: ``lstm:dropout``, ``attn:attention_dropout``. Where
        a module holds the rate in an attribute, ``block.attention_dropout``; where its code does, ``block:dropout``.
        One that was inserted behind a module: ``act:dropout``.
    type : str
        The module's class.
    rate : float or None
        The rate now, None where it is not known.
    grain : str
        What a mask keeps or drops as a whole.
    why_not : str or None
        Why the rate cannot be set, if it cannot.

    Examples
    --------
    >>> site = dd.interventions.list(model)[0]
    >>> site.name, site.type, site.rate, site.grain
    ('dropout1', 'Dropout', 0.5, 'element')
    """

    name: str
    type: str
    rate: float | None
    grain: str
    why_not: str | None
    module: nn.Module = field(repr=False, compare=False)
    attribute: str = field(repr=False, default="")
    names: tuple[str, ...] = field(repr=False, default=())
    inside: bool = field(repr=False, default=False)

    @property
    def settable(self) -> bool:
        """Whether the rate can be set.

        Examples
        --------
        >>> [site.settable for site in dd.interventions.list(model)]
        [True, True]
        """
        return self.why_not is None

    @property
    def dormant(self) -> bool:
        """Whether it is a layer's own dropout that the layer was built without: its rate was 0 from the start."""
        return self.inside and own_rate(self.module, self.attribute) == 0

    def matches(self, pattern: str) -> bool:
        """Whether a shell pattern is for this site: by its name, or another one of its module."""
        return any(fnmatch.fnmatchcase(name, pattern) for name in (self.name, *self.names))


class Dropouts(Sequence[DropoutSite]):
    """The dropouts of a model, in the order of its modules; prints as a table.

    Examples
    --------
    >>> sites = dd.interventions.list(model)
    >>> len(sites), sites[0].name
    (2, 'dropout1')
    """

    def __init__(self, sites: Sequence[DropoutSite]) -> None:
        self.sites = tuple(sites)

    def __getitem__(self, index: Any) -> Any:
        """Return a site."""
        return self.sites[index]

    def __len__(self) -> int:
        return len(self.sites)

    def __str__(self) -> str:
        head = ("name", "type", "rate", "grain", "can be set")
        rows = [
            (printable(s.name), s.type, "" if s.rate is None else f"{s.rate:.4g}", s.grain, _why(s)) for s in self.sites
        ]
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    __repr__ = __str__


def _why(site: DropoutSite) -> str:
    return "yes" if site.why_not is None else f"no: {site.why_not}"


def list_dropouts(model: nn.Module) -> Dropouts:
    """List the dropouts of a model, with their rates as they are now.

    Parameters
    ----------
    model : nn.Module
        Not changed, not run.

    Returns
    -------
    Dropouts
        A sequence of `DropoutSite` that prints as a table. Each module comes once, whatever the number of its names.

    Notes
    -----
    Dropouts called as functions are found by reading the source of forward methods: ``F.dropout(x, self.p)`` is
    listed under the attribute that holds its rate, ``F.dropout(x, 0.3)`` as one that cannot be set. A call that is
    hidden in a function elsewhere, or whose source cannot be had, is not found here; a `Recorder` still lists it.

    Examples
    --------
    >>> from torch import nn
    >>> import dropdiag as dd
    >>> dd.interventions.list(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3)))
    name  type     rate  grain    can be set
    ----------------------------------------
    1     Dropout  0.3   element  yes
    """
    return Dropouts(_unique(_Finder(unwrapped(model)).sites()))


def plain_name(path: str) -> str:
    """Return a module's name without what wrappers put into it."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside `torch.compile` and data-parallel wrappers, by whose names patterns are written."""
    model = eager(model)
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        return unwrapped(model.module)
    return model


class _Finder:
    """Finds the dropouts of one model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._classes = {type(module) for module in model.modules()}
        self._called = {kind: code.called_dropouts(kind) for kind in self._classes}
        self._setters: dict[str, list[nn.Module]] = {}

    def sites(self) -> Iterator[DropoutSite]:
        """Give the sites in the order of the modules, each module once."""
        paths: dict[int, list[str]] = {}
        for path, module in self._model.named_modules(remove_duplicate=False):
            paths.setdefault(id(module), []).append(plain_name(path))
        behind: dict[int, list[DropoutSite]] = {}
        for name, module, dropout in named_inserted(self._model):
            behind.setdefault(id(module), []).extend(self._of_module(dropout, [name]))
        for module in self._model.modules():
            of_module = list(self._of_module(module, paths[id(module)]))
            yield from of_module
            if not of_module or of_module[0].inside:
                yield from self._of_calls(module, paths[id(module)], {site.attribute for site in of_module})
            yield from behind.get(id(module), ())

    def _of_module(self, module: nn.Module, paths: list[str]) -> Iterator[DropoutSite]:
        """Give the site of a module that is or has a dropout."""
        kind = kind_of(module)
        if kind is None:
            return
        attribute = next((name for name in kind.rates if hasattr(module, name)), "")
        if not attribute and self._has_dropouts_inside(module):  # class names are all that such kinds are known by
            return
        names = [path or "(model)" for path in paths]
        if kind.inside_layer:
            inner = [f"{name}:{kind.listed_as or 'dropout'}" for name in names]
            names = [*inner, *names, *(f"{path}.{attribute}".lstrip(".") for path in paths)]
        rate, what, why_not = _number(rate_of(module)), type(module).__name__, self._why_not(module, attribute)
        yield DropoutSite(
            names[0], what, rate, kind.grain, why_not, module, attribute, tuple(names), inside=kind.inside_layer
        )

    def _has_dropouts_inside(self, module: nn.Module) -> bool:
        inner = any(kind_of(part) is not None for part in module.modules() if part is not module)
        return inner or bool(self._called[type(module)])

    def _of_calls(self, module: nn.Module, paths: list[str], held: set[str]) -> Iterator[DropoutSite]:
        """Give the sites of the dropouts that a module's code calls, those that one attribute holds as one."""
        for called in self._called[type(module)]:
            *parts, attribute = called.attribute.split(".")
            owner = functools.reduce(lambda whole, part: getattr(whole, part, None), parts, cast(Any, module))
            value = getattr(owner, attribute, None) if attribute else _literal(called.written)
            of_dropout = bool(parts) and isinstance(owner, nn.Module) and kind_of(owner) is not None
            if of_dropout or (attribute and (value is None or isinstance(value, nn.Module))):
                continue  # the rate of a dropout module, which has a site of its own, or none at all
            if not attribute or parts:
                yield self._of_code(module, paths[0] or "(model)", called, _number(value))
            elif attribute not in held:
                held.add(attribute)
                names = tuple(f"{path}.{attribute}".lstrip(".") for path in paths)
                what, why_not = type(module).__name__, self._why_not(module, attribute)
                yield DropoutSite(
                    names[0], what, _number(value), called.grain, why_not, module, attribute, names, inside=True
                )

    @staticmethod
    def _of_code(module: nn.Module, name: str, called: code.CalledDropout, rate: float | None) -> DropoutSite:
        """Return the site of a dropout whose rate stands in the code."""
        kind = type(module).__name__
        why_not = f"its rate is {called.written} in the code of {kind}; as an attribute of {kind} it could be set"
        return DropoutSite(f"{name}:{called.function}", kind, rate, called.grain, why_not, module)

    def _why_not(self, module: nn.Module, attribute: str) -> str | None:
        """Return why setting an attribute would not set the rate of the next pass, None if it would."""
        kind = type(module)
        if not attribute:
            return "no attribute of it is known to hold the rate as a number"
        if isinstance(module, nn.RNNBase) and module.num_layers == 1:
            return "it drops between its layers, and has one"
        if isinstance(getattr(module, attribute), Tensor):
            return f"its rate {attribute} is a tensor, which the model computes or learns"
        rate = _number(vars(module).get(attribute))
        if rate is None or not 0 <= rate <= 1:
            return f"its {attribute} is no rate that can be set: {getattr(module, attribute)!r}"
        if not code.reads(kind, attribute):
            return f"{kind.__name__}.forward does not look {attribute} up"
        setter = kind if code.assigns(kind, attribute, own=True) else self._setter(module, attribute)
        return None if setter is None else f"{setter.__name__} sets {attribute} itself as training goes on"

    def _setter(self, module: nn.Module, attribute: str) -> type[nn.Module] | None:
        """Return the class of a module whose code changes such an attribute of modules inside, as this one."""
        if attribute not in self._setters:
            kinds = {kind for kind in self._classes if code.assigns(kind, attribute, own=False)}
            self._setters[attribute] = [m for m in self._model.modules() if type(m) in kinds] if kinds else []
        return next((type(m) for m in self._setters[attribute] if _is_inside(module, m)), None)


def _is_inside(module: nn.Module, whole: nn.Module) -> bool:
    return any(part is module for part in whole.modules())


def _number(value: object) -> float | None:
    """Return a number as a float; of float32, as it is written: .3, not .30000001192092896."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().cpu().numpy().reshape(())[()]
    if isinstance(value, np.floating):
        return float(str(value))
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _literal(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None


def _unique(sites: Iterable[DropoutSite]) -> list[DropoutSite]:
    """Tell sites of one name apart: ``block:dropout``, ``block:dropout#2``."""
    count: Counter[str] = Counter()
    unique = []
    for site in sites:
        count[site.name] += 1
        unique.append(site if count[site.name] == 1 else replace(site, name=f"{site.name}#{count[site.name]}"))
    return unique
