"""The kinds of dropout: how each is recognised, where its rate is kept, what its masks do.

Everything that depends on the kind of a dropout reads the table here. To add a kind, add an entry to `DROPOUT_KINDS`
(and a test): coverage then lists its modules, intercepted calls of its functions are listed under their module, and
``net_variance(p=...)`` sets its rate where the entry says that this is possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import nn


def inverted_variance(p: float) -> float:
    """Return ``p / (1 - p)``: the variance of d / (1 - p), where d is 1 with probability 1 - p and 0 otherwise."""
    return p / (1 - p) if p < 1 else math.inf


@dataclass(frozen=True)
class DropoutKind:
    """One kind of dropout.

    Attributes
    ----------
    grain : {"element", "channel", "sample", "attention weight", "unknown"}
        What a mask keeps or drops as a whole.
    modules : tuple of type
        Module classes of this kind; their subclasses are of it as well.
    functions : tuple of str
        Functions of this kind, as `torch.nn.functional` names them.
    class_names : tuple of str
        Parts of class names by which modules of other libraries are recognised: none of them need be installed.
    rates : tuple of str
        The attribute that holds a module's rate: the first of these that the module has.
    argument : (int, str, float)
        The rate among a function's arguments: position, keyword, default.
    settable : bool
        Whether setting that attribute changes the rate of the next pass.
    inside_layer : bool
        Whether the modules do more than dropout (attention, recurrent layers). Such a layer draws no mask while its
        rate is 0.
    listed_as : str
        For these, the name after the layer's under which coverage lists the dropout; empty: it is not listed.
    mask_variance : callable or None
        Rate -> variance of the factor by which each input is multiplied, independently of all other inputs. The net
        variance of a linear layer behind it is then this times ``sum_i w_i^2 x_i^2``. None: there is no such form.
    """

    grain: str
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    rates: tuple[str, ...] = ("p",)
    argument: tuple[int, str, float] = (1, "p", 0.5)
    settable: bool = True
    inside_layer: bool = False
    listed_as: str = ""
    mask_variance: Callable[[float], float] | None = None


DROPOUT_KINDS: Final = (
    DropoutKind("element", (nn.Dropout,), ("dropout",), mask_variance=inverted_variance),
    DropoutKind("channel", (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), ("dropout1d", "dropout2d", "dropout3d")),
    # Alpha dropout puts a negative constant in the place of what it drops and rescales: no factor on the input.
    DropoutKind("element", (nn.AlphaDropout,), ("alpha_dropout",)),
    DropoutKind("channel", (nn.FeatureAlphaDropout,), ("feature_alpha_dropout",)),
    # The private base class of all of torch's: a user's own subclass of it keeps its rate in `p` as they do.
    DropoutKind("unknown", (nn.modules.dropout._DropoutNd,)),
    DropoutKind(
        "attention weight",
        (nn.MultiheadAttention,),
        ("scaled_dot_product_attention",),
        rates=("dropout",),
        argument=(4, "dropout_p", 0.0),
        inside_layer=True,
        listed_as="attention_dropout",
    ),
    # Between the layers of a stacked LSTM, GRU or RNN.
    DropoutKind("element", (nn.RNNBase,), rates=("dropout",), inside_layer=True),
    # Whole branches are dropped, which is not what p= means (masks on node values): listed, and never set.
    DropoutKind("sample", class_names=("DropPath", "StochasticDepth"), rates=("p", "drop_prob"), settable=False),
    DropoutKind("unknown", class_names=("Dropout",), rates=("p", "drop_prob"), settable=False),
)
"""All kinds. The first that fits a module is its kind, so what is special comes before what is general."""


def kind_of(module: nn.Module) -> DropoutKind | None:
    """Return the kind of dropout that a module is or has inside, None for any other module."""
    name = type(module).__name__
    for kind in DROPOUT_KINDS:
        if isinstance(module, kind.modules) or any(part in name for part in kind.class_names):
            return kind
    return None


def is_dropout(module: nn.Module) -> bool:
    """Whether a module is a dropout and nothing else."""
    kind = kind_of(module)
    return kind is not None and not kind.inside_layer


def rate_of(module: nn.Module) -> Any:
    """Return a module's dropout rate; None where it is no dropout or has none that is known."""
    kind = kind_of(module)
    names = () if kind is None else kind.rates
    return next((getattr(module, name) for name in names if hasattr(module, name)), None)


def settable_rates(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the modules of a model whose rate can be set, and the attribute that holds it.

    Attention and recurrent layers with a rate of 0 are left out: they have no dropout.
    """
    kinds = ((module, kind_of(module)) for module in model.modules())
    return [
        (module, kind.rates[0])
        for module, kind in kinds
        if kind is not None and kind.settable and not (kind.inside_layer and rate_of(module) == 0)
    ]


def mask_variance_of(module: nn.Module) -> Callable[[float], float] | None:
    """Return the `DropoutKind.mask_variance` of a module, None where it has a forward method of its own."""
    kind = kind_of(module)
    own = kind is not None and any(type(module).forward is known.forward for known in kind.modules)
    return kind.mask_variance if kind is not None and own else None


def is_torch_dropout(module: nn.Module) -> bool:
    """Whether a module is one of torch's own dropouts, which call the function of their kind themselves."""
    kind = kind_of(module)
    return kind is not None and isinstance(module, kind.modules) and not kind.inside_layer


def layer_dropout(module: nn.Module) -> str | None:
    """Return the name under which coverage lists the dropout inside a layer, None where nothing is to be listed."""
    kind = kind_of(module)
    return kind.listed_as if kind is not None and kind.listed_as and rate_of(module) else None
