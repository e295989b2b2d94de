"""Which tensors are read: decided by their class, before any operation of ours runs on them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.sketches.native import PLAIN

_STRICT: Final = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))
# By name, as these classes are private: they are made by tools that follow shapes or trace programs.
_SHAPES_ALONE: Final = ("FakeTensor", "FunctionalTensor")
# Private: torch has no public question for "is this a tensor of vmap or grad", whose values cannot be read.
is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


def has_no_values(tensor: Tensor) -> bool:
    """Whether a tensor holds no values: inside a function transform, a fake one, on the meta device."""
    if type(tensor) not in PLAIN:
        return any(kind.__name__ in _SHAPES_ALONE for kind in type(tensor).__mro__)
    return is_wrapped(tensor) or tensor.is_meta


def why_unread(tensor: Tensor) -> ArgumentError | None:
    """Return why a tensor is not read, None if it is.

    Parameters
    ----------
    tensor : Tensor
        Of any class. The operations of a subclass may mean anything (a collective that hangs when one rank calls
        it, a write to its own memory), so not even its attributes are asked for. A DTensor is not read through its
        local tensor either: that is a part of the whole, or a term of a sum.
    """
    if type(tensor) not in PLAIN:
        kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
        return ArgumentError(
            f"it gets a {kind}, and tensor subclasses (DTensor and the like) are not read yet: record plain tensors, "
            "or leave the layer out with exclude="
        )
    found = _why_not_plain(tensor)
    return None if found is None else ArgumentError(f"it gets {found}, which is not read: leave it out with exclude=")


def _why_not_plain(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return f"a quantised tensor ({tensor.dtype})"
    if tensor.layout != torch.strided:
        return f"a tensor of layout {tensor.layout}"
    return None if tensor.dtype in _STRICT else f"a tensor of dtype {tensor.dtype}"


def dense(tensor: Tensor) -> Tensor:
    """Return a plain tensor with all its values: the zeros that a sparse one does not store count as well."""
    if type(tensor) not in PLAIN or tensor.layout == torch.strided:
        return tensor
    with torch.no_grad():
        return tensor.detach().to_dense()
