"""What is in a model: the sites that can be recorded, in network order."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from dropdiag.activations import activation_name, is_activation
from dropdiag.errors import ArgumentError

WEIGHT = "weight"
ACTIVATION = "activation"


@dataclass(frozen=True)
class Site:
    """One place that can be recorded.

    Attributes
    ----------
    layer : str
        Module name; for a weight that is not called ``weight``, the parameter's full name. The model itself is
        ``""`` in torch and ``"(model)"`` here.
    kind : {"weight", "activation"}
    module : nn.Module
        The module that owns the parameter, or the activation.
    parameter : str
        The parameter's name in ``module`` (of a weight).
    activation : str or None
        The activation's name with its settings.
    channels_first : bool
        Whether three-dimensional node values are (batch, node, position), as after a 1-d convolution, rather
        than (batch, position, node), as in a transformer.
    aliases : tuple of str
        Other names of the same module or parameter.
    skipped : str or None
        Why the site is not recorded, if it is not.
    """

    layer: str
    kind: str
    module: nn.Module = field(repr=False, compare=False)
    parameter: str = ""
    activation: str | None = None
    channels_first: bool = False
    aliases: tuple[str, ...] = ()
    skipped: str | None = None

    def node_axis(self, ndim: int) -> int:
        """Return which dimension of a node-value tensor counts nodes; all others count samples.

        Parameters
        ----------
        ndim : int
            Number of dimensions: up to 2 the last (features), 3 the last (tokens are samples) unless
            ``channels_first``, from 4 the second (channels; positions are samples).
        """
        if ndim >= 4 or (ndim == 3 and self.channels_first):
            return 1
        return -1

    def tensor(self) -> Tensor:
        """Return the weight's tensor as it stands now."""
        value: Tensor = getattr(self.module, self.parameter)
        return value

    def describe(self) -> dict[str, Any]:
        """Return the site as a row of ``run.json``."""
        weight = self.kind == WEIGHT
        return {
            "layer": self.layer,
            "call": 0,
            "kind": self.kind,
            "type": type(self.module).__name__,
            "activation": self.activation,
            "shape": list(self.tensor().shape) if weight and not self.skipped else None,
            "aliases": list(self.aliases),
            "skipped": self.skipped,
        }


def survey(model: nn.Module) -> list[Site]:
    """Find every weight and every activation module of a model.

    Parameters
    ----------
    model : nn.Module
        Not changed, not run.

    Returns
    -------
    list of Site
        In the order in which the modules are registered. Each physical parameter and module comes once, under
        its first name. Biases, scales and activations inside another activation are there with ``skipped``.
    """
    sites: list[Site] = []
    inside: set[int] = set()
    last_convolution = ""
    names = _all_names(model.named_modules(remove_duplicate=False))
    for name, module in model.named_modules():
        sites.extend(_weights(name, module))
        if isinstance(module, (nn.Linear, nn.LSTM, nn.GRU, nn.RNN, nn.modules.conv._ConvNd)):
            last_convolution = type(module).__name__
        if is_activation(module):
            reason = "inside another activation" if id(module) in inside else None
            inside.update(id(child) for child in module.modules())
            aliases = tuple(n for n in names[id(module)] if n != name)
            sites.append(
                Site(
                    layer=name or "(model)",
                    kind=ACTIVATION,
                    module=module,
                    activation=activation_name(module),
                    channels_first=last_convolution in ("Conv1d", "ConvTranspose1d"),
                    aliases=aliases,
                    skipped=reason,
                )
            )
    return _join_tied(sites)


def _all_names(named: Iterable[tuple[str, nn.Module]]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, module in named:
        names.setdefault(id(module), []).append(name)
    return names


def _weights(name: str, module: nn.Module) -> Iterator[Site]:
    for parameter, value in module.named_parameters(recurse=False, remove_duplicate=False):
        full = f"{name}.{parameter}" if name else parameter
        layer = (name or "(model)") if parameter == "weight" else full
        yield Site(layer, WEIGHT, module, parameter, skipped=_why_no_weight(value))


def _why_no_weight(value: Tensor) -> str | None:
    if isinstance(value, UninitializedParameter):
        return "not initialised yet (a lazy module): run one batch before attaching"
    if value.ndim < 2:
        return "a bias or scale, not a weight matrix"
    if value.is_complex() or not value.is_floating_point():
        return f"dtype {value.dtype} has no histogram"
    return None


def _join_tied(sites: Sequence[Site]) -> list[Site]:
    """Keep a parameter that several modules share once, the other names as aliases."""
    first: dict[int, int] = {}
    kept: list[Site] = []
    for site in sites:
        key = id(getattr(site.module, site.parameter)) if site.kind == WEIGHT else id(site.module)
        if key in first:
            original = kept[first[key]]
            kept[first[key]] = replace(original, aliases=(*original.aliases, site.layer))
        else:
            first[key] = len(kept)
            kept.append(site)
    return kept


def select(
    sites: Sequence[Site], include: str | Sequence[str] | None, exclude: str | Sequence[str] | None
) -> list[Site]:
    """Mark the sites that name patterns leave out as skipped.

    Parameters
    ----------
    sites : sequence of Site
    include, exclude : pattern or patterns, optional
        Shell patterns (``*``, ``?``, ``[...]``) for layer names; ``exclude`` wins.

    Returns
    -------
    list of Site
        As many as before.

    Raises
    ------
    ArgumentError
        If a pattern matches no site, or no site remains.
    """
    included, excluded = _patterns("include", include, sites), _patterns("exclude", exclude, sites)
    chosen = []
    for site in sites:
        reason = site.skipped
        if reason is None and include is not None and not _matches(site, included):
            reason = "not in include"
        if reason is None and _matches(site, excluded):
            reason = "in exclude"
        chosen.append(replace(site, skipped=reason))
    if all(site.skipped for site in chosen):
        raise ArgumentError(f"nothing of this model can be recorded; {_why_nothing(chosen)}")
    return chosen


def _patterns(argument: str, patterns: str | Sequence[str] | None, sites: Sequence[Site]) -> tuple[str, ...]:
    listed = () if patterns is None else (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in listed:
        if not any(_matches(site, (pattern,)) for site in sites):
            names = sorted({site.layer for site in sites})
            raise ArgumentError(f"{argument}={pattern!r} matches no layer; the layers are {', '.join(names) or 'none'}")
    return listed


def _matches(site: Site, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(site.layer, pattern) for pattern in patterns)


def _why_nothing(sites: Sequence[Site]) -> str:
    if not sites:
        return "it has no weights and no activation modules"
    return "; ".join(f"{site.layer}: {site.skipped}" for site in sites[:10])
