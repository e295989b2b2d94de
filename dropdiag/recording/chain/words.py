"""Names in words for what lies between two tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any, Final

from torch import Tensor

from dropdiag.recording.chain.graph import Way, is_made, leaves

_WORDS: Final = (
    ("batch norm", "NativeBatchNorm CudnnBatchNorm MiopenBatchNorm BatchNormWithUpdate"),
    ("layer norm", "NativeLayerNorm"),
    ("RMS norm", "FusedRmsNorm"),
    ("group norm", "NativeGroupNorm"),
    (
        "max pooling",
        "MaxPool2DWithIndices MaxPool3DWithIndices MaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D MaxPool2D",
    ),
    ("average pooling", "AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D"),
    ("mean", "Mean"),
    ("sum", "Sum"),
    ("addition", "Add"),
    ("subtraction", "Sub Rsub"),
    ("product", "Mul Bmm Mm Matmul Baddbmm Addbmm Addmm"),
    ("division", "Div"),
    ("concatenation", "Cat Stack"),
    ("overwriting", "CopySlices"),
    ("softmax", "Softmax"),
    ("log-softmax", "LogSoftmax"),
    ("recurrent layer", "MkldnnRnnLayer CudnnRnn MiopenRnn ThnnFusedLstmCell ThnnFusedGruCell"),
)
_WORD: Final = {name: word for word, names in _WORDS for name in names.split()}
_MOVES: Final = frozenset(
    name
    for names in (
        "View UnsafeView Reshape ReshapeAlias T Transpose Permute Expand Squeeze Unsqueeze Clone ToCopy Alias Copy",
        "AsStrided Unbind Split SplitWithSizes Slice Select Narrow Index Unfold Detach Flip Constant Pad",
        "PackPaddedSequence PadPackedSequence",
    )
    for name in names.split()
)
"""What moves values and changes none."""
_ATTENTION: Final = re.compile(r"\bproduct, (division, )?(safe )?softmax, product\b")
_NORMS: Final = ("batch norm", "layer norm", "RMS norm", "group norm")


def of(way: Way, layer_of: Callable[[Tensor], str | None]) -> str:
    """Return what a gradient passes between two tensors, in order of execution: ``fc2, batch norm, max pooling``.

    Parameters
    ----------
    way : Way
    layer_of : callable
        Name of the layer that a parameter is the weight of; None where it is nobody's.
    """
    found: list[str] = []
    passed = {*way.nodes, way.joints[-1].edge[0]}
    for node in way.nodes:
        word = _of(node, passed, layer_of)
        if word is not None and word not in found[-1:]:
            found.append(word)
    return _ATTENTION.sub("attention", ", ".join(found))


def _of(node: Any, passed: Container[Any], layer_of: Callable[[Tensor], str | None]) -> str | None:
    name = re.sub(r"(Backward)?\d*$", "", type(node).__name__)
    if name.startswith("ScaledDotProduct"):
        return "attention"
    word = _WORD.get(name)
    if word in ("addition", "subtraction") and not all(is_made(below) for below, _ in node.next_functions):
        return None  # of a bias or a constant
    if word in _NORMS or (word not in (None, "product") and name in _WORD):
        return word
    for weight in leaves(node, passed):
        if weight.ndim > 1 and (layer := layer_of(weight)) is not None:
            return layer
    if name in _MOVES:
        return None
    return word or _spelt(name)


def _spelt(name: str) -> str:
    """Return the name of an operator as words: ``LeakyRelu`` as ``leaky relu``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
