"""Decides which passes through a site are recorded, and routes their tensors to the open sketches."""

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

from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.collector import Collector, Opened
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.notices import OF_EVALUATIONS, Notice
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.sketches.native import PLAIN

# Private: torch has no public question for "is this a tensor of vmap or grad", whose values cannot be read.
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
# Private: the number of the backward pass that this thread is in, -1 outside of any. torch.utils.checkpoint asks the
# same question to tell a recomputed forward pass from the first one.
_backward_number = torch._C._current_graph_task_id


class Call(NamedTuple):
    """One recorded pass through one site."""

    info: SiteInfo
    number: int
    collector: Collector
    mask: Tensor | None = None

    def unpadded(self, tensor: Tensor) -> Tensor:
        """Return the tokens that are no padding, where a padding mask is set and fits the tensor."""
        mask = self.mask
        if mask is None or tensor.ndim < 3 or tensor.shape[: mask.ndim] != mask.shape or type(tensor) not in PLAIN:
            return tensor  # a subclass may refuse to be indexed; the collector reports that it is not read
        return tensor[mask]


class PassRouter:
    """Takes what hooks and intercepted calls hand over, and routes it to the collector it belongs to.

    A pass is recorded in training mode with gradients enabled (the training step), or in evaluation mode inside
    an evaluation. Under activation checkpointing a pass comes twice, the second time inside ``backward``: it
    is recorded once, when it has its gradient.

    Parameters
    ----------
    train, held_out : Collector
        For training steps and for evaluations.
    loss_scale : LossScale
        What gradients are divided by.
    overhead : Overhead
        What hooks add their time to.

    Attributes
    ----------
    evaluating : bool
        Whether an evaluation is open.
    mask : Tensor of bool or None
        True where tokens are no padding; its shape is that of the first dimensions of what it applies to.
    notices : set of Notice
        What passes have shown. Those of an evaluation last for the evaluation, `Notice.NOT_TRAINING` for the step,
        all others for the run.
    intercept : bool
        Whether this step is one of those that look for functional calls not seen before.
    intercepting : bool
        Whether functional calls are being intercepted right now.
    axis_rule : {"last", "second"} or None
        Which dimension counts nodes in the output of the last layer, where layers of both rules are watched.
    passes : Counter
        Recorded passes by (layer, call index).
    compiled_begins : callable
        Called where a compiled forward pass begins.
    """

    def __init__(self, train: Collector, held_out: Collector, loss_scale: LossScale, overhead: Overhead) -> None:
        self._train, self._held_out, self._loss_scale, self.overhead = train, held_out, loss_scale, overhead
        self.scaled = loss_scale.active
        self.evaluating = False
        self.mask: Tensor | None = None
        self.notices: set[Notice] = set()
        self.axis_rule: str | None = None
        self.intercepting = False
        self.intercept = True
        self._paused = False
        self._depth = 0
        self._leaves: list[RemovableHandle] = []
        self.passes: Counter[tuple[str, int]] = Counter()
        self.compiled_begins: Callable[[], object] = bool
        self._next: Counter[str] = Counter()
        self._without_gradient: defaultdict[tuple[str, int], deque[int]] = defaultdict(deque)

    def forward_begins(self) -> bool:
        """Reset the call counters, unless the model called itself; return whether it did not."""
        self._depth += 1
        if self._depth == 1:
            self._next.clear()
        return self._depth == 1

    def forward_ends(self) -> bool:
        """Return whether the outermost forward pass is over."""
        self._depth = max(self._depth - 1, 0)
        return self._depth == 0

    def compiled_forward_begins(self) -> None:
        """Reset the call counters for a compiled forward pass, which does not report its end."""
        self.notices.add(Notice.COMPILED)
        self._depth = 1
        self._next.clear()
        self.compiled_begins()

    def evaluation_begins(self) -> None:
        """Record passes in evaluation mode from now on."""
        self.evaluating = True
        self.notices -= set(OF_EVALUATIONS)

    def evaluation_ends(self) -> None:
        """Record passes in training mode again."""
        self.evaluating = False

    def step_begins(self, *, intercept: bool, paused: bool = False) -> None:
        """Forget the passes of the last step.

        Parameters
        ----------
        intercept : bool
            Whether to look for functional calls that are not known yet.
        paused : bool
            Whether no training pass of this step is recorded.
        """
        self.intercept, self._paused = intercept, paused
        self._next.clear()
        self._depth = 0
        self.notices.discard(Notice.NOT_TRAINING)
        self._without_gradient.clear()
        self.release()

    def release(self) -> None:
        """Take hooks off parameters."""
        while self._leaves:
            self._leaves.pop().remove()

    def active(self, training: bool) -> bool:
        """Whether passes in this mode can be recorded at all right now."""
        return training is not self.evaluating

    def net_value(self, info: SiteInfo, z: Tensor, *, training: bool, gradients: bool) -> Call | None:
        """Take in a net value; return the call it belongs to, or None where the pass is not recorded."""
        if not self._has_values(z):
            return None
        # The usual training pass is decided here, with nothing in between: every activation of every step comes by.
        if training and gradients and not self.evaluating and not self._paused and _backward_number() == -1:
            call: Call | None = self._call(self._train, info, self._count(info.site.layer))
        else:
            call = self._enter(info, training, gradients)
        if call is not None and call.collector.wants(Signal.NET_VALUE):
            self._feed(Signal.NET_VALUE, call, z if call.mask is None else call.unpadded(z))
        return call

    def _has_values(self, z: Tensor) -> bool:
        """Whether a tensor's values can be read; if not, say why."""
        if not z.is_cpu and z.is_cuda and torch.cuda.is_current_stream_capturing():
            self.notices.add(Notice.CAPTURED)
            return False
        if _is_wrapped(z):
            self.notices.add(Notice.TRANSFORMED)
            return False
        return True

    def masked(self, info: SiteInfo, x: Tensor | None) -> Call | None:
        """Take in a pass through a dropout that draws; return its call, or None where the pass is not recorded."""
        if x is not None and not self._has_values(x):
            return None
        return self._enter(info, True, torch.is_grad_enabled())

    def count(self, layer: str) -> int:
        """Count a pass that is not recorded, and return its call index."""
        return self._count(layer)

    def located(self, info: SiteInfo) -> SiteInfo:
        """Return a site with the nodes' dimension of the last layer's output, where layers are watched for it."""
        if self.axis_rule is None or info.site.axis_rule == self.axis_rule:
            return info
        return SiteInfo(replace(info.site, axis_rule=self.axis_rule), info.activation)

    def watch(self, call: Call, z: Tensor, *, inplace: bool = False) -> None:
        """Take in dL/dz of a call's net value when it comes.

        Parameters
        ----------
        call : Call
        z : Tensor
        inplace : bool
            Whether the activation is about to overwrite z.
        """
        opened = self.expect_gradient(call)
        if opened is None or not z.requires_grad:
            return
        # A hook on a tensor stays with its value when an operation in place gives the tensor a new one, but a view that
        # is overwritten gets a new place in the graph: what it is a view of is watched instead. `_base` is private;
        # there is no public way from a view to its base.
        base = z._base if inplace else None
        if base is not None and base.dtype != z.dtype:
            return  # a real view of complex numbers: its gradient is missing
        watched = z if base is None else base
        part = None if base is None else _part(z, base)
        handle = watched.register_hook(_Gradient(self, call, part, opened))  # type: ignore[no-untyped-call]
        if watched.is_leaf:  # parameters outlive the step, other tensors take their hooks with them
            self._leaves.append(handle)

    def expect_gradient(self, call: Call) -> list[Opened] | None:
        """Return the sketches for dL/dz of a call, which stay empty until it comes; None where no probe wants it."""
        if call.collector is not self._train or not self._train.wants(Signal.NET_GRAD):
            return None
        return self._train.open(Signal.NET_GRAD, call.info, call.number)

    def net_grad(self, call: Call, gradient: Tensor) -> None:
        """Take in dL/dz of a call."""
        if call.collector.wants(Signal.NET_GRAD):
            if call.mask is not None:
                gradient = call.unpadded(gradient)
            if self.scaled:
                gradient = self._loss_scale.unscaled(gradient)
            call.collector.feed(Signal.NET_GRAD, call.info, call.number, gradient)

    def node_value(self, call: Call, h: Tensor) -> None:
        """Take in the node value of a call."""
        if call.collector.wants(Signal.NODE_VALUE):
            self._feed(Signal.NODE_VALUE, call, h if call.mask is None else call.unpadded(h))

    def _feed(self, signal: Signal, call: Call, tensor: Tensor) -> None:
        if self.intercepting:
            # What sketches compute is not to be intercepted as the model's own functions. Private: it is the one switch
            # that turns modes off as well; DisableTorchFunctionSubclass leaves them on.
            with torch._C.DisableTorchFunction():
                call.collector.feed(signal, call.info, call.number, tensor)
        else:
            call.collector.feed(signal, call.info, call.number, tensor)

    def raw_weight_grad(self, info: SiteInfo, gradient: Tensor | None) -> None:
        """Take in a weight's gradient each time a backward pass adds to it: the last one of a step counts."""
        if gradient is not None and self._train.wants(Signal.RAW_WEIGHT_GRAD):
            self._train.refeed(Signal.RAW_WEIGHT_GRAD, info, 0, self._loss_scale.unscaled(dense(gradient)))

    def output(self, info: SiteInfo, h: Tensor, *, training: bool, gradients: bool) -> None:
        """Take in the node value of a site that has no net value of its own."""
        call = self._enter(info, training, gradients)
        if call is not None:
            self.node_value(call, h)

    def _enter(self, info: SiteInfo, training: bool, gradients: bool) -> Call | None:
        layer = info.site.layer
        if not training:
            if gradients and not self.evaluating:
                self.notices.add(Notice.NOT_TRAINING)
            return self._call(self._held_out, info, self._count(layer)) if self.evaluating else None
        if self.evaluating:
            self.notices.add(Notice.TRAINING_IN_EVALUATION)
            return None
        if self._paused:
            return None
        if _backward_number() != -1:
            # Recomputed inside backward, so recorded in the first pass already: unless that one ran without gradients,
            # as under a reentrant checkpoint, where the first pass kept the call's number for this one.
            held = self._without_gradient[layer, _checkpoint()]
            return self._call(self._train, info, held.popleft()) if held and gradients else None
        index = self._count(layer)
        if not gradients:
            checkpoint = _checkpoint()
            if checkpoint:  # it comes again with gradients; other passes without gradients do not
                self._without_gradient[layer, checkpoint].append(index)
            return None
        return self._call(self._train, info, index)

    def _count(self, layer: str) -> int:
        if not self._depth:
            # A part of the model is called by itself. Nothing marks where such a pass begins, so its calls are pooled.
            self.notices.add(Notice.DIRECT_CALL)
            return 0
        index = self._next[layer]
        self._next[layer] += 1
        return index

    def _call(self, collector: Collector, info: SiteInfo, index: int) -> Call:
        self.passes[info.site.layer, index] += 1
        return Call(info, index, collector, self.mask)


class _Gradient:
    """Hook on a net value: its gradient is dL/dz of a call."""

    __slots__ = ("call", "opened", "part", "period", "router", "times")

    def __init__(
        self, router: PassRouter, call: Call, part: Callable[[Tensor], Tensor] | None, opened: list[Opened]
    ) -> None:
        self.router, self.call, self.part, self.times = router, call, part, 0
        self.opened, self.period = opened, call.collector.period

    def __call__(self, gradient: Tensor) -> None:
        begun = clock()
        router, call = self.router, self.call
        self.times += 1
        if self.times > 1:
            router.notices.add(Notice.SEVERAL_BACKWARDS)
        if self.part is not None:
            gradient = self.part(gradient)
        if call.info.site.gate_dim is not None:
            gradient = call.info.site.net(gradient)
        if call.collector.period == self.period and call.mask is None and not router.scaled:
            call.collector.update(self.opened, call.info, gradient)  # the sketches are known: no look-up
        else:  # its step is over, or it is not to be taken as it is
            router.net_grad(call, gradient)
        router.overhead.spent += clock() - begun


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient with all its values: the zeros that a sparse one does not store count as well."""
    return gradient.coalesce().to_dense() if gradient.is_sparse else gradient


def _checkpoint() -> int:
    """Return a number that identifies the reentrant checkpoint, the same in both of its passes; 0 outside of any."""
    # torch gives no handle to the checkpoint that a pass is part of. Both passes of a reentrant one run inside methods
    # of its autograd function, whose context `ctx` is the same object; non-reentrant ones have no such frame.
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if "ctx" in frame.f_code.co_varnames and frame.f_code.co_filename.endswith("checkpoint.py"):
            return id(frame.f_locals.get("ctx"))
        frame = frame.f_back
    return 0


def _part(z: Tensor, base: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that takes the gradient of a view out of the gradient of its base."""
    # Numbers alone are kept: a reference to z or its base would keep the activation's memory until backward.
    view = z.size(), z.stride(), z.storage_offset() - base.storage_offset()
    size, stride = base.size(), base.stride()

    def take(gradient: Tensor) -> Tensor:
        # Laid out as the base is: the gradient's own strides may be others.
        laid_out = torch.empty_strided(size, stride, dtype=gradient.dtype, device=gradient.device).copy_(gradient)
        return laid_out.as_strided(*view)

    return take
