"""Weights' gradients as ``backward()`` left them on all ranks: after they were reduced, before they are clipped."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Variable

from dropdiag.probes.base import Signal, SiteInfo
from dropdiag.recording.collector import Collector
from dropdiag.recording.loss_scale import LossScale
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.recording.ranks.spread import Spread
from dropdiag.recording.readable import dense


class ReducedGradients:
    """Reads gradients when a backward pass is over, with what ranks exchange at its end.

    A hook on a weight comes before ranks reduce its gradient. They do so in callbacks that the engine runs when the
    graph is through, some of which are queued by others: ours queues itself once more, and so comes after them.

    Parameters
    ----------
    spread : Spread
    train : Collector
    loss_scale : LossScale
    overhead : Overhead
    accumulated : set of str
        Layers of the weights that a backward pass of the step has added a gradient to.
    on_failure : callable
        Called with what went wrong: nothing is raised inside the user's ``backward()``.
    """

    def __init__(
        self,
        spread: Spread,
        train: Collector,
        loss_scale: LossScale,
        overhead: Overhead,
        *,
        accumulated: set[str],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._spread, self._train, self._loss_scale, self._overhead = spread, train, loss_scale, overhead
        self._accumulated, self._on_failure = accumulated, on_failure
        self._waiting: dict[str, SiteInfo] = {}
        self._skipped: dict[str, SiteInfo] = {}
        self._asked = False

    def step_begins(self) -> None:
        """Forget the last step, and a backward pass in it that was interrupted."""
        self._waiting.clear()
        self._skipped = {}
        self._asked = False

    def wait_for(self, info: SiteInfo) -> None:
        """Read a weight's gradient when the backward pass that this comes from is over."""
        self._waiting[info.site.layer] = info
        self._ask()

    @property
    def asks(self) -> bool:
        """Whether there may be gradients that no hook on a weight tells of."""
        wanted = self._train.wants(Signal.RAW_WEIGHT_GRAD) or self._train.wants(Signal.WEIGHT_GRAD)
        return wanted and self._spread.weights.unwatched

    def backward_begins(self) -> None:
        """Read the gradients that no hook of ours tells of, when the backward pass is over."""
        if self.asks:
            self._skipped |= self._spread.weights.without_gradient()
            self._ask()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            _queue(lambda: _queue(self._over))

    def _over(self) -> None:
        begun = clock()
        self._asked = False
        try:
            with torch.no_grad():
                for info in (self._skipped | self._waiting | self._spread.weights.spread).values():
                    self._read(info)
            if not self._spread.weights.unwatched:
                self._waiting.clear()  # a pipeline's other stage may be done, and its gradients scaled
        except Exception as error:  # noqa: BLE001 - it is inside the user's backward()
            self._on_failure(error)
        self._overhead.spent += clock() - begun

    def _read(self, info: SiteInfo) -> None:
        gradient = self._spread.weights.gradient(info.site)
        if gradient is not None:
            self._accumulated.add(info.site.layer)
            self._train.refeed(Signal.RAW_WEIGHT_GRAD, info, 0, self._of_step(gradient))

    def _of_step(self, gradient: Tensor) -> Tensor:
        gradient = self._loss_scale.unscaled(dense(gradient))
        averaging = self._spread.averaging
        batches = 1.0 if averaging is None else averaging.micro_batches
        return gradient if batches == 1.0 else gradient / batches


def _queue(call: Callable[[], None]) -> None:
    # Private, and what DistributedDataParallel and FSDP use themselves.
    Variable._execution_engine.queue_callback(call)
