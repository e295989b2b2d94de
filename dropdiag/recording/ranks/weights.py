"""What this rank holds of a weight and its gradient, and whether it is the one that records them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from dropdiag.model.sharded import parameter_groups, sharded_modules
from dropdiag.model.sites import Site
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.parts import is_distributed, is_spread, local, part_of
from dropdiag.recording.ranks.averaging import DDP, Averaging
from dropdiag.sketches.native import PLAIN


class Held(NamedTuple):
    """A weight on this rank.

    Attributes
    ----------
    weight : Tensor or None
        A plain tensor, or of another class where it is not known how it is spread.
    here : bool
        Whether this rank records it; another one does otherwise.
    sharded : bool
        Whether it is a part that no other rank holds.
    why : str or None
        Why it cannot be read.
    owner : Tensor or None
        The parameter itself, which has the gradient.
    """

    weight: Tensor | None
    here: bool = True
    sharded: bool = False
    why: str | None = None
    owner: Tensor | None = None


class HeldWeights:
    """Finds what this rank holds of the weights of a model.

    Weights that DistributedDataParallel replicates are recorded by the first rank of its group. ``fully_shard`` puts
    other tensors into the modules for the time of a pass, and may leave them there, as old as they are: what the
    optimiser changes are the shards, which are read.

    Parameters
    ----------
    model : nn.Module
    averaging : Averaging
        Knows the DistributedDataParallel that the model runs in.

    Attributes
    ----------
    rank : int or None
    spread : dict
        Layer -> site of those of the recorded weights that are spread over ranks (DTensors): no hook of ours is on
        them.
    batch : tuple of int
        The ranks that have this one's batch (tensor parallel), it among them.
    """

    def __init__(self, model: nn.Module, averaging: Averaging) -> None:
        self._model, self._averaging = model, averaging
        self._sites: Sequence[SiteInfo] = ()
        self.rank: int | None = None
        self.batch: tuple[int, ...] = ()
        self.spread: dict[str, SiteInfo] = {}
        self._wrapped: dict[int, DDP] = {}
        self._shards: dict[tuple[int, str], Any] = {}

    def look(self) -> None:
        """Find the parameters that are replicated and sharded by now."""
        replicated = [module for module in self._model.modules() if isinstance(module, DDP)]
        self._wrapped = {id(module): ddp for ddp in replicated for module in ddp.modules()}
        groups = [group for wrapped in sharded_modules(self._model) for group in parameter_groups(wrapped)]
        self._shards = {}
        for parameter in (p for group in groups for p in group.fsdp_params):
            info = parameter._module_info
            self._shards[id(info.module), info.param_name] = parameter
            shared = zip(info.shared_modules, info.shared_param_names, strict=True)
            self._shards |= {(id(module), name): parameter for module, name in shared}
        self.record(self._sites)

    def record(self, sites: Sequence[SiteInfo]) -> None:
        """Take note of the weights that are recorded."""
        self._sites = sites
        self.spread = {info.site.layer: info for info in sites if self._is_spread(info.site)}

    def _is_spread(self, site: Site) -> bool:
        return self.manages(site) or is_spread(site.module._parameters.get(site.parameter))

    def gradient(self, site: Site) -> Tensor | None:
        """Return what this rank is to count of a weight's gradient; None where there is none, or another rank does."""
        held = self.of(site)
        gradient = None if held.owner is None or not held.here else held.owner.grad
        return None if gradient is None else local(gradient)

    @property
    def unwatched(self) -> bool:
        """Whether there are weights whose gradients may come without a hook of ours."""
        return bool(self.spread) or self._averaging.skips_parameters

    def without_gradient(self) -> dict[str, SiteInfo]:
        """Return those that another rank may give a gradient in the backward pass that begins: none has one yet."""
        if not self._averaging.skips_parameters:
            return {}
        held = {info.site.layer: (info, self.of(info.site)) for info in self._sites if info.site.skipped is None}
        return {layer: info for layer, (info, one) in held.items() if one.here and _lacks_gradient(one.owner)}

    def manages(self, site: Site) -> bool:
        """Whether ``fully_shard`` holds a weight: the module may have other tensors under its name."""
        return (id(site.module), site.parameter) in self._shards

    def of(self, site: Site) -> Held:
        """Return what this rank holds of a weight right now."""
        shard = self._shards.get((id(site.module), site.parameter))
        weight = site.tensor() if shard is None else shard.sharded_param
        if weight is None:
            return Held(None)
        if not is_spread(weight):
            return Held(weight, here=self._is_first(site.module), owner=weight)
        if not self._stands_for_batch(weight):
            return Held(None, here=False, owner=weight)
        part = part_of(weight)
        here = part.tensor is not None or part.why is not None
        return Held(part.tensor, here=here, sharded=part.sharded, why=part.why, owner=weight)

    def _stands_for_batch(self, weight: Any) -> bool:
        """Whether this rank is the one that records, of those of its batch that are no part of the weight's mesh."""
        if self.rank in self.batch[:1] or not is_distributed(weight):
            return True
        inside = set(weight._spec.mesh.mesh.reshape(-1).tolist())
        return inside.issuperset(self.batch)

    def _is_first(self, module: nn.Module) -> bool:
        """Whether this rank records what is replicated."""
        ddp = self._wrapped.get(id(module)) if self._wrapped else self._averaging.ddp
        return ddp is None or ddp.process_group.rank() == 0


def _lacks_gradient(owner: Tensor | None) -> bool:
    return type(owner) in PLAIN and owner is not None and owner.is_leaf and owner.requires_grad and owner.grad is None
