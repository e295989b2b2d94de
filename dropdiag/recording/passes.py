"""From what passes a site to the open sketches: phases, call indices, recomputed passes."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from dropdiag.probes import Place, Tap
from dropdiag.recording.collector import Collector, Opened
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.overhead import Cost, clock
from dropdiag.sketches.native import PLAIN

_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_backward_number = torch._C._current_graph_task_id


class Call(NamedTuple):
    """One pass through one site that is recorded."""

    place: Place
    number: int
    collector: Collector
    mask: Tensor | None = None

    def real(self, tensor: Tensor) -> Tensor:
        """Return the tokens that are no padding, where a padding mask is set and fits the tensor."""
        mask = self.mask
        if mask is None or tensor.ndim < 3 or tensor.shape[: mask.ndim] != mask.shape or type(tensor) not in PLAIN:
            return tensor  # a subclass may refuse an index that is none; the collector says that it is not read
        return tensor[mask]


class Taps:
    """What hooks and intercepted calls hand over, sent to where it belongs.

    A pass is recorded in training mode with gradients enabled (the training step), or in evaluation mode inside
    an evaluation. Under activation checkpointing a pass comes twice, the second time inside ``backward``: it
    is recorded once, when it has its gradient.

    Parameters
    ----------
    train, held_out : Collector
        For training steps and for evaluations.
    loss_scale : LossScale
        What gradients are divided by.
    cost : Cost
        What hooks add their time to.

    Attributes
    ----------
    evaluating : bool
        Whether an evaluation is open.
    saw_training : bool
        Whether a pass in training mode came inside an evaluation.
    mask : Tensor of bool or None
        True where tokens are no padding; its shape is that of the first dimensions of what it applies to.
    captured : bool
        Whether a pass went into a CUDA graph: its replays run no hooks.
    compiled : bool
        Whether a pass ran inside a compiled graph, where functional calls are not seen.
    transformed : bool
        Whether a pass came inside a `torch.func` transform, where tensors hold no values.
    direct : bool
        Whether a part of the model was called without calling the model.
    without_training_mode : bool
        Whether a pass with gradients, outside of evaluations, was in evaluation mode.
    several_backwards : bool
        Whether more than one backward pass went through one forward pass.
    masks_in_evaluation : bool
        Whether a dropout was in training mode inside an evaluation.
    intercepting : bool
        Whether functional calls are intercepted just now.
    hint : {"last", "second"} or None
        Which dimension counts nodes in what the last layer gave, where layers of both kinds are watched.
    passes : Counter
        Recorded passes by (layer, call index).
    """

    def __init__(self, train: Collector, held_out: Collector, loss_scale: LossScale, cost: Cost) -> None:
        self._train, self._held_out, self._loss_scale, self.cost = train, held_out, loss_scale, cost
        self.scaled = loss_scale.active
        self.evaluating = False
        self.saw_training = False
        self.mask: Tensor | None = None
        self.captured = False
        self.compiled = False
        self.transformed = False
        self.direct = False
        self.without_training_mode = False
        self.several_backwards = False
        self.masks_in_evaluation = False
        self.hint: str | None = None
        self.intercepting = False
        self.thorough = True
        self._rests = False
        self._depth = 0
        self._leaves: list[RemovableHandle] = []
        self.passes: Counter[tuple[str, int]] = Counter()
        self._next: Counter[str] = Counter()
        self._without_gradient: defaultdict[tuple[str, int], deque[int]] = defaultdict(deque)

    def forward_begins(self) -> bool:
        """Count calls anew, unless the model called itself; return whether it did not."""
        self._depth += 1
        if self._depth == 1:
            self._next.clear()
        return self._depth == 1

    def forward_ends(self) -> bool:
        """Return whether the outermost forward pass is over."""
        self._depth = max(self._depth - 1, 0)
        return self._depth == 0

    def compiled_forward_begins(self) -> None:
        """Count calls anew: a compiled forward pass begins. That it ends is not said."""
        self.compiled = True
        self._depth = 1
        self._next.clear()

    def evaluation_begins(self) -> None:
        """Take passes in evaluation mode from now on."""
        self.evaluating, self.saw_training, self.masks_in_evaluation = True, False, False

    def evaluation_ends(self) -> None:
        """Take passes in training mode again."""
        self.evaluating = False

    def step_begins(self, *, thorough: bool, rests: bool = False) -> None:
        """Forget the last step's passes.

        Parameters
        ----------
        thorough : bool
            Whether functional calls that are not known yet are looked for.
        rests : bool
            Whether no training pass is recorded.
        """
        self.thorough, self._rests = thorough, rests
        self._next.clear()
        self._depth = 0
        self.without_training_mode = False
        self._without_gradient.clear()
        self.release()

    def release(self) -> None:
        """Take hooks off parameters."""
        while self._leaves:
            self._leaves.pop().remove()

    @property
    def remarkable(self) -> bool:
        """Whether the passes showed something that `dropdiag.recording.notices` has a word on."""
        return self.captured or self.transformed or self.several_backwards or self.direct

    def active(self, training: bool) -> bool:
        """Whether passes in this mode can be of use at all."""
        return (training and not self.evaluating) or (self.evaluating and not training)

    def net_value(self, place: Place, z: Tensor, *, training: bool, gradients: bool) -> Call | None:
        """Take in a net value; return the call it belongs to, or None where the pass is not recorded."""
        if not z.is_cpu and z.is_cuda and torch.cuda.is_current_stream_capturing():
            self.captured = True
            return None
        if _is_wrapped(z):
            self.transformed = True
            return None
        if training and gradients and not self.evaluating and not self._rests and _backward_number() == -1:
            call: Call | None = self._call(self._train, place, self._count(place.site.layer))
        else:
            call = self._enter(place, training, gradients)
        if call is not None and call.collector.wants(Tap.NET_VALUE):
            self._feed(Tap.NET_VALUE, call, z if call.mask is None else call.real(z))
        return call

    def located(self, place: Place) -> Place:
        """Return a place with the nodes' dimension that the last layer tells, if one is watched."""
        if self.hint is None or place.site.hint == self.hint:
            return place
        return Place(replace(place.site, hint=self.hint), place.activation)

    def watch(self, call: Call, z: Tensor, *, inplace: bool = False) -> None:
        """Take in dL/dz of a call's net value when it comes.

        Parameters
        ----------
        call : Call
        z : Tensor
        inplace : bool
            Whether the activation is about to overwrite z. A view that is overwritten takes no part in the
            backward pass any more; what it is a view of does.
        """
        opened = self.expect_gradient(call)
        if opened is None or not z.requires_grad:
            return
        base = z._base if inplace else None
        if base is not None and base.dtype != z.dtype:
            return  # a real view of complex numbers: its gradient is missing
        watched = z if base is None else base
        part = None if base is None else _part(z, base)
        handle = watched.register_hook(_Gradient(self, call, part, opened))  # type: ignore[no-untyped-call]
        if watched.is_leaf:  # a parameter outlives the step; what else has a hook does not
            self._leaves.append(handle)

    def expect_gradient(self, call: Call) -> list[Opened] | None:
        """Return the sketches for the gradient of a call's net value, missing until it comes; None: it is of no use."""
        if call.collector is not self._train or not self._train.wants(Tap.NET_GRAD):
            return None
        return self._train.open(Tap.NET_GRAD, call.place, call.number)

    def net_grad(self, call: Call, gradient: Tensor) -> None:
        """Take in dL/dz of a call."""
        if call.collector.wants(Tap.NET_GRAD):
            if call.mask is not None:
                gradient = call.real(gradient)
            if self.scaled:
                gradient = self._loss_scale.unscaled(gradient)
            call.collector.feed(Tap.NET_GRAD, call.place, call.number, gradient)

    def node_value(self, call: Call, h: Tensor) -> None:
        """Take in the node value of a call."""
        if call.collector.wants(Tap.NODE_VALUE):
            self._feed(Tap.NODE_VALUE, call, h if call.mask is None else call.real(h))

    def _feed(self, tap: Tap, call: Call, tensor: Tensor) -> None:
        if self.intercepting:  # what sketches do with tensors is nobody's functional call
            with torch._C.DisableTorchFunction():
                call.collector.feed(tap, call.place, call.number, tensor)
        else:
            call.collector.feed(tap, call.place, call.number, tensor)

    def raw_weight_grad(self, place: Place, gradient: Tensor | None) -> None:
        """Take in a weight's gradient each time something was added to it: the last one of a step stands."""
        if gradient is not None and self._train.wants(Tap.RAW_WEIGHT_GRAD):
            self._train.refeed(Tap.RAW_WEIGHT_GRAD, place, 0, self._loss_scale.unscaled(dense(gradient)))

    def output(self, place: Place, h: Tensor, *, training: bool, gradients: bool) -> None:
        """Take in the node value of a site that has no net value of its own."""
        call = self._enter(place, training, gradients)
        if call is not None:
            self.node_value(call, h)

    def _enter(self, place: Place, training: bool, gradients: bool) -> Call | None:
        layer = place.site.layer
        if not training:
            self.without_training_mode |= gradients and not self.evaluating
            return self._call(self._held_out, place, self._count(layer)) if self.evaluating else None
        if self.evaluating:
            self.saw_training = True
            return None
        if self._rests:
            return None
        if _backward_number() != -1:  # recorded in the first pass, unless that one ran without gradients
            held = self._without_gradient[layer, _checkpoint()]
            return self._call(self._train, place, held.popleft()) if held and gradients else None
        index = self._count(layer)
        if not gradients:
            checkpoint = _checkpoint()
            if checkpoint:  # it comes again with gradients; other passes without do not
                self._without_gradient[layer, checkpoint].append(index)
            return None
        return self._call(self._train, place, index)

    def _count(self, layer: str) -> int:
        if not self._depth:  # a part of the model is called by itself: its passes are pooled
            self.direct = True
            return 0
        index = self._next[layer]
        self._next[layer] += 1
        return index

    def _call(self, collector: Collector, place: Place, index: int) -> Call:
        self.passes[place.site.layer, index] += 1
        return Call(place, index, collector, self.mask)


class _Gradient:
    """Hook on a tensor: its gradient is dL/dz of a call."""

    __slots__ = ("call", "opened", "part", "period", "taps", "times")

    def __init__(self, taps: Taps, call: Call, part: Callable[[Tensor], Tensor] | None, opened: list[Opened]) -> None:
        self.taps, self.call, self.part, self.times = taps, call, part, 0
        self.opened, self.period = opened, call.collector.period

    def __call__(self, gradient: Tensor) -> None:
        begun = clock()
        taps, call = self.taps, self.call
        self.times += 1
        if self.times > 1:
            taps.several_backwards = True
        if self.part is not None:
            gradient = self.part(gradient)
        if call.place.site.gate_dim is not None:
            gradient = call.place.site.net(gradient)
        if call.collector.period == self.period and call.mask is None and not taps.scaled:
            call.collector.update(self.opened, call.place, gradient)
        else:  # its step is over, or it is not to be taken as it is
            taps.net_grad(call, gradient)
        taps.cost.spent += clock() - begun


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient with all its values: of a sparse one, the zeros that it does not hold count as well."""
    return gradient.coalesce().to_dense() if gradient.is_sparse else gradient


def _checkpoint() -> int:
    """Return a number that tells reentrant checkpoints apart, the same in the first pass and in the second; 0: none."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if "ctx" in frame.f_code.co_varnames and frame.f_code.co_filename.endswith("checkpoint.py"):
            return id(frame.f_locals.get("ctx"))
        frame = frame.f_back
    return 0


def _part(z: Tensor, base: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what takes the gradient of a view out of the gradient of its base; keeps shapes, no tensor."""
    view = z.size(), z.stride(), z.storage_offset() - base.storage_offset()
    size, stride = base.size(), base.stride()

    def take(gradient: Tensor) -> Tensor:
        laid_out = torch.empty_strided(size, stride, dtype=gradient.dtype, device=gradient.device).copy_(gradient)
        return laid_out.as_strided(*view)

    return take
