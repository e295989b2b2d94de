"""A model on its ranks: what its loss is a part of, what this rank holds of it, and what to call the rank by."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dropdiag.model.sharded import parameter_groups, sharded_modules
from dropdiag.model.sites import Site
from dropdiag.recording.parts import Part, is_distributed, part_of
from dropdiag.recording.ranks.averaging import Averaging
from dropdiag.recording.ranks.group import Group
from dropdiag.recording.ranks.weights import HeldWeights

NOT_AVERAGED = (
    "gradients of this model are averaged over ranks by nothing that is known (DistributedDataParallel, fully_shard, "
    "FSDP): each rank's loss is taken for the whole step's. If you average them yourself, give the number of ranks, "
    "averaged_over={world_size}: else gradient flow is that many times too large"
)


class Spread:
    """How a model is spread over ranks.

    Parameters
    ----------
    model : nn.Module
    group : Group or None
        None for a process alone.
    averaged_over : float or None
        As for the Recorder.

    Attributes
    ----------
    averaging : Averaging or None
        None where a rank's loss is the whole step's.
    weights : HeldWeights
    batch : tuple of int
        The ranks that have this one's batch (tensor parallel), it among them; empty where it has its own.
    sharded : set of str
        Layers of which this rank has recorded a part that no other one holds.
    """

    def __init__(self, model: nn.Module, group: Group | None, averaged_over: float | None) -> None:
        self._model, self._group = model, group
        self.batch: tuple[int, ...] = ()
        alone = group is None and averaged_over is None
        averaging = Averaging(model, averaged_over)
        self.averaging = None if alone else averaging
        self.weights = HeldWeights(model, averaging)
        self.sharded: set[str] = set()
        self.look()

    def look(self) -> None:
        """Find what is wrapped and sharded by now: it may be so after the Recorder was opened."""
        if self.averaging is not None:
            self.averaging.look()
        self.weights.look()
        if self._group is not None:
            self.batch = self.weights.batch = self._tensor_parallel()
            self.weights.rank = self._group.rank

    @property
    def known(self) -> bool:
        """Whether the model is wrapped or sharded by now."""
        return bool(self.batch) or (self.averaging is not None and self.averaging.wrapped)

    def part(self, site: Site, tensor: Tensor) -> Part:
        """Return what this rank is to count of a tensor of a site that is spread over ranks."""
        if site.gate_dim is not None and is_distributed(tensor):
            return Part(None, why="which half of a gated unit a rank holds is not known")
        part = part_of(tensor)
        if part.sharded:
            self.sharded.add(site.layer)
        return part

    def describe(self) -> dict[str, Any]:
        """Return what ``run.json`` says of the rank beside its number."""
        told: dict[str, Any] = {}
        if self.averaging is not None and self.averaging.found:
            told["parallel"] = self.averaging.found
        if self.averaging is not None and self.averaging.stage is not None:
            told["stage"] = self.averaging.stage
        if self.batch and self._group is not None:
            shared = {"batch": f"ranks {', '.join(map(str, self.batch))}", "shard": self.batch.index(self._group.rank)}
            told |= shared
        return told

    def place(self) -> tuple[int, int]:
        """Return this rank's place among those that have batches of their own, and how many these are."""
        if self._group is None:
            return 0, 1
        # the first of the ranks that share a batch stands for all
        first = self.batch[0] if self.batch else self._group.rank
        return first, max(self._group.world_size // max(len(self.batch), 1), 1)

    def warning(self) -> str | None:
        """Return what a user should know once a training pass was seen."""
        if self._group is None or self.averaging is None or self.averaging.found.get("kind") != "none":
            return None
        if self.averaging.stage is not None or self.batch:
            return None
        return NOT_AVERAGED.format(world_size=self._group.world_size)

    def _tensor_parallel(self) -> tuple[int, ...]:
        """Return the ranks that share this one's batch, itself among them; nothing without tensor parallelism."""
        for spec, own in self._specs():
            names = spec.mesh.mesh_dim_names
            over = [d for d in range(spec.mesh.ndim) if own is None or names is None or names[d] not in own]
            coordinate = spec.mesh.get_coordinate()
            if coordinate is None or not over or (own is not None and names is None):
                continue
            at = tuple(slice(None) if d in over else coordinate[d] for d in range(spec.mesh.ndim))
            ranks = spec.mesh.mesh[at].reshape(-1).tolist()
            return tuple(ranks) if len(ranks) > 1 else ()
        return ()

    def _specs(self) -> list[tuple[Any, tuple[str, ...] | None]]:
        """Return how parameters are spread, with the names of the mesh dimensions that data parallelism takes."""
        found: list[tuple[Any, tuple[str, ...] | None]] = []
        managed: set[int] = set()
        for group in (g for wrapped in sharded_modules(self._model) for g in parameter_groups(wrapped)):
            names = group.mesh_info.mesh.mesh_dim_names
            managed |= {id(p.sharded_param) for p in group.fsdp_params}
            found += [(p.sharded_param._spec, names or ()) for p in group.fsdp_params if p.is_dtensor]
        others: list[Any] = [p for p in self._model.parameters() if is_distributed(p) and id(p) not in managed]
        return [*found, *((parameter._spec, None) for parameter in others)][:1]
