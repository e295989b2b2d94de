"""Decides which passes through a site are recorded, and routes their tensors to the open sketches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from dropdiag.functional.producers import Producers
from dropdiag.model.sites import Site
from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.backward import BackwardPasses, backward_number
from dropdiag.recording.batch import Batches
from dropdiag.recording.calls import Call
from dropdiag.recording.chain.chain import Chain
from dropdiag.recording.collector import Collector
from dropdiag.recording.following.axes import NodeAxes
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.net_gradients import NetGradients
from dropdiag.recording.notices import OF_EVALUATIONS, Notice
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.padding import PaddingLog
from dropdiag.recording.ranks.passes import RankedPasses, nothing
from dropdiag.recording.ranks.reduced import ReducedGradients
from dropdiag.recording.ranks.spread import Spread
from dropdiag.recording.readable import dense, has_no_values, is_wrapped, why_unread
from dropdiag.recording.recomputed import Recomputations, checkpoint_number
from dropdiag.recording.trace import ForwardTrace
from dropdiag.sketches.chain import NODE
from dropdiag.sketches.items import Source
from dropdiag.sketches.native import PLAIN

NETWORK_OUTPUT: Final = "network output"
"""The kind of what the network gives, which is a site of the chain alone."""
EXTRA_SCANS: Final = 10
"""Steps that are looked at more closely after a site has run for the first time, as it may not run in each of them."""


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
    axes : NodeAxes
    backward : BackwardPasses
        Tells which backward passes train.
    batches : Batches
        The items of the pass that runs.
    chain : Chain
        The tensors from each net value to the output.
    spread : Spread
        How the model is spread over ranks.
    on_failure : callable
        Called with the exception where gradients that ranks have reduced cannot be read.

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
    depth : int
        Forward passes of the model itself that are open, one inside the other; 0 where a part of it is called alone.
    following : bool
        Whether the tensors of this pass are followed through its functions.
    axes : NodeAxes
        Which dimension counts nodes at which site.
    producers : Producers or None
        Where the tensors of this pass come from; set by what intercepts functions.
    passes : Counter
        Recorded passes by (layer, call index).
    trace : ForwardTrace
        What the current forward pass runs.
    recomputations : Recomputations
        Passes without gradients that are waited for inside ``backward``.
    padding : PaddingLog
    ranks : RankedPasses
    gradients : NetGradients
        Of the net values of recorded passes.
    accumulated : set of str
        Layers of the weights that a backward pass of this step has added a gradient to.
    before_forward : callable
        Called where a forward pass of the model begins.
    on_batch : callable or None
        Called with what the model is called with, outside of evaluations.
    compiled_begins : callable
        Called where a compiled forward pass begins.
    on_hook_failure : callable
        Called with the exception where what a hook does fails.
    """

    def __init__(
        self,
        train: Collector,
        held_out: Collector,
        loss_scale: LossScale,
        overhead: Overhead,
        *,
        axes: NodeAxes,
        backward: BackwardPasses,
        batches: Batches,
        chain: Chain,
        spread: Spread,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._train, self._held_out, self._loss_scale, self.overhead = train, held_out, loss_scale, overhead
        self.backward, self.batches, self.chain = backward, batches, chain
        self.on_hook_failure: Callable[[Exception], None] = _raise
        self.evaluating = False
        self.mask: Tensor | None = None
        self.notices: set[Notice] = set()
        self.following = False
        self.axes = axes
        self.producers: Producers | None = None
        self.intercepting = False
        self.intercept = True
        self._paused = False
        self._extra_scans = 0
        self.before_forward: Callable[[], None] = nothing
        self.on_batch: Callable[[Sequence[object], Mapping[str, object]], None] | None = None
        self.depth = 0
        self.passes: Counter[tuple[str, int]] = Counter()
        self.trace = ForwardTrace()
        self.compiled_begins: Callable[[], object] = nothing
        self._next: dict[str, int] = {}
        self.recomputations = Recomputations()
        self.padding = PaddingLog()
        self.accumulated: set[str] = set()
        reduced = ReducedGradients(
            *(spread, train, loss_scale, overhead), accumulated=self.accumulated, on_failure=on_failure
        )
        self.ranks = RankedPasses(spread, reduced, train, held_out)
        self.gradients = NetGradients(
            *(train, loss_scale, overhead), backward=backward, chain=chain, ranks=self.ranks, notices=self.notices
        )
        self.gradients.on_failure = chain.on_failure = self.hook_failed
        self._alone = spread.averaging is None  # of a process alone, no hook asks anything of ranks

    def hook_failed(self, error: Exception) -> None:
        """Take note that what a hook does has failed."""
        self.on_hook_failure(error)

    def forward_begins(self) -> bool:
        """Reset the call counters, unless the model called itself; return whether it did not."""
        self.depth += 1
        if self.depth == 1:
            self._next.clear()
            looks = self._looks
            self.ranks.forward_begins(looks=looks)
            self.trace.begin(wanted=looks)
            if not self.evaluating:
                self.chain.forward_begins()
        return self.depth == 1

    def batch_begins(self, args: Sequence[object], keywords: Mapping[str, object]) -> None:
        """Take in what the model is called with, where anybody asks for its items."""
        self.ranks.batch_begins(evaluating=self.evaluating)
        if self.on_batch is not None and not self.evaluating:
            self.on_batch(args, keywords)
        if (self._held_out if self.evaluating else self._train).wants(Signal.NODE_VALUE):
            self.batches.begin(args, keywords)

    @property
    def _looks(self) -> bool:
        """Whether this step or evaluation is one of those that look for what is not known yet."""
        return self.intercept or self.evaluating

    def forward_ends(self) -> bool:
        """Return whether the outermost forward pass is over."""
        self.depth = max(self.depth - 1, 0)
        if self.depth == 0:
            self.trace.end()
            self.batches.end()
            self.chain.forward_ends()
        return self.depth == 0

    def outputs(self, model: nn.Module, output: object) -> None:
        """Take in what the model gives, at the end of a training pass."""
        if self.depth == 1 and self.chain.inside and torch.is_grad_enabled():
            begun = clock()
            with torch._C.DisableTorchFunction():
                self.chain.end(output, partial(self._output_call, model), self._has_values)
            self.overhead.spent += clock() - begun

    def _output_call(self, model: nn.Module, name: str) -> Call:
        call = Call(SiteInfo(Site(name, NETWORK_OUTPUT, model), None), 0, self._train, self.mask)
        if not self._alone:
            self.ranks.divide(call, again=False)
        return call

    def forward_is_over(self) -> None:
        """Take a forward pass for ended that was interrupted."""
        self.depth = 0
        self.batches.end()
        self.trace.end()
        self.chain.forward_ends()

    def compiled_forward_begins(self) -> None:
        """Reset the call counters for a compiled forward pass, which does not report its end."""
        self.notices.add(Notice.COMPILED)
        self.depth = 1
        self._next.clear()
        self.ranks.forward_begins(looks=self._looks)
        self.trace.begin(wanted=self._looks)
        self.chain.compiled_forward_begins()
        self.before_forward()
        self.compiled_begins()

    def calls(self, layer: str) -> int:
        """Return how often a site was passed in the current forward pass."""
        return self._next.get(layer, 0)

    def evaluation_begins(self) -> None:
        """Record passes in evaluation mode from now on."""
        self.evaluating = True
        self.ranks.evaluation_begins()
        self.batches.forget()
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
        self.intercept, self._paused = intercept or self._extra_scans > 0, paused
        self._extra_scans = max(self._extra_scans - 1, 0)
        self._next.clear()
        self.depth = 0
        self.batches.forget()
        self.trace.end()
        self.chain.forward_ends()
        self.notices.discard(Notice.NOT_TRAINING)
        self.recomputations.clear()
        self.accumulated.clear()
        self.ranks.step_begins()
        self.backward.step_begins()
        self.gradients.release()

    @property
    def period(self) -> int:
        """A number that changes with every training step."""
        return self._train.period

    def end(self) -> None:
        """Take hooks off parameters, and call nobody any more."""
        self.before_forward = self.ranks.first_look = nothing
        self.on_batch = None
        self.gradients.release()

    def net_value(self, info: SiteInfo, z: Tensor, *, training: bool, gradients: bool) -> Call | None:
        """Take in a net value; return the call it belongs to, or None where the pass is not recorded."""
        if type(z) not in PLAIN:
            held = self.ranks.held(info, z, self._train if training else self._held_out)
            if held is None:
                return None
            z = held
        if type(z) not in PLAIN or not z.is_floating_point() or z.layout is not torch.strided or z.is_nested:
            self._refuse(self._train if training else self._held_out, info, z)
            return None
        # The usual training pass is decided here, with nothing in between: every activation of every step comes by.
        if not (z.is_cpu and self._alone and not is_wrapped(z)) and not self._has_values(z):
            return None
        if training and gradients and not self.evaluating and not self._paused and backward_number() == -1:
            call: Call | None = self._call(self._train, info, self._count(info, z.ndim))
        else:
            call = self._enter(info, z.ndim, training, gradients)
        if call is None:
            return None
        if call.mask is not None:
            self.padding.note(call, z)
        if Signal.NET_VALUE in call.collector.active:
            self._feed(Signal.NET_VALUE, call, z if call.mask is None else call.unpadded(z))
        return call

    def _has_values(self, z: Tensor) -> bool:
        """Whether a tensor's values can be read now; if not, say why."""
        if not z.is_cpu and z.is_cuda and torch.cuda.is_current_stream_capturing():
            self.notices.add(Notice.CAPTURED)
            return False
        if is_wrapped(z):
            self.notices.add(Notice.TRANSFORMED)
            return False
        if z.is_meta:
            self.notices.add(Notice.NO_VALUES)
            return False
        return self._alone or not self.ranks.of_shapes(alone=not self.depth, looks=self._looks)

    def masked(self, info: SiteInfo, x: Tensor | None) -> Call | None:
        """Take in a pass through a dropout that draws; return its call, or None where the pass is not recorded."""
        if type(x) in PLAIN and x is not None and not self._has_values(x):
            return None
        return self._enter(info, x.ndim if type(x) in PLAIN and x is not None else 0, True, torch.is_grad_enabled())

    def count(self, info: SiteInfo) -> int:
        """Count a pass that is not recorded, and return its call index; 0 where it is computed again for a gradient."""
        return self._count(info, 0) if backward_number() == -1 else 0

    def pass_by(self, layer: str) -> None:
        """Count a call that has no site yet, so that the calls after it keep their indices once it has one."""
        if self.depth:
            self._next[layer] = self._next.get(layer, 0) + 1

    def _refuse(self, collector: Collector, info: SiteInfo, tensor: Tensor) -> None:
        """Note that a tensor of a site is not read, and why."""
        if has_no_values(tensor):
            self.notices.add(Notice.NO_VALUES)
        elif (reason := why_unread(tensor)) is not None:
            collector.refuse(info, reason)

    def located(self, info: SiteInfo, z: Tensor) -> SiteInfo:
        """Return a site with the dimension that counts nodes in its net value, as followed in this pass."""
        return info if self.producers is None else self.axes.located(info, self.producers.trail(z))

    def carry(self, args: Sequence[object], h: Tensor) -> None:
        """Follow an activation module whose function is not known, from its input to its output."""
        if self.producers is not None and args and isinstance(args[0], Tensor):
            self.producers.carry(args[0], h)

    def node_value(self, call: Call, h: Tensor) -> None:
        """Take in the node value of a call, and its gradient when that comes."""
        if call.collector.wants(Signal.CHAIN):
            self.chain_tensor(call, NODE, h)
        self._node_value(call, h)

    def _node_value(self, call: Call, h: Tensor) -> None:
        if call.collector.wants(Signal.NODE_VALUE):
            held = h if type(h) in PLAIN else self.ranks.held(call.info, h, call.collector)
            if held is None:
                return
            h = held
            values = h if call.mask is None else call.unpadded(h)
            self._feed(Signal.NODE_VALUE, call, values, self.batches.source(None if values is h else call.mask))

    def chain_tensor(self, call: Call, kind: str, tensor: object) -> None:
        """Take in the gradient of a tensor of the chain when it comes."""
        if not (isinstance(tensor, Tensor) and self.chain.wants(call)):
            return
        if self.intercepting:  # as in `_feed`
            with torch._C.DisableTorchFunction():
                self.chain.take(call, kind, tensor)
        else:
            self.chain.take(call, kind, tensor)

    def _feed(self, signal: Signal, call: Call, tensor: Tensor, source: Source | None = None) -> None:
        if self.intercepting:
            # What sketches compute is not to be intercepted as the model's own functions. Private: it is the one switch
            # that turns modes off as well; DisableTorchFunctionSubclass leaves them on.
            with torch._C.DisableTorchFunction():
                call.collector.feed(signal, call.info, call.number, tensor, source)
        else:
            call.collector.feed(signal, call.info, call.number, tensor, source)

    def weight_grad(self, info: SiteInfo, gradient: Tensor | None) -> None:
        """Take in a weight's gradient each time a backward pass adds to it: the last one of a step counts."""
        self.accumulated.add(info.site.layer)
        if gradient is not None and self._train.wants(Signal.RAW_WEIGHT_GRAD):
            if self.ranks.is_reduced_later(info):
                return
            self._train.refeed(Signal.RAW_WEIGHT_GRAD, info, 0, self._loss_scale.unscaled(dense(gradient)))

    def output(self, info: SiteInfo, h: Tensor, *, training: bool, gradients: bool) -> None:
        """Take in the node value of a site that has no net value of its own."""
        held = self.ranks.held(info, h, self._train if training else self._held_out)
        if held is None:
            return
        h = held
        of_shapes = self.ranks.of_shapes(alone=not self.depth, looks=self._looks)
        if has_no_values(h) or why_unread(h) is not None or of_shapes:
            self._refuse(self._train if training else self._held_out, info, h)
            return
        call = self._enter(info, h.ndim, training, gradients)
        if call is not None:
            if call.mask is not None:
                self.padding.note(call, h)
            self._node_value(call, h)

    def refused(self, layer: str) -> str | None:
        """Return why tensors of a layer are not read, None if they are."""
        return self._train.refused.get(layer) or self._held_out.refused.get(layer)

    def _enter(self, info: SiteInfo, ndim: int, training: bool, gradients: bool) -> Call | None:
        layer = info.site.layer
        if not training:
            if gradients and not self.evaluating:
                self.notices.add(Notice.NOT_TRAINING)
            return self._call(self._held_out, info, self._count(info, ndim)) if self.evaluating else None
        if self.evaluating:
            self.notices.add(Notice.TRAINING_IN_EVALUATION)
            return None
        if self._paused:
            return None
        if backward_number() != -1:
            return self._recomputed(info) if gradients else None
        index = self._count(info, ndim)
        if not gradients:
            checkpoint = checkpoint_number()
            if checkpoint:  # it comes again with gradients; other passes without gradients do not
                self.recomputations.expect(layer, checkpoint, index)
            return None
        return self._call(self._train, info, index)

    def _recomputed(self, info: SiteInfo) -> Call | None:
        # Recomputed inside backward, so recorded in the first pass already: unless that one ran without gradients, as
        # under a reentrant checkpoint, where the first pass kept the call's number for this one.
        layer, checkpoint = info.site.layer, checkpoint_number()
        index = self.recomputations.take(layer, checkpoint)
        if index is not None:
            return self._call(self._train, info, index, recomputed=True)
        for index in self.recomputations.once_more(layer, checkpoint):  # in the backward pass of a second loss
            self.gradients.spoil(Call(info, index, self._train, None))
        return None

    def _count(self, info: SiteInfo, ndim: int) -> int:
        if not self.depth:
            # A part of the model is called by itself. Nothing marks where such a pass begins, so its calls are pooled.
            self.notices.add(Notice.DIRECT_CALL)
            return 0
        layer = info.site.layer
        index = self._next.get(layer, 0)
        self._next[layer] = index + 1
        if self.trace.on:
            self.trace.note(layer, index)
        elif (layer, index) not in self.trace.order.places:  # it runs for the first time, in a step that is not traced
            self.look_closer()
        if self.following and ndim:  # without a dimension there is none to learn
            self.axes.learn(info, index, ndim)
        return index

    def look_closer(self) -> None:
        """Look at the next steps more closely: something runs that was not known."""
        self._extra_scans = EXTRA_SCANS

    def _call(self, collector: Collector, info: SiteInfo, index: int, *, recomputed: bool = False) -> Call:
        place = info.site.layer, index
        self.passes[place] += 1
        if place in self.axes.learned:
            info = self.axes.learned[place][0]
        call = Call(info, index, collector, self.mask, recomputed=recomputed)
        if not self._alone and collector is self._train:
            self.ranks.divide(call, again=recomputed or backward_number() != -1)
        return call


def _raise(error: Exception) -> None:
    raise error
