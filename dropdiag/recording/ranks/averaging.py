"""Over how many ranks a training averages its gradients: by that number a rank's loss is too large.

A rank's loss is, as a rule, a mean over its own batch, and the ranks' gradients are averaged: the loss of the whole
step is the mean of those of the ranks. So dL/dz of the step is what comes on a rank, divided by the number of ranks.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.model.sharded import flat_modules, parameter_groups, sharded_modules
from dropdiag.recording.ranks.pipeline import PipelinePass

DDP = nn.parallel.DistributedDataParallel


def check_averaged_over(value: object) -> float | None:
    """Return ``averaged_over=`` as a number; None where it is not given.

    Raises
    ------
    ArgumentError
        If it is no positive number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or value == float("inf"):
        raise ArgumentError(
            f"averaged_over= takes the number of ranks that gradients are averaged over (1: none), got {value!r}"
        )
    return float(value)


class Averaging:
    """What the gradients that come on this rank are divided by.

    Parameters
    ----------
    model : nn.Module
    given : float or None
        What the user says; None: it is found.

    Attributes
    ----------
    found : dict
        In words: by what, and the number.
    stage : int or None
        The pipeline's stage that the model is, where it was seen to be one.
    """

    def __init__(self, model: nn.Module, given: float | None) -> None:
        self._model, self._given = model, given
        self._ddp: weakref.ref[DDP] | None = None
        self._inside: weakref.ref[DDP] | None = None
        self._pipeline: PipelinePass | None = None
        self.stage: int | None = None
        self._sharded: dict[int, Any] = {}
        self._flat: dict[int, Any] = {}
        self._last: dict[str, float | None] = {}
        self.found: dict[str, Any] = {} if given is None else {"kind": "as given", "averaged_over": given}

    def look(self) -> None:
        """Find the modules that DistributedDataParallel or FSDP has wrapped by now."""
        self._inside = next((weakref.ref(m) for m in self._model.modules() if isinstance(m, DDP)), None)
        self._sharded = {}
        for wrapped in sharded_modules(self._model):
            # one whose parameters are all those of modules inside has no group of its own
            groups = (groups for inner in sharded_modules(wrapped) if (groups := parameter_groups(inner)))
            if (group := next(groups, None)) is not None:
                self._sharded |= {id(module): group[0] for module in wrapped.modules()}
        self._flat = {id(m): weakref.ref(wrapped) for wrapped in flat_modules(self._model) for m in wrapped.modules()}

    def forward_begins(self) -> None:
        """Look at what the forward pass that begins runs in."""
        active = DDP._active_ddp_module  # private: the one mark of a pass, also where the module inside is recorded
        if active is not None and self.ddp is not active:
            self._ddp = weakref.ref(active)
        self._pipeline = PipelinePass.running()
        if self._pipeline is not None:
            self.stage = self._pipeline.stage

    @property
    def wrapped(self) -> bool:
        """Whether a part of the model is wrapped in DistributedDataParallel or FSDP."""
        return self.ddp is not None or bool(self._sharded) or bool(self._flat)

    @property
    def ddp(self) -> DDP | None:
        """The DistributedDataParallel whose passes were seen last, else the first one in the model, if any."""
        found = None if self._ddp is None else self._ddp()
        return self._inside() if found is None and self._inside is not None else found

    @property
    def skips_parameters(self) -> bool:
        """Whether a rank's backward pass may leave out parameters whose gradients come from the others."""
        return self.ddp is not None and bool(self.ddp.find_unused_parameters)

    @property
    def micro_batches(self) -> float:
        """By what a pipeline divides gradients when all of a step's micro-batches are through."""
        return 1.0 if self._pipeline is None else self._pipeline.micro_batches

    @property
    def of_shapes(self) -> bool:
        """Whether the pass that runs is one of a pipeline that looks for shapes alone."""
        return self._pipeline is not None and self._pipeline.of_shapes

    def divisor(self, layer: str, module: nn.Module, *, recomputed: bool = False) -> float | None:
        """Return what dL/dz of a pass is to be divided by; None where nobody can tell.

        Parameters
        ----------
        layer : str
        module : nn.Module
            That the pass goes through.
        recomputed : bool
            Whether it is run again inside a backward pass: it is what it was when it was run first.
        """
        # A reentrant checkpoint has run it without gradients before, when nobody asked: what wraps the model is known.
        if not recomputed or layer not in self._last:
            self._last[layer] = self._now(module)
        return self._last[layer]

    def _now(self, module: nn.Module) -> float | None:
        over = self._ranks(module) if self._given is None else self._given
        return None if over is None else over * self.micro_batches

    def _ranks(self, module: nn.Module) -> float | None:
        active = DDP._active_ddp_module
        if active is not None:
            return self._of_ddp(active)
        if (group := self._sharded.get(id(module))) is not None:
            return self._note("fully_shard", _of_group(group))
        wrapped = self._flat[id(module)]() if id(module) in self._flat else None
        if wrapped is not None:
            over = wrapped._gradient_predivide_factor * wrapped._gradient_postdivide_factor
            return self._note("FullyShardedDataParallel", over)
        return self._around()

    def _around(self) -> float | None:
        """Return the number for a module that nothing wraps: the parts of its model that are wrapped say it."""
        if (ddp := self.ddp) is not None:
            return self._of_ddp(ddp)
        if self._sharded:
            return self._note("fully_shard", _of_group(next(iter(self._sharded.values()))))
        return self._note("none", 1.0) if not self.found else 1.0

    def _of_ddp(self, ddp: DDP) -> float | None:
        config = getattr(ddp, "_join_config", None)
        if config is not None and config.enable and not ddp._divide_by_initial_world_size:
            return None  # by the number of ranks that have not joined yet, which nobody but the reducer knows
        return self._note("DistributedDataParallel", ddp.process_group.size())

    def _note(self, kind: str, over: float) -> float:
        if self.found.get("averaged_over") != over or self.found["kind"] != kind:
            self.found = {"kind": kind, "averaged_over": over}
        return float(over)


def _of_group(group: Any) -> float:
    if getattr(group, "gradient_divide_factor", None) is not None:
        return float(group.gradient_divide_factor)
    mesh = group.mesh_info
    return float(getattr(mesh, "shard_mesh_size", 1) * getattr(mesh, "replicate_mesh_size", 1))
