"""Passes of a pipeline's stage, as ``torch.distributed.pipelining`` runs them."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Final, NamedTuple

DEPTH: Final = 40
"""Frames that are looked at above a forward pass."""
_STAGE: Final = "torch.distributed.pipelining.stage"
_SCHEDULES: Final = "torch.distributed.pipelining.schedules"
_INFERENCE: Final = ("_forward_metadata_inference", "_shape_inference")
"""Methods of a stage that run it to learn shapes."""


class PipelinePass(NamedTuple):
    """A forward pass of a stage.

    Attributes
    ----------
    stage : int
    micro_batches : float
        By how many micro-batches the schedule divides gradients at the end of a step; 1: by none.
    of_shapes : bool
        Whether it is run for the shapes alone, before the first step.
    """

    stage: int
    micro_batches: float
    of_shapes: bool

    @staticmethod
    def running() -> PipelinePass | None:
        """Return the pass that calls this function; None outside of a pipeline."""
        if _STAGE not in sys.modules:
            return None
        stage: Any = None
        schedule: Any = None
        of_shapes = False
        frame: FrameType | None = sys._getframe(1)
        for _ in range(DEPTH):
            if frame is None:
                break
            module = frame.f_globals.get("__name__")
            if module == _STAGE and stage is None and hasattr(frame.f_locals.get("self"), "stage_index"):
                stage = frame.f_locals["self"]
            of_shapes |= module == _STAGE and frame.f_code.co_name in _INFERENCE
            if module == _SCHEDULES and hasattr(frame.f_locals.get("self"), "_n_microbatches"):
                schedule = frame.f_locals["self"]
                break
            frame = frame.f_back
        if stage is None:
            return None
        scaled = schedule is not None and getattr(schedule, "scale_grads", True)
        return PipelinePass(int(stage.stage_index), float(schedule._n_microbatches) if scaled else 1.0, of_shapes)
