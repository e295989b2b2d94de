"""What kind of thing a dropout of a model is: a module, a part of a layer, a call of a function."""

from __future__ import annotations

from torch import nn

from dropdiag.interventions.sites import DropoutSite
from dropdiag.model.dropouts import kind_of


def may_mask(site: DropoutSite) -> bool:
    """Whether a dropout draws masks when it is switched on: its rate is not 0."""
    recurrent = isinstance(site.module, nn.RNNBase) and site.module.num_layers == 1
    return site.rate != 0 and not recurrent


def is_module(site: DropoutSite) -> bool:
    """Whether a dropout is a module that does nothing else."""
    kind = kind_of(site.module)
    return kind is not None and not kind.inside_layer


def is_called(site: DropoutSite) -> bool:
    """Whether a dropout is drawn by a function that a module's forward method calls."""
    return not is_module(site) and not is_of_layer(site)


def is_of_layer(site: DropoutSite) -> bool:
    """Whether a dropout is the one inside a layer of torch's, or the leaving out of layers."""
    kind = kind_of(site.module)
    return kind is not None and kind.inside_layer and site.inside and site.name.endswith(f":{kind.listed_as}")
