"""What can be recorded of a model: its sites, in network order."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from dropdiag.deprecation import warn_of
from dropdiag.errors import ArgumentError
from dropdiag.model.activations import MIXES, MIXING, Phi, activation_name, is_activation
from dropdiag.model.dropouts import DropoutKind, is_dropout, kind_of, layer_dropout, rate_of
from dropdiag.model.inserted import inserted_in
from dropdiag.model.made_weights import made_weight, made_weights, parametrizations_of, parts_of
from dropdiag.model.names import ROOT, named_modules, weight_layer
from dropdiag.model.rates import plain_rate
from dropdiag.model.sharded import FLAT, flat_weights

LayerPatterns: TypeAlias = str | Sequence[str] | None
"""What ``include=`` and ``exclude=`` take: a shell pattern for layer names, or several."""

WEIGHT: Final = "weight"
ACTIVATION: Final = "activation"
OUTPUT: Final = "output"
DROPOUT: Final = "dropout"

LAST, SECOND = "last", "second"
LAZY: Final = "not initialised yet (a lazy module); recorded once it is"

_PLAIN: Final = (Tensor, nn.Parameter)
FUSED: Final = (
    "a hook here would switch off the fused path of nn.TransformerEncoderLayer, as none of its sites is recorded"
)

_NODES_LAST: Final = (nn.Linear, nn.Bilinear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.RNNBase, nn.MultiheadAttention)
_NODES_SECOND: Final = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


@dataclass(frozen=True)
class Site:
    """One weight, activation, output or dropout of a model.

    Attributes
    ----------
    layer : str
        Module name; for a weight that is not called ``weight``, the parameter's full name; for a functional
        call ``LAYER:FUNCTION(SETTINGS)``, LAYER being the one whose output reached it, or else the calling module;
        ``LAYER:FUNCTION@CALLER`` where the layer calls such a function itself. What wrappers (DistributedDataParallel,
        ``torch.compile``, checkpoints) add to names is left out. The model itself is ``""`` in torch and ``"(model)"``
        here.
    kind : {"weight", "activation", "output", "dropout"}
        An output site has node values alone: a recurrent layer or attention.
    module : nn.Module
        The module that owns the parameter or calls the function, the activation, the layer.
    parameter : str
        The parameter's name in ``module`` (of a weight).
    activation : str or None
        The activation's name with its settings.
    functional : bool
        Whether it is a call of a function rather than a module.
    phi : callable or None
        Of a call of a function that is measured, the function of one tensor with the settings of the call.
    axis_rule : {"last", "second"} or None
        Which dimension counts nodes in tensors of three dimensions or more, by the layers registered before it.
    node_dims : tuple of int or None
        The dimensions that count nodes, where they are known; this decides before ``axis_rule`` does. Several of them
        count the combinations: heads and the features of each.
    after : str or None
        How they are known, in words: ``after conv1``.
    gate_dim : int or None
        For a gated unit, the dimension whose second half is the gate's net value.
    aliases : tuple of str
        Other names of the same module or parameter.
    path : str
        Name of ``module`` in the model.
    dropout : DropoutKind or None
        The kind of a dropout.
    rate : float or None
        Its rate when it was found; None where it has none, or one that is learned on an accelerator.
    applied_to, feeds : str or None
        The layer whose output a dropout is applied to, and the one that takes what comes out; None: not known.
    skipped : str or None
        Why the site is not recorded, if it is not.
    """

    layer: str
    kind: str
    module: nn.Module = field(repr=False, compare=False)
    parameter: str = ""
    activation: str | None = None
    functional: bool = False
    phi: Phi | None = field(default=None, repr=False, compare=False)
    axis_rule: str | None = None
    node_dims: tuple[int, ...] | None = None
    after: str | None = None
    gate_dim: int | None = None
    aliases: tuple[str, ...] = ()
    path: str = ""
    dropout: DropoutKind | None = field(default=None, repr=False, compare=False)
    rate: float | None = None
    applied_to: str | None = None
    feeds: str | None = None
    skipped: str | None = None

    @property
    def recordable(self) -> bool:
        """Whether it can be recorded, now or once its lazy module has values."""
        return self.skipped in (None, LAZY)

    @property
    def inserted(self) -> bool:
        """Whether it is a dropout that `dropdiag.interventions.insert` put behind a module."""
        return self.kind == DROPOUT and not self.functional and self.layer != (self.path or ROOT)

    @property
    def hint(self) -> str | None:
        """The old name of `axis_rule`."""
        warn_of("Site.hint", "Site.axis_rule")
        return self.axis_rule

    def node_axis(self, ndim: int) -> int | tuple[int, ...]:
        """Return which dimension of a node-value tensor counts nodes; all others count samples.

        Parameters
        ----------
        ndim : int
            Number of dimensions.

        Returns
        -------
        int or tuple of int
            `node_dims` where they are known. Else up to 2: the last (features). From 3: after a convolution or batch
            norm the second (channels; positions are samples), after a Linear or layer norm the last (tokens are
            samples); where the layers before do not determine it, the last for 3 and the second from 4.

        Raises
        ------
        ArgumentError
            If ``node_axis=`` names a dimension that the tensor does not have.
        """
        if self.node_dims is not None:
            if not all(-ndim <= d < ndim for d in self.node_dims):
                raise ArgumentError(f"{self.layer} has {ndim} dimensions, so none of its nodes are at {self.node_dims}")
            return self.node_dims[0] if len(self.node_dims) == 1 else self.node_dims
        if ndim <= 2 or self.axis_rule == LAST:
            return -1
        return 1 if self.axis_rule == SECOND or ndim >= 4 else -1

    def nodes(self, ndim: int) -> str:
        """Return which dimension of a tensor with so many counts nodes, and why, in words."""
        if self.node_dims is not None:
            places = sorted(d % ndim for d in self.node_dims)
            return f"dim{'s' * (len(places) > 1)} {' and '.join(map(str, places))}, {self.after}"
        if ndim == 0:
            return "a number is one node"
        word = "last" if self.node_axis(ndim) == -1 else "second"
        if ndim <= 2 or self.axis_rule is None:
            return f"{word} of {ndim}, as no layer could be followed"
        return f"{word} of {ndim}, as no layer could be followed and those registered before have it there"

    def net(self, tensor: Tensor) -> Tensor:
        """Return the part of an activation's input (or of its gradient) that is the net value."""
        # Nothing is done with a subclass, whose operations may mean anything: it is refused where it is read.
        if self.gate_dim is None or type(tensor) not in _PLAIN:
            return tensor
        return tensor.chunk(2, self.gate_dim)[1]

    def tensor(self) -> Tensor | None:
        """Return the weight as it stands now, computed without side effects; None while it has no values."""
        value = effective(self.module, self.parameter)
        if isinstance(value, UninitializedParameter) or not isinstance(value, Tensor):
            return None
        if type(value) not in _PLAIN:  # not even its attributes are asked for
            return value
        late_bias = self.skipped == LAZY and value.ndim < 2
        return None if late_bias or value.is_meta else value

    def describe(self) -> dict[str, Any]:
        """Return the site as a row of ``run.json``."""
        tensor = self.tensor() if self.kind == WEIGHT else None
        with torch._C.DisableTorchFunctionSubclass():  # of a subclass, torch's own shape
            shape = None if tensor is None else list(tensor.shape)
        return {
            "layer": self.layer,
            "call": 0,
            "kind": self.kind,
            "type": type(self.module).__name__,
            "activation": self.activation,
            "shape": shape,
            "functional": self.functional,
            "aliases": list(self.aliases),
            "skipped": self.skipped,
            **(self._describe_dropout() if self.kind == DROPOUT else {}),
        }

    def _describe_dropout(self) -> dict[str, Any]:
        grain = None if self.dropout is None else self.dropout.grain
        return {"rate": self.rate, "grain": grain, "applied_to": self.applied_to, "feeds": self.feeds}


def survey(model: nn.Module) -> list[Site]:
    """Find every weight, activation, dropout and recurrent or attention layer of a model.

    Parameters
    ----------
    model : nn.Module
        Not changed, not run: functional calls are found when it runs.

    Returns
    -------
    list of Site
        In the order in which the modules are registered. Each physical parameter and module comes once, under
        its first name, without the parts that wrappers add to it. Biases, scales, dropouts and activations inside
        another are there with ``skipped``.
    """
    sites: list[Site] = []
    inside: set[int] = set()
    axis_rule: str | None = None
    names: dict[int, dict[str, None]] = {}  # of each module, wrapped or not: runs written before have the latter
    first, raw = dict[int, tuple[str, nn.Module]](), dict[int, str]()  # of each its first name, wrapped and not
    for name, module in named_modules(model, every_name=True):
        names.setdefault(id(module), {})[name] = None
        first.setdefault(id(module), (name, module))
    for name, module in model.named_modules(remove_duplicate=False):
        names[id(module)][name] = None
        raw.setdefault(id(module), name)
    flat = defaultdict[int, list[str]](list)
    for module, parameter in flat_weights(model):
        flat[id(module)].append(parameter)
    for name, module in first.values():
        axis_rule = axis_rule_of(module) or axis_rule
        others = tuple(n for n in names[id(module)] if n != name)
        sites.extend(_flattened(name, module, flat[id(module)]))
        sites.extend(s for s in _weights(name, module, raw[id(module)]) if s.parameter not in flat[id(module)])
        if inner := layer_dropout(module):
            layer = f"{name or ROOT}:{inner.listed_as}"
            sites.append(dropout_site(layer, inner, module, rate_of(module), path=name))
        found = _module_site(name, module, axis_rule, others)
        if found is not None and id(module) in inside:
            found = replace(found, skipped="inside another activation")
        if found is not None and found.kind == ACTIVATION:
            inside.update(id(child) for child in module.modules())
        sites.extend([] if found is None else [found])
        sites.extend(_inserted_sites(name, module, axis_rule))
    return _join_tied(sites)


def axis_rule_of(module: nn.Module) -> str | None:
    """Return which dimension counts nodes in a layer's output, None where the layer does not determine it."""
    # timm's layer norms over channels are recognised by name: timm need not be installed.
    if isinstance(module, _NODES_SECOND) or type(module).__name__ in ("LayerNorm2d", "LayerNormAct2d"):
        return SECOND
    return LAST if isinstance(module, _NODES_LAST) else None


def axis_rule_inside(module: nn.Module) -> str | None:
    """Return the rule that all layers inside a module agree on, None where they do not."""
    rules = {axis_rule for child in module.modules() if (axis_rule := axis_rule_of(child)) is not None}
    return rules.pop() if len(rules) == 1 else None


def spare_fused(sites: Sequence[Site], model: nn.Module) -> list[Site]:
    """Skip dropouts where their hooks alone would switch off the fused path of torch's encoder layers."""
    hooked = {id(s.module) for s in sites if s.kind in (ACTIVATION, OUTPUT) and s.skipped is None}
    layers = [layer for layer in model.modules() if isinstance(layer, nn.TransformerEncoderLayer)]
    inside = [{id(module) for module in layer.modules()} for layer in layers]
    fused = {module for modules in inside if not modules & hooked for module in modules}
    return [replace(s, skipped=s.skipped or FUSED) if s.kind == DROPOUT and id(s.module) in fused else s for s in sites]


def _module_site(path: str, module: nn.Module, axis_rule: str | None, aliases: tuple[str, ...]) -> Site | None:
    names: dict[str, Any] = {"layer": path or ROOT, "module": module, "path": path, "aliases": aliases}
    if is_activation(module):
        gate = int(module.dim) if isinstance(module, nn.GLU) else None
        called = activation_name(module)
        return Site(kind=ACTIVATION, activation=called, axis_rule=axis_rule, gate_dim=gate, **names)
    if isinstance(module, MIXING):
        return Site(kind=ACTIVATION, activation=activation_name(module), skipped=MIXES, **names)
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return Site(kind=OUTPUT, axis_rule=LAST, node_dims=(-1,), after="its own features", **names)
    kind = kind_of(module) if is_dropout(module) else None
    if kind is None:
        return None
    found = dropout_site(path or ROOT, kind, module, rate_of(module), path=path)
    return replace(found, functional=False, axis_rule=axis_rule, aliases=aliases)


def _inserted_sites(name: str, module: nn.Module, axis_rule: str | None) -> Iterator[Site]:
    for hook in inserted_in(module):
        if (kind := kind_of(hook.dropout)) is not None:
            site = dropout_site(f"{name or ROOT}:{hook.name}", kind, hook.dropout, rate_of(hook.dropout), path=name)
            yield replace(site, functional=False, axis_rule=axis_rule)


def dropout_site(layer: str, kind: DropoutKind, module: nn.Module, rate: object, *, path: str = "") -> Site:
    """Return the site of a dropout that a module draws in its forward method."""
    known = plain_rate(rate)
    number = known if isinstance(known, float) else None
    return Site(layer, DROPOUT, module, functional=True, path=path, dropout=kind, rate=number)


def _weights(name: str, module: nn.Module, raw: str) -> Iterator[Site]:
    for site in _own_weights(name, module):
        before = weight_layer(raw, site.parameter) if site.skipped is None else site.layer
        yield replace(site, aliases=(before,)) if raw != name and before != site.layer else site


def _flattened(name: str, module: nn.Module, parameters: Sequence[str]) -> Iterator[Site]:
    for parameter in parameters:
        yield Site(weight_layer(name, parameter), WEIGHT, module, parameter, path=name, skipped=FLAT)


def _own_weights(name: str, module: nn.Module) -> Iterator[Site]:
    # The tables of a module's own are private; named_parameters() would hide a second name of one parameter.
    parametrized, made = list(parametrizations_of(module)), made_weights(module)
    for parameter in parametrized:
        yield Site(weight_layer(name, parameter), WEIGHT, module, parameter, path=name)
    for parameter in made:
        value = vars(module).get(parameter)  # as the last pass left it, where there was one
        reason = _why_no_weight(value) if isinstance(value, Tensor) else None
        yield Site(weight_layer(name, parameter), WEIGHT, module, parameter, path=name, skipped=reason)
    if callable(getattr(type(module), "weight", None)):  # of torch's quantised layers; a property may have effects
        reason = "a packed weight is not read"
        yield Site(weight_layer(name, "weight"), WEIGHT, module, "weight", path=name, skipped=reason)
    parts = parts_of(module, made)
    for parameter, value in module.named_parameters(recurse=False, remove_duplicate=False):
        if parameter in made:
            continue
        full = f"{name}.{parameter}" if name else parameter
        part = ".parametrizations." in f".{name}." or parameter in parts
        reason = "part of a parametrisation; the effective weight is recorded" if part else _why_no_weight(value)
        layer = full if part else weight_layer(name, parameter)
        yield Site(layer, WEIGHT, module, parameter, path=name, skipped=reason)


def _why_no_weight(value: Tensor) -> str | None:
    if isinstance(value, UninitializedParameter):
        return LAZY
    with torch._C.DisableTorchFunctionSubclass():  # torch's own answers: those of a subclass may mean anything
        if value.is_complex() or not value.is_floating_point():
            return f"dtype {value.dtype} has no histogram"
        return "a bias or scale, not a weight matrix" if value.ndim < 2 else None


def effective(module: nn.Module, parameter: str) -> Any:
    """Return a parameter, or the weight that a parametrisation or a hook makes, without updating any of its state."""
    parametrizations = parametrizations_of(module)
    if parameter not in parametrizations:
        own = module._parameters.get(parameter)
        return made_weight(module, parameter) if own is None else own
    # Reading has effects: in training mode spectral norm takes a step of its power iteration, others draw random
    # numbers; and inside parametrize.cached() training would get the value computed here, which has no graph. That
    # cache has no public switch.
    parts = [m for m in parametrizations[parameter].modules() if m.training]
    devices = {p.device for p in parametrizations[parameter].parameters() if p.is_cuda}
    cached, parametrize._cache_enabled = parametrize._cache_enabled, 0
    for part in parts:
        part.training = False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            return getattr(module, parameter)
    finally:
        parametrize._cache_enabled = cached
        for part in parts:
            part.training = True


def _join_tied(sites: Sequence[Site]) -> list[Site]:
    """Keep a parameter that several modules share once, the other names as aliases."""
    first: dict[tuple[str, int], int] = {}
    kept: list[Site] = []
    for site in sites:
        key = site.kind, id(site.module)
        if site.kind == WEIGHT and site.parameter in site.module._parameters:
            key = site.kind, id(site.module._parameters[site.parameter])
        elif site.kind == WEIGHT:
            key = f"{site.kind} {site.parameter}", id(site.module)
        if key in first:
            original = kept[first[key]]
            kept[first[key]] = replace(original, aliases=(*original.aliases, site.layer))
        else:
            first[key] = len(kept)
            kept.append(site)
    return kept


def select(sites: Sequence[Site], include: LayerPatterns, exclude: LayerPatterns) -> list[Site]:
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
    patterns = Patterns(include, exclude)
    patterns.check(sites)
    chosen = [_chosen(site, patterns) for site in sites]
    if not any(site.recordable for site in chosen):
        raise ArgumentError(f"nothing of this model can be recorded; {_why_nothing(chosen)}")
    return chosen


class Patterns:
    """Which layers ``include=`` and ``exclude=`` choose."""

    def __init__(self, include: LayerPatterns, exclude: LayerPatterns) -> None:
        self._include = None if include is None else _listed(include)
        self._exclude = _listed(exclude or ())

    def why_not(self, *names: str) -> str | None:
        """Return why a layer that has these names, now or in runs written before, is left out; None if it is not."""
        if self._include is not None and not any(_matches(name, self._include) for name in names):
            return "not in include"
        return "in exclude" if any(_matches(name, self._exclude) for name in names) else None

    def check(self, sites: Sequence[Site]) -> None:
        """Raise `ArgumentError` where a pattern matches no site (functional calls, ``*:*``, are found later)."""
        for argument, patterns in (("include", self._include or ()), ("exclude", self._exclude)):
            for pattern in patterns:
                if ":" not in pattern and not any(_matches(n, (pattern,)) for s in sites for n in _names(s)):
                    names = ", ".join(sorted({site.layer for site in sites})) or "none"
                    raise ArgumentError(f"{argument}={pattern!r} matches no layer; the layers are {names}")


def _chosen(site: Site, patterns: Patterns) -> Site:
    why = patterns.why_not(*_names(site)) if site.skipped is None else None
    return site if why is None else replace(site, skipped=why)


def _names(site: Site) -> tuple[str, ...]:
    return site.layer, *site.aliases


def _listed(patterns: str | Sequence[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _matches(layer: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)


def _why_nothing(sites: Sequence[Site]) -> str:
    if not sites:
        return "it has no weights and no activation modules"
    return "; ".join(f"{site.layer}: {site.skipped}" for site in sites[:10])
