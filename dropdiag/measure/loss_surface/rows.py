"""The weights of a network's layers as rows: all that comes into one node of a layer, for each node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from dropdiag.model.made_weights import made_weights, parts_of
from dropdiag.model.names import named_modules, weight_layer

_CONVOLUTIONS: Final = nn.modules.conv._ConvNd
_TRANSPOSED: Final = nn.modules.conv._ConvTransposeNd
_TABLES: Final = (nn.Embedding, nn.EmbeddingBag)
_NORMS: Final = (nn.LayerNorm, nn.RMSNorm)
"""Their parameters scale and shift each node by itself, in as many dimensions as the nodes have."""
_COLUMNS: Final = "transformers.pytorch_utils.Conv1D"
"""GPT-2's linear layer, whose weight has the inputs in its first dimension."""

MADE: Final = "the weight is made of other parameters (a parametrisation, weight norm, pruning): no Hessian is of it"
UNKNOWN: Final = "it is not known which dimension of this parameter counts the layer's nodes"


@dataclass(frozen=True)
class Weight:
    """A parameter with what it holds of each node of its layer.

    Attributes
    ----------
    layer : str
        As it is called among recorded weights.
    parameter : str
        Name among the model's parameters.
    groups : int
        Into so many a convolution divides its nodes, each of which sees inputs of its own.
    inputs_first : bool
        Whether the first dimension counts inputs, not nodes.
    why : str or None
        Why it has no relative flatness.
    table : bool
        Whether it is no weight between nodes: a table of embeddings, a token or positions that are learned.
    """

    layer: str
    parameter: str
    groups: int = 1
    inputs_first: bool = False
    why: str | None = None
    table: bool = False

    def rows(self, weight: Tensor) -> Tensor:
        """Return the weight in the shape (groups, nodes of a group, what comes into each)."""
        if not self.inputs_first:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        parts = weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:])
        return parts.transpose(1, 2).flatten(2)

    def weight(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return rows in the shape of the weight."""
        if not self.inputs_first:
            return rows.reshape(like.shape)
        parts = rows.reshape(self.groups, rows.shape[1], like.shape[0] // self.groups, *like.shape[2:])
        return parts.transpose(1, 2).reshape(like.shape)


def weights(model: nn.Module, trainable: Mapping[str, Tensor]) -> list[Weight]:
    """Return the trainable parameters of two dimensions or more, without those of norms, in the model's order.

    Parameters
    ----------
    model : nn.Module
    trainable : mapping of str to Tensor
        Name of a parameter -> itself, as `nn.Module.named_parameters` has it.
    """
    known = {id(p): name for name, p in trainable.items() if p.dim() > 1}
    found: dict[str, Weight] = {}
    for name, module in named_modules(model):
        for weight in _of_module(name, module, known):
            # A parameter that an embedding shares with a linear layer is a weight of that.
            if weight.parameter not in found or found[weight.parameter].table:
                found[weight.parameter] = weight
    return [found[name] for name in trainable if name in found]


def _of_module(name: str, module: nn.Module, known: Mapping[int, str]) -> Iterator[Weight]:
    parts = parts_of(module, made_weights(module))
    for own, parameter in module._parameters.items():
        if parameter is None or id(parameter) not in known or isinstance(module, _NORMS):
            continue
        layer, called = weight_layer(name, own), known[id(parameter)]
        if own in parts or isinstance(module, ParametrizationList):
            yield Weight(layer, called, why=MADE)
        elif _has_rows(module, own):
            yield _of_layer(layer, called, module)
        # of one row: a token that is learned, the positions of a sequence
        elif isinstance(module, _TABLES) or parameter.shape[0] == 1:
            yield Weight(layer, called, table=True)
        else:
            yield Weight(layer, called, why=UNKNOWN)


def _has_rows(module: nn.Module, parameter: str) -> bool:
    """Whether a parameter is the weight of a layer that is known, or one of its weights."""
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return parameter.startswith("weight_")
    if isinstance(module, nn.MultiheadAttention):
        return parameter.endswith("proj_weight")
    return parameter == "weight" and (isinstance(module, (nn.Linear, _CONVOLUTIONS)) or _has_columns(module))


def _has_columns(module: nn.Module) -> bool:
    return _COLUMNS in {f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__}


def _of_layer(layer: str, parameter: str, module: nn.Module) -> Weight:
    if isinstance(module, _CONVOLUTIONS):
        return Weight(layer, parameter, module.groups, isinstance(module, _TRANSPOSED))
    return Weight(layer, parameter, inputs_first=_has_columns(module))
