"""How the result of each function of torch that is known is followed back to the layer it comes from.

A function of another kind can be added to the table at the end. One that is not there ends the trail: what it gives has
no known layer, so that nothing is named after a layer that it does not come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dropdiag.functional import dimensions as following
from dropdiag.functional.dimensions import Dims
from dropdiag.functional.layers import Layer
from dropdiag.functional.producers import Done, Producers, Rule, Trail


def _met(trails: Sequence[Trail]) -> Layer | None:
    """Return the layer that all of these come from, None where there are several."""
    first = trails[0].layer
    return first if all(trail.layer is first for trail in trails) else None


def _joined(found: Sequence[tuple[Trail, Dims]]) -> Trail | None:
    """Return the trail of what several arguments make, with the dimensions that each leaves."""
    signals = [(trail, dims) for trail, dims in found if not trail.of_weight]
    if not signals:
        return found[0][0]._replace(dims=None) if found else None
    agreed = {dims for _, dims in signals if dims is not None}
    return Trail(_met([trail for trail, _ in signals]), agreed.pop() if len(agreed) == 1 else None)


def _mixed(trails: Sequence[Trail | None], dims: Dims) -> Trail | None:
    """Return the trail of a product: of two layers' outputs, or of two parts of one, it is neither's any more."""
    known = [trail for trail in trails if trail is not None]
    return Trail(known[0].layer if len(known) == 1 else None, dims) if known else None


def elementwise(producers: Producers, done: Done) -> Trail | None:
    """Follow functions whose dimensions are those of their arguments: elementwise, pooling, expansion, dropout."""
    shape = done.result.shape
    known = producers.known((*done.args, *done.keywords.values()) if done.keywords else done.args)
    # A weight to which a mask or a scale is applied is a weight still; a scale that is applied to an input is not.
    found = [(tensor, trail) for tensor, trail in known if not trail.of_weight or tensor.shape == shape]
    if len(found) == 1 and found[0][0].shape == shape:
        return found[0][1]
    return _joined([(trail, following.kept(t.shape, trail.dims, shape)) for t, trail in found])


def _of_first(dims: Callable[[Tensor, Dims, Done], Dims]) -> Rule:
    """Return the rule of a function of one tensor, its first argument."""

    def rule(producers: Producers, done: Done) -> Trail | None:
        for tensor, trail in producers.known((done.argument(0, "input"),)):
            return trail._replace(dims=dims(tensor, trail.dims, done))
        return None

    return rule


def _reduced(tensor: Tensor, dims: Dims, done: Done) -> Dims:
    over = done.argument(1, "dim", "axis")
    if isinstance(over, Tensor):  # the larger of two
        return following.kept(tensor.shape, dims, done.result.shape)
    if isinstance(over, bool):  # std(unbiased)
        return None
    return following.reduced(tensor.ndim, dims, over, keep=done.result.ndim == tensor.ndim)


def _joins(producers: Producers, done: Done) -> Trail | None:
    """Follow a cat or a stack."""
    ndim = done.result.ndim
    at = done.argument(1, "dim", "axis", default=0)
    found = [
        (trail, following.stacked(trail.dims, at, ndim) if tensor.ndim < ndim else trail.dims)
        for tensor, trail in producers.known((done.argument(0, "tensors"),))
    ]
    return _joined(found)


def _gives(weight_at: int | None, *dims: int) -> Rule:
    """Return the rule of a layer's function: its result has a trail of its own."""

    def rule(producers: Producers, done: Done) -> Trail | None:
        weight = None if weight_at is None else done.argument(weight_at, "weight")
        for _, trail in producers.known((weight,)):
            if trail.of_weight:  # whatever was made of it before
                return Trail(trail.layer, dims)
        return Trail(producers.layers.calling(), dims)

    return rule


def _normalises(*, second: bool) -> Rule:
    """Return the rule of a norm: it follows what enters it, and is a layer itself where several things do."""

    def rule(producers: Producers, done: Done) -> Trail | None:
        trail = elementwise(producers, done._replace(args=done.args[:1], keywords={})) or Trail(None, None)
        layer = producers.layers.calling() if trail.layer is None or trail.of_weight else trail.layer
        own: Dims = (1 - done.result.ndim,)
        if not second:
            own = (-1,) if len(done.argument(1, "normalized_shape")) == 1 else None
        return Trail(layer, trail.dims or own)

    return rule


def _products(first_at: int) -> Rule:
    """Return the rule of a matrix product: of a layer where one operand is a weight."""

    def rule(producers: Producers, done: Done) -> Trail | None:
        operands = [*done.args, *done.keywords.values()][first_at : first_at + 2]
        if len(operands) < 2 or not all(isinstance(operand, Tensor) for operand in operands):
            return None
        first, second = (next((trail for _, trail in producers.known((o,))), None) for o in operands)
        if second is not None and second.of_weight:
            return Trail(second.layer, (-1,) if operands[1].ndim > 1 else None)
        if first is not None and first.of_weight:
            return Trail(first.layer, None if operands[0].ndim < 2 else (-1,) if operands[1].ndim < 2 else (-2,))
        dims = following.multiplied(
            operands[0], operands[1], (first and first.dims, second and second.dims), done.result
        )
        return _mixed([first, second], dims)

    return rule


def _sums(producers: Producers, done: Done) -> Trail | None:
    """Follow an einsum."""
    equation, *rest = done.args
    if not isinstance(equation, str):
        return None
    operands = rest[0] if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else rest
    trails = [next((trail for _, trail in producers.known((o,))), None) for o in operands]
    weights = [trail for trail in trails if trail is not None and trail.of_weight]
    nodes = [
        following.letters_of(equation, at, trail.dims, is_weight=trail.of_weight)
        for at, trail in enumerate(trails)
        if trail is not None and (trail.of_weight or not weights)
    ]
    dims = following.summed(equation, done.result.ndim, nodes)
    return Trail(_met(weights), dims) if weights else _mixed(trails, dims)


def _attends(producers: Producers, done: Done) -> Trail | None:
    """Follow scaled dot-product attention, whose nodes are those of the values."""
    operands = [done.argument(at, name) for at, name in enumerate(("query", "key", "value"))]
    found = list(producers.known(operands))
    dims = next((trail.dims for tensor, trail in found if tensor is operands[2]), None)
    dims = following.kept(operands[2].shape, dims, done.result.shape)
    return _mixed([trail for _, trail in found], dims)


_RESHAPES: Final = _of_first(lambda tensor, dims, done: following.reshaped(tensor.shape, dims, done.result.shape))
_MOVES: Final = _of_first(lambda tensor, dims, done: following.moved(tensor, dims, done.result))
_CUTS: Final = _of_first(lambda tensor, dims, done: following.cut(tensor, dims, done.result))
_INDEXES: Final = _of_first(lambda tensor, dims, done: following.indexed(tensor, dims, done.args[1], done.result))
_GATES: Final = _of_first(lambda tensor, dims, done: dims if done.result.ndim == tensor.ndim else None)

_LAYERS: Final[tuple[tuple[str, Rule], ...]] = (
    ("linear embedding embedding_bag", _gives(1, -1)),
    ("bilinear", _gives(2, -1)),
    *((f"conv{n}d conv_transpose{n}d", _gives(1, -1 - n)) for n in (1, 2, 3)),
    ("lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell", _gives(None, -1)),
    ("multi_head_attention_forward", _gives(None, -1)),
)
_POOLS: Final = "max_pool avg_pool lp_pool adaptive_max_pool adaptive_avg_pool max_unpool fractional_max_pool"
_OTHERS: Final[tuple[tuple[str, Rule], ...]] = (
    ("matmul mm bmm mv __matmul__", _products(0)),
    ("addmm baddbmm addbmm addmv", _products(1)),
    ("einsum", _sums),
    ("scaled_dot_product_attention", _attends),
    ("batch_norm group_norm instance_norm", _normalises(second=True)),
    ("layer_norm rms_norm", _normalises(second=False)),
    ("view reshape flatten unflatten ravel squeeze unsqueeze view_as reshape_as contiguous clone detach", _RESHAPES),
    ("to type type_as float half double bfloat16 cpu cuda requires_grad_", _RESHAPES),
    ("transpose permute movedim moveaxis swapaxes swapdims t adjoint T mT H mH", _MOVES),
    ("narrow select chunk split split_with_sizes tensor_split unbind diagonal hsplit vsplit dsplit __iter__", _CUTS),
    ("__getitem__", _INDEXES),
    ("glu", _GATES),
    ("mean sum amax amin max min logsumexp var std prod nanmean nansum median", _of_first(_reduced)),
    ("cat concat concatenate stack", _joins),
    (
        "add sub mul div true_divide floor_divide multiply subtract divide rsub pow neg negative abs absolute",
        elementwise,
    ),
    ("square sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh asinh", elementwise),
    ("acosh atanh erf erfc sign sgn floor ceil round trunc frac clamp clip clamp_min clamp_max maximum", elementwise),
    ("minimum fmax fmin where lerp addcmul addcdiv reciprocal sigmoid tanh softmax log_softmax softmin", elementwise),
    ("normalize nan_to_num masked_fill cumsum cumprod roll flip hypot atan2 logit sinc xlogy", elementwise),
    ("logaddexp heaviside threshold local_response_norm __add__ __radd__ __iadd__ __sub__ __rsub__", elementwise),
    ("__isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ __div__ __rdiv__", elementwise),
    ("__idiv__ __pow__ __rpow__ __neg__ __abs__ expand expand_as broadcast_to repeat tile", elementwise),
    ("index_select repeat_interleave _pack_padded_sequence _pad_packed_sequence", elementwise),
    ("pad interpolate upsample", elementwise),
    *((f"{pool}{n}d {pool}{n}d_with_indices", elementwise) for pool in _POOLS.split() for n in (1, 2, 3)),
)


def _every_spelling(names: str) -> Iterator[Callable[..., Any]]:
    """Give all functions, methods and properties of torch that have one of these names, in place or not."""
    # torch._C._nn is private: the functions of functional that are written in C are its own.
    homes = (torch.nn.functional, torch, Tensor, torch._C._nn, torch.special, torch.linalg)
    for name in names.split():
        for spelling in (name, f"{name}_"):
            for home in homes:
                function = getattr(home, spelling, None)
                if callable(function):
                    yield function
                elif function is not None and hasattr(function, "__get__"):  # a property: x.T
                    yield function.__get__


LAYER_FUNCTIONS: Final = frozenset(function for names, _ in _LAYERS for function in _every_spelling(names))
"""Functions that use a weight, whatever they are given for one."""

RULES: Final = {function: rule for names, rule in (*_OTHERS, *_LAYERS) for function in _every_spelling(names)}
"""Function -> how its result is followed."""
