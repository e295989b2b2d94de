"""The kinds of dropout: how each is recognised, where its rate is kept, what its masks do.

Everything that depends on the kind of a dropout reads the table here. To add a kind, add an entry to `DROPOUT_KINDS`
(and a test): its modules and the calls of its functions are recorded as dropout sites, and ``net_variance(p=...)`` sets
its rate where the entry says that this is possible.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final

import torch
from torch import Tensor, nn

ALPHA: Final = 1.7580993408473766
"""SELU's scale times its alpha: alpha dropout puts ``-ALPHA`` in the place of what it drops (Klambauer et al. 2017)."""


def inverted_variance(p: float) -> float:
    """Return ``p / (1 - p)``: the variance of d / (1 - p), where d is 1 with probability 1 - p and 0 otherwise."""
    return p / (1 - p) if p < 1 else math.inf


def _all(ndim: int) -> int:
    return ndim


def _two(ndim: int) -> int:
    return min(ndim, 2)


def _one(ndim: int) -> int:
    return min(ndim, 1)


@dataclass(frozen=True)
class DropoutKind:
    """One kind of dropout.

    Attributes
    ----------
    grain : {"element", "channel", "token", "sample", "block", "layer", "attention weight", "weight", "unknown"}
        What a mask keeps or drops as a whole.
    modules : tuple of type
        Module classes of this kind; their subclasses are of it as well.
    functions : tuple of str
        Functions of this kind, as torch names them (`torch.nn.functional`, `torch`).
    class_names : tuple of str
        Parts of class names by which modules of other libraries are recognised: none of them need be installed. A
        module with children or parameters of its own is more than a dropout, and not recognised unless `wraps`.
    python_functions : tuple of str
        Names of other libraries' functions of this kind, which draw by ``bernoulli_`` how many units are kept.
    told_by : callable or None
        Module -> whether it is of this kind, where neither its class nor its name says so.
    wraps : bool
        Whether a module of this kind holds the layer that it is applied to.
    rates : tuple of str
        The attribute that holds a module's rate: the first of these that the module has.
    logits : tuple of str
        The same for a rate that is learned, and kept as its logit.
    argument : (int, str, float)
        The rate among a function's arguments: position, keyword, default.
    training : (int, keywords, bool) or None
        Likewise whether a function draws at all: position, keywords, default. None: it does where its rate is not 0.
    settable : bool
        Whether setting that attribute changes the rate of the next pass.
    inside_layer : bool
        Whether the modules do more than dropout (attention, recurrent layers). Such a layer draws no mask while its
        rate is 0.
    listed_as : str
        For these, the name of the dropout after the layer's; empty: it is no site.
    unseen : str
        Why masks of this kind cannot be seen: nothing but the rate is recorded then. Empty: they can.
    by_functions : bool
        Whether the mask is seen at the calls of `torch.nn.functional` in the module's forward method, rather than by
        comparing what goes into the module with what comes out.
    leading : callable
        Number of dimensions -> how many of the first ones number the units of the grain; a unit has all of the others.
    locked : bool
        Whether one mask holds for all positions of a sequence, which is the first or the second dimension: a unit is
        then a node of a sample, with all of its positions.
    replacement : float
        What a dropped unit is set to, on the scale of the input.
    replaced : callable or None
        (rate, input) -> what a dropped unit reads in the output, a tensor; None: the replacement itself.
    own_activations : bool
        Whether activations that its forward method calls are part of drawing the mask, and no sites.
    mask_variance : callable or None
        Rate -> variance of the factor by which each input is multiplied, independently of all other inputs. The net
        variance of a linear layer behind it is then this times ``sum_i w_i^2 x_i^2``. None: there is no such form.
    noise_to_signal : callable or None
        Rate -> c, where over masks and the data the variance of what comes out is that of ``E[out]`` times
        ``1 + c mean((h - replacement)^2) / Var(h)``: p/(1-p) wherever a unit is replaced with probability p, whatever
        it holds, and the rest is scaled by one factor (or by none). None: there is no such form.
    """

    grain: str
    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    python_functions: tuple[str, ...] = ()
    told_by: Callable[[nn.Module], bool] | None = None
    wraps: bool = False
    rates: tuple[str, ...] = ("p",)
    logits: tuple[str, ...] = ()
    argument: tuple[int, str, float] = (1, "p", 0.5)
    training: tuple[int, tuple[str, ...], bool] | None = (2, ("training", "train"), True)
    settable: bool = True
    inside_layer: bool = False
    listed_as: str = ""
    unseen: str = ""
    by_functions: bool = False
    leading: Callable[[int], int] = _all
    locked: bool = False
    replacement: float = 0.0
    replaced: Callable[[float, Tensor], Tensor] | None = None
    own_activations: bool = False
    mask_variance: Callable[[float], float] | None = None
    noise_to_signal: Callable[[float], float] | None = None


def _dropped_by_alpha(p: float, x: Tensor) -> Tensor:
    """Return what alpha dropout at rate p writes for a dropped unit, to the last bit."""
    # In the order and the dtype of ATen's own steps (Dropout.cpp), so that dropped units can be told by equality.
    a = 1 / math.sqrt((ALPHA * ALPHA * p + 1) * (1 - p)) if p < 1 else 0.0
    return x.new_zeros(()).add(-1).mul_(ALPHA * a).add_(ALPHA * a * p)


def _drops_layers(module: nn.Module) -> bool:
    """Whether a module runs a list of layers and leaves some out at random (LayerDrop), as some encoders do."""
    if not isinstance(module._modules.get("layers"), nn.ModuleList):
        return False
    return any(isinstance(_attribute(module, name), Real) for name in _LAYER_DROP)


def _attribute(module: nn.Module, name: str) -> Any:
    """Return an attribute, or one of an attribute (``config.layerdrop``); None where there is none."""
    first, _, rest = name.partition(".")
    held = getattr(module, first, None)
    return getattr(held, rest, None) if rest else held


_LAYER_DROP: Final = ("layerdrop", "config.layerdrop", "config.speech_encoder_layerdrop")
_IN_KERNEL: Final = "the mask is drawn inside of the kernel"
_ALPHA: Final = DropoutKind(
    "element",
    (nn.AlphaDropout,),
    ("alpha_dropout",),
    training=(2, ("training", "train"), False),
    replacement=-ALPHA,
    replaced=_dropped_by_alpha,
    noise_to_signal=inverted_variance,
)
_NAMED: Final = ("p", "drop_prob", "prob", "dropout_rate", "rate", "dropout_p", "dropout")

DROPOUT_KINDS: Final = (
    # One mask for all positions of a sequence (AWD-LSTM): before nn.Dropout, of which some are subclasses.
    DropoutKind("channel", class_names=("LockedDropout", "RNNDropout", "InputVariationalDropout"), rates=_NAMED,
                settable=False, locked=True, noise_to_signal=inverted_variance),
    DropoutKind("element", (nn.Dropout,), ("dropout", "native_dropout"), mask_variance=inverted_variance,
                noise_to_signal=inverted_variance),
    # An input of two dimensions (of four for 3d) has no batch; dropout2d takes the first two dimensions in any case.
    DropoutKind("channel", (nn.Dropout1d,), ("dropout1d",), leading=lambda ndim: max(ndim - 1, 1),
                noise_to_signal=inverted_variance),
    DropoutKind("channel", (nn.Dropout2d,), ("dropout2d", "feature_dropout"), leading=_two,
                noise_to_signal=inverted_variance),
    DropoutKind("channel", (nn.Dropout3d,), ("dropout3d",), leading=lambda ndim: max(ndim - 3, 1),
                noise_to_signal=inverted_variance),
    # Alpha dropout puts a negative constant in the place of what it drops and rescales: no factor on the input.
    _ALPHA,
    replace(_ALPHA, grain="channel", modules=(nn.FeatureAlphaDropout,), functions=("feature_alpha_dropout",),
            leading=_two),
    # The private base class of all of torch's: a user's own subclass of it keeps its rate in `p` as they do.
    DropoutKind("unknown", (nn.modules.dropout._DropoutNd,)),
    DropoutKind(
        "attention weight",
        (nn.MultiheadAttention,),
        ("scaled_dot_product_attention",),
        rates=("dropout",),
        argument=(4, "dropout_p", 0.0),
        training=None,
        inside_layer=True,
        listed_as="attention_dropout",
        unseen=_IN_KERNEL,
    ),
    DropoutKind("attention weight", functions=("multi_head_attention_forward",), argument=(10, "dropout_p", 0.0),
                training=(13, ("training",), True), unseen=_IN_KERNEL),
    # Between the layers of a stacked LSTM, GRU or RNN.
    DropoutKind("element", (nn.RNNBase,), rates=("dropout",), inside_layer=True, listed_as="dropout",
                unseen=_IN_KERNEL),
    # Whole branches are dropped, which is not what p= means (masks on node values): listed, and never set.
    DropoutKind("sample", class_names=("DropPath", "StochasticDepth"),
                python_functions=("drop_path", "stochastic_depth"), rates=("p", "drop_prob", "prob"), settable=False,
                leading=_one, noise_to_signal=inverted_variance),
    # What is kept is scaled by the share that was kept, which is random: no form of the noise.
    DropoutKind("block", class_names=("DropBlock",), python_functions=("drop_block2d", "drop_block3d", "drop_block_2d"),
                rates=("p", "drop_prob"), settable=False),
    DropoutKind("token", class_names=("PatchDropout", "WordDropout", "TokenDropout", "EmbeddingDropout"),
                rates=("embed_p", *_NAMED), settable=False, leading=_two),
    # The new state is replaced by the previous one; F.dropout of their difference shows the mask, where it is used.
    DropoutKind("element", class_names=("Zoneout", "ZoneOut"), wraps=True, by_functions=True, settable=False,
                rates=("zoneout", "zoneout_prob", "zoneout_p", *_NAMED)),
    DropoutKind("weight", class_names=("WeightDrop", "WeightDropout", "DropConnectLinear"), wraps=True,
                by_functions=True, settable=False, rates=("weight_p", "weight_dropout", "dropout", "p")),
    # Gal, Hron & Kendall 2017: a soft mask, in which hardly a unit is exactly 0.
    DropoutKind("element", class_names=("ConcreteDropout",), wraps=True, settable=False, own_activations=True,
                logits=("p_logit", "logit_p", "p_logits"), unseen="the mask is soft: no unit is replaced as a whole"),
    DropoutKind("layer", class_names=("LayerDrop",), told_by=_drops_layers, wraps=True, rates=(*_LAYER_DROP, "p"),
                settable=False, inside_layer=True, listed_as="layerdrop", unseen="layers that are left out do not run"),
    DropoutKind("unknown", class_names=("Dropout", "DropConnect"), rates=_NAMED, settable=False),
)  # fmt: skip
"""All kinds. The first that fits a module is its kind, so what is special comes before what is general."""


def kind_of(module: nn.Module) -> DropoutKind | None:
    """Return the kind of dropout that a module is or has inside, None for any other module."""
    cls = type(module)
    if cls not in _KINDS_OF:  # a network has many modules, of few classes
        _KINDS_OF[cls] = tuple(kind for kind in DROPOUT_KINDS if _may_be(cls, kind))
    return next((kind for kind in _KINDS_OF[cls] if _is_of(module, kind)), None)


_KINDS_OF: Final[weakref.WeakKeyDictionary[type[nn.Module], tuple[DropoutKind, ...]]] = weakref.WeakKeyDictionary()


def _may_be(cls: type[nn.Module], kind: DropoutKind) -> bool:
    return issubclass(cls, kind.modules) or _is_named(cls, kind) or kind.told_by is not None


def _is_named(cls: type[Any], kind: DropoutKind) -> bool:
    return any(part in cls.__name__ for part in kind.class_names)


def _is_of(module: nn.Module, kind: DropoutKind) -> bool:
    if isinstance(module, kind.modules):
        return True
    if _is_named(type(module), kind):
        return kind.wraps or not (module._modules or module._parameters)
    return kind.told_by is not None and kind.told_by(module)


def is_dropout(module: nn.Module) -> bool:
    """Whether a module is a dropout and nothing else."""
    kind = kind_of(module)
    return kind is not None and not kind.inside_layer


def rate_of(module: nn.Module) -> Any:
    """Return a module's dropout rate; None where it is no dropout or has none that is known."""
    kind = kind_of(module)
    return None if kind is None else kept_rate(kind, module)


def kept_rate(kind: DropoutKind, module: nn.Module) -> Any:
    """Return the rate that a module of a known kind keeps; None where it has none."""
    for name in kind.logits:
        if isinstance(logit := getattr(module, name, None), Tensor):
            return torch.special.expit(logit.detach().double())
    return next((rate for name in kind.rates if (rate := _attribute(module, name)) is not None), None)


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


def has_own_forward(module: nn.Module) -> bool:
    """Whether a dropout's forward method is not that of the torch class which its kind names."""
    kind = kind_of(module)
    return kind is None or not any(type(module).forward is known.forward for known in kind.modules)


def mask_variance_of(module: nn.Module) -> Callable[[float], float] | None:
    """Return the `DropoutKind.mask_variance` of a module, None where it has a forward method of its own."""
    kind = kind_of(module)
    return None if kind is None or has_own_forward(module) else kind.mask_variance


def layer_dropout(module: nn.Module) -> DropoutKind | None:
    """Return the kind of the dropout inside a layer, None where there is none that is to be listed."""
    kind = kind_of(module)
    if kind is None or not kind.listed_as or not rate_of(module):
        return None
    return None if getattr(module, "num_layers", 2) == 1 and isinstance(module, nn.RNNBase) else kind
