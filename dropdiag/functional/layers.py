"""The layers of a model as producers of tensors: who owns which weight, and what it is called."""

from __future__ import annotations

import sys
import weakref
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType
from typing import Final

from torch import Tensor, nn

from dropdiag.model.inserted import named_inserted
from dropdiag.model.made_weights import parametrizations_of, parts_of
from dropdiag.model.names import ROOT, named_modules, weight_layer
from dropdiag.model.sites import WEIGHT, Site

_CONTAINERS: Final = (nn.ParameterList, nn.ParameterDict, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose function made a tensor; one for each of its weights.

    Attributes
    ----------
    name : str
        The module's.
    inside : str
        What a call inside the module itself is named after: the weight, as the module may have several.
    module : nn.Module
    parameter : str
        The weight's name in it.
    """

    name: str
    inside: str
    module: nn.Module = field(repr=False)
    parameter: str


class Layers:
    """The modules of a model, by identity, and the owners of its weights.

    Parameters
    ----------
    model : nn.Module
    sites : sequence of Site
        Whose weights are recorded.

    Attributes
    ----------
    names : dict
        Name by number of the module, ``"(model)"`` for the model itself; without what wrappers add.
    former : dict
        The same with what wrappers add: as version 1 named them.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self.model = model
        self._layers: dict[tuple[int, str], Layer] = {}
        self._named: dict[type[nn.Module], set[str]] = {}
        self.take(sites)

    def take(self, sites: Sequence[Site]) -> None:
        """Take these for the sites whose weights are recorded, and look at the model again."""
        self._sites = [s for s in sites if s.kind == WEIGHT and s.recordable]
        self.survey()

    def survey(self) -> None:
        """Look at the model's modules and parameters again: some may be new."""
        self._checked = self._complete = False
        self._strangers: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
        named = list(named_modules(self.model))  # looked at once: of ten thousand modules that takes a while
        self._modules = dict(named)  # of a wrapper and what is inside, the latter
        self.names = {id(module): name or ROOT for name, module in named}
        inserted = {id(dropout): name for name, _, dropout in named_inserted(self.model)}
        self.names |= inserted
        self._inserted = frozenset(inserted.values())
        self.former: dict[int, str] = {}
        self._owners: defaultdict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
        self._parametrized: dict[int, tuple[nn.Module, str]] = {}
        for path, module in self.model.named_modules():
            self.former[id(module)] = path or ROOT
            for name, parts in parametrizations_of(module).items():
                self._parametrized |= {id(part): (module, name) for part in parts.modules()}
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    self._owners[id(parameter)].append((module, name))
        self._weights: dict[tuple[int, str], str] = {}
        self._of_module: defaultdict[int, list[str]] = defaultdict(list)
        for site in self._sites:
            self._of_module[id(site.module)].append(site.layer)
            own = site.module._parameters.get(site.parameter)
            for module, name in ((site.module, site.parameter), *self._owners.get(id(own), ())):
                self._weights[id(module), name] = site.layer
            if own is None:  # a hook makes it of others
                parts = parts_of(site.module, [site.parameter])
                self._weights |= dict.fromkeys([(id(site.module), part) for part in parts], site.layer)

    def pass_begins(self) -> None:
        """Take note that a forward pass begins: modules may have come before it."""
        self._checked = False

    def complete(self) -> bool:
        """Whether the model has no module by now that was not there when it was looked at."""
        if not self._checked:
            self._checked = True
            self._complete = all(id(module) in self.former for module in self.model.modules())
        return self._complete

    def owner(self, parameter: Tensor) -> Layer | None:
        """Return the layer that a parameter belongs to; None where a tensor is no parameter of the model."""
        found = self._owner(parameter)
        return None if found is None else self._layer(*found)

    def _owner(self, parameter: Tensor) -> tuple[nn.Module, str] | None:
        found = self._holder(parameter)
        # What a parametrisation is made of belongs to the weight that it makes.
        return None if found is None else self._parametrized.get(id(found[0]), found)

    def _holder(self, parameter: Tensor) -> tuple[nn.Module, str] | None:
        # Checked by identity: a parameter may have been exchanged, and its number been given to another one.
        known = self._owners.get(id(parameter), ())
        owners = [(m, n) for m, n in known if m._parameters.get(n) is parameter]
        if len(owners) == 1:
            return owners[0]
        if not owners and not isinstance(parameter, nn.Parameter):  # nearly every tensor that is asked for
            return None
        # Shared by several modules, or put in place for this pass, as FSDP does: the module that is running has it.
        caller = self.nearest(sys._getframe(2))
        if caller is not None:
            for name, value in caller._parameters.items():
                if value is parameter:
                    return caller, name
        return owners[0] if owners else None

    def calling(self) -> Layer | None:
        """Return the layer whose method is running."""
        module = self.nearest(sys._getframe(1))
        return None if module is None else self._layer(module, "weight")

    def _layer(self, module: nn.Module, parameter: str) -> Layer:
        key = id(module), parameter
        if key not in self._layers or self._layers[key].module is not module:
            name = self.names.get(id(module), ROOT)
            inside = name
            # torch's own layers call nothing that is recorded after one of their weights only.
            if not type(module).__module__.startswith("torch.nn.") or isinstance(module, _CONTAINERS):
                inside = weight_layer("" if name == ROOT else name, parameter)
            self._layers[key] = Layer(inside if isinstance(module, _CONTAINERS) else name, inside, module, parameter)
        return self._layers[key]

    def nearest(self, frame: FrameType | None) -> nn.Module | None:
        """Return the module whose method called: the nearest frame whose first argument is a module of this model."""
        # torch keeps no record of which module is running.
        names = self.names
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                owner = frame.f_locals.get(code.co_varnames[0])
                if isinstance(owner, nn.Module):
                    if id(owner) in names:
                        return owner
                    if self._strangers.get(id(owner)) is not owner:  # built in this pass, or never to be a part
                        self._strangers[id(owner)] = owner
                        self._checked = False
            frame = frame.f_back
        return None

    def weight(self, layer: Layer) -> str | None:
        """Return what the weight of a layer is recorded as, None where it is not."""
        return self._weights.get((id(layer.module), layer.parameter))

    def weights_of(self, module: nn.Module | None) -> list[str]:
        """Return the recorded weights of a module."""
        return self._of_module.get(id(module), [])

    def site_name(self, layer: Layer | None, caller: nn.Module, function: str) -> str:
        """Return what a function is called that a module calls on the output of a layer.

        ``LAYER:FUNCTION``. Where the layer, or a module around it that the caller is not in, calls such a function
        itself, that one has this name, and the caller's is ``LAYER:FUNCTION@CALLER``. Without a layer:
        ``CALLER:FUNCTION``. The name of a dropout that was inserted stays its own.
        """
        called_by = self.names[id(caller)]
        name = self._site_name(layer, caller, function, called_by)
        return f"{name}@{called_by}" if name in self._inserted else name

    def _site_name(self, layer: Layer | None, caller: nn.Module, function: str, called_by: str) -> str:
        if layer is None:
            return f"{called_by}:{function}"
        if caller is layer.module:
            return f"{layer.inside}:{function}"
        plain = f"{layer.name}:{function}"
        bare = function.partition("(")[0]
        apart = any(self._calls(type(module), bare) for module in self._left(layer, called_by))
        return f"{plain}@{called_by}" if apart else plain

    def _calls(self, cls: type[nn.Module], function: str) -> bool:
        if cls not in self._named:
            self._named[cls] = _named_in(cls)
        return not self._named[cls].isdisjoint({function, f"{function}_"})

    def _left(self, layer: Layer, caller: str) -> list[nn.Module]:
        """Return the modules that a layer's output has left on its way to a caller."""
        around = {caller[:at] for at, letter in enumerate(caller + ".") if letter == "."}
        parts = layer.name.split(".")
        names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        return [self._modules[name] for name in names if name in self._modules and name not in around]


def _named_in(cls: type[nn.Module]) -> set[str]:
    """Return what a class of the user's names in the code of its methods."""
    own = [c for c in reversed(cls.__mro__) if issubclass(c, nn.Module) and not c.__module__.startswith("torch.nn.")]
    methods = {name: value for c in own for name, value in vars(c).items() if isinstance(value, FunctionType)}
    return set().union(*(_names(method.__code__) for method in methods.values()))


def _names(code: CodeType) -> set[str]:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*map(_names, inner))
