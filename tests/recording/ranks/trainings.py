"""The trainings of a job, by name: how a model is spread over ranks, and what a step of it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tests.recording.ranks.networks import Mlp, data, network

BATCH = 32


@dataclass
class Made:
    """A model as it is called, and the module that the Recorder is given."""

    model: nn.Module
    recorded: nn.Module
    call: Any = None

    def __post_init__(self):
        self.call = self.model if self.call is None else self.call


@dataclass(frozen=True)
class Training:
    """One way to train on several ranks."""

    name: str = ""
    network: str = "mlp"
    dtype: torch.dtype = torch.float64
    spread: Any = None
    n_steps: int = 2
    micro: int = 1
    clip: float = 0.0
    autocast: bool = False
    uneven: bool = False
    evaluates: bool = True
    only: int | None = None  # the one rank that has a Recorder
    shards: bool = True  # each rank has its part of the batch
    averaged: bool = True  # ranks average their gradients
    options: dict[str, Any] = field(default_factory=lambda: {"probes": "full", "every": 1})

    def build(self, rank, world):
        return self.spread(network(self.network, self.dtype), rank, world)

    def steps(self, rank, world):
        return range(self.n_steps)

    def inside(self, made):
        """Return what the loop over the steps runs in."""
        return contextlib.nullcontext()

    def batch(self, step, rank, world, shape):
        x, y = data(shape, BATCH, step, self.dtype)
        if not self.shards:
            return x, y
        if self.uneven:  # one rank has a third of what the others have
            cut = BATCH // (3 * world)
            edges = [0, cut, *(cut + (BATCH - cut) * (r + 1) // (world - 1) for r in range(world - 1))]
            return x[edges[rank] : edges[rank + 1]], y[edges[rank] : edges[rank + 1]]
        return x[rank::world], y[rank::world]

    def shape(self, made):
        return next(m.shape for m in made.recorded.modules() if hasattr(m, "shape") and isinstance(m.shape, tuple))

    def forward_backward(self, made, step, rank, world, loss_of):
        made.model.train()
        x, y = self.batch(step, rank, world, self.shape(made))
        total = 0.0
        # of a global batch in order, so that the micro-batches of all ranks together are those of one process
        parts = list(zip(x.chunk(self.micro), y.chunk(self.micro), strict=True))
        for number, (part, labels) in enumerate(parts):
            last = number == len(parts) - 1
            waits = made.model.no_sync() if hasattr(made.model, "no_sync") and not last else contextlib.nullcontext()
            if hasattr(made.model, "set_requires_gradient_sync"):
                made.model.set_requires_gradient_sync(last)
            with waits:
                with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                    loss = loss_of(made.call(part).float() if self.autocast else made.call(part), labels)
                loss = loss / self.micro
                loss.backward()
            total = total + loss.detach()
        return total

    def evaluate(self, made, rank, world):
        x, _ = self.batch(99, rank, world, self.shape(made))
        made.call(x)


def ddp(model, rank, world, **options):
    wrapped = nn.parallel.DistributedDataParallel(model, **options)
    return Made(wrapped, wrapped)


def ddp_inside(model, rank, world):
    return Made(nn.parallel.DistributedDataParallel(model), model)


def ddp_parts(model, rank, world):
    """Wrap layers each by itself, with activations in between."""
    for name in ("fc1", "fc2", "out"):
        setattr(model, name, nn.parallel.DistributedDataParallel(getattr(model, name)))
    return Made(model, model)


def ddp_branched(model, rank, world, *, by):
    """Let a rank leave out a layer, whose gradient comes from the others."""
    model.skips = rank == by
    return ddp(model, rank, world, find_unused_parameters=True, gradient_as_bucket_view=True)


def averaging_hook(state, bucket):
    """Average in float64, as a hook of a user's own."""
    future = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])


def ddp_with_hook(model, rank, world):
    made = ddp(model, rank, world)
    made.model.register_comm_hook(None, averaging_hook)
    return made


def compiled(spread):
    """Compile what another way to spread a model gives."""

    def spread_and_compiled(model, rank, world):
        made = spread(model, rank, world)
        return Made(made.model, made.recorded, torch.compile(made.model, backend="aot_eager"))

    return spread_and_compiled


def by_hand(model, rank, world):
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(world)))
    return Made(model, model)


def fsdp(model, rank, world, *, inner=True, **options):
    from torch.distributed.fsdp import fully_shard

    for module in model.children() if inner else ():
        if list(module.parameters()):
            fully_shard(module, **options)
    fully_shard(model, **options)
    return Made(model, model)


def fsdp_layers(model, rank, world):
    """Shard layers, and not the model that they are in."""
    from torch.distributed.fsdp import fully_shard

    for name in ("fc1", "fc2", "out"):
        fully_shard(getattr(model, name))
    return Made(model, model)


def fsdp_mixed(model, rank, world):
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return fsdp(model, rank, world, mp_policy=policy, reshard_after_forward=False)


def fsdp_offloaded(model, rank, world):
    from torch.distributed.fsdp import CPUOffloadPolicy

    return fsdp(model, rank, world, offload_policy=CPUOffloadPolicy(pin_memory=False))


def fsdp_hybrid(model, rank, world):
    from torch.distributed.device_mesh import init_device_mesh

    return fsdp(model, rank, world, mesh=init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copies", "parts")))


def fsdp_first(model, rank, world, *, original):
    from torch.distributed.fsdp import FullyShardedDataParallel

    wrapped = FullyShardedDataParallel(model, use_orig_params=original, device_id=torch.device("cpu"))
    return Made(wrapped, wrapped)


def tensor_parallel(model, rank, world, mesh=None, **options):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = mesh or init_device_mesh("cpu", (world,), mesh_dim_names=("tp",))
    parallelize_module(model, mesh, {"fc1": ColwiseParallel(**options), "fc2": RowwiseParallel()})
    return Made(model, model)


def tensor_and_data_parallel(model, rank, world):
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))
    return fsdp(tensor_parallel(model, rank, world, mesh["tp"]).model, rank, world, inner=False, mesh=mesh["dp"])


class Late(Training):
    """The model is spread when the Recorder is open."""

    def build(self, rank, world):
        model = network(self.network, self.dtype)
        if rank:  # what ranks have before DistributedDataParallel gives all of them the weights of the first
            model.fc1.weight.data.add_(1.0 if self.spread is ddp else 0.0)
        return Made(model, model)

    @contextlib.contextmanager
    def inside(self, made):
        made.call = self.spread(made.model, dist.get_rank(), dist.get_world_size()).model
        yield


class DataAndTensors(Training):
    """Neighbours have one batch."""

    def batch(self, step, rank, world, shape):
        return super().batch(step, rank // 2, world // 2, shape)


@dataclass(frozen=True)
class Joined(Training):
    """The last rank has one step less, as ``Join`` allows."""

    by_all: bool = True

    def inside(self, made):
        return made.model.join(divide_by_initial_world_size=self.by_all)

    def steps(self, rank, world):
        return range(self.n_steps - (rank == world - 1))


class Stage(nn.Module):
    """One half of an MLP."""

    def __init__(self, layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Pipeline(Training):
    """Two stages, four micro-batches."""

    def build(self, rank, world):
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

        model = network(self.network, self.dtype)
        names = (("fc1", "act1"), ("fc2", "act2", "out"))[rank]
        stage = Stage({name: getattr(model, name) for name in names})
        piped = PipelineStage(stage, rank, world, torch.device("cpu"))
        schedule = ScheduleGPipe(piped, 4, loss_fn=nn.functional.cross_entropy)
        return Made(stage, stage, schedule)

    def forward_backward(self, made, step, rank, world, loss_of):
        made.model.train()
        x, y = data(Mlp.shape, BATCH, step, self.dtype)
        losses = []
        if rank == 0:
            made.call.step(x)
        else:
            made.call.step(target=y, losses=losses)
        return torch.stack(losses).mean() if losses else None


class Interleaved(Pipeline):
    """Two stages on each rank: the Recorder is given what holds both, which is never called itself."""

    def build(self, rank, world):
        from torch.distributed.pipelining import PipelineStage, ScheduleInterleaved1F1B

        model = network(self.network, self.dtype)
        model.end = nn.Identity()
        names = (("fc1", "act1"), ("drop", "fc2", "act2"), ("out",), ("end",))[rank::world]
        parts = [Stage({name: getattr(model, name) for name in some}) for some in names]
        holder = Stage({name: getattr(model, name) for some in names for name in some})
        device = torch.device("cpu")
        piped = [PipelineStage(part, rank + world * k, 2 * world, device) for k, part in enumerate(parts)]
        return Made(holder, holder, ScheduleInterleaved1F1B(piped, 4, loss_fn=nn.functional.cross_entropy))


def _named(**trainings):
    return {name: replace(training, name=name) for name, training in trainings.items()}


FLOAT = torch.float32
FEW = {"probes": ["weights", "weight_gradient_means", "raw_weight_gradient_means"], "every": 1}
TRAININGS = _named(
    ddp=Training(spread=ddp),
    ddp_cnn=Training(spread=ddp, network="cnn"),
    ddp_transformer=Training(spread=ddp, network="transformer"),
    ddp_uneven=Training(spread=ddp, uneven=True),
    ddp_accumulated=Training(spread=ddp_inside, micro=4, clip=0.05, dtype=FLOAT),
    ddp_hook=Training(spread=ddp_with_hook),
    ddp_static=Training(spread=lambda *a: ddp(*a, static_graph=True)),
    ddp_autocast=Training(spread=ddp, dtype=FLOAT, autocast=True),
    ddp_compiled=Training(spread=compiled(ddp), dtype=FLOAT),
    ddp_joined=Joined(spread=ddp, n_steps=3, evaluates=False),
    ddp_joined_by_rest=Joined(spread=ddp, n_steps=3, evaluates=False, by_all=False),
    ddp_late=Late(spread=ddp),
    ddp_parts=Training(spread=ddp_parts),
    ddp_branched=Training(spread=lambda *a: ddp_branched(*a, by=0), network="branched", evaluates=False),
    fsdp_late=Late(spread=fsdp),
    fsdp_layers=Training(spread=fsdp_layers),
    tensor_late=Late(spread=tensor_parallel, shards=False, averaged=False),
    ddp_checkpointed=Training(spread=ddp, network="checkpointed"),
    ddp_reentrant=Training(spread=ddp, network="reentrant"),
    fsdp_checkpointed=Training(spread=fsdp, network="checkpointed"),
    fsdp_reentrant=Training(spread=fsdp, network="reentrant"),
    ddp_inside_reentrant=Training(spread=ddp_inside, network="reentrant"),
    fsdp_compiled=Training(spread=compiled(fsdp), dtype=FLOAT),
    tensor_compiled=Training(spread=compiled(tensor_parallel), shards=False, averaged=False, dtype=FLOAT),
    tensor_autocast=Training(spread=tensor_parallel, shards=False, averaged=False, dtype=FLOAT, autocast=True),
    by_hand=Training(spread=by_hand, options={"probes": "full", "every": 1, "averaged_over": 2}),
    ten_plain=Training(spread=ddp, n_steps=10, dtype=FLOAT),
    ten_accumulated=Training(spread=ddp, n_steps=10, dtype=FLOAT, micro=4),
    ten_autocast=Training(spread=ddp, n_steps=10, dtype=FLOAT, autocast=True),
    ten_compiled=Training(spread=compiled(ddp), n_steps=10, dtype=FLOAT),
    ten_cnn=Training(spread=ddp, n_steps=10, dtype=FLOAT, network="cnn"),
    ten_transformer=Training(spread=ddp, n_steps=10, dtype=FLOAT, network="transformer"),
    fsdp=Training(spread=fsdp),
    fsdp_transformer=Training(spread=fsdp, network="transformer"),
    fsdp_few=Training(spread=fsdp, n_steps=4, options=FEW),
    fsdp_alone=Training(spread=fsdp, only=0),
    fsdp_accumulated=Training(spread=fsdp, micro=2, clip=0.05),
    fsdp_mixed=Training(spread=fsdp_mixed, dtype=FLOAT),
    fsdp_offloaded=Training(spread=fsdp_offloaded, dtype=FLOAT),
    fsdp_hybrid=Training(spread=fsdp_hybrid),
    fsdp_first=Training(spread=lambda *a: fsdp_first(*a, original=False), dtype=FLOAT),
    fsdp_first_original=Training(spread=lambda *a: fsdp_first(*a, original=True), dtype=FLOAT),
    tensor=Training(spread=tensor_parallel, shards=False, averaged=False),
    tensor_spread=Training(spread=lambda *a: tensor_parallel(*a, use_local_output=False), shards=False, averaged=False),
    tensor_and_data=DataAndTensors(spread=tensor_and_data_parallel),
    pipeline=Pipeline(dtype=FLOAT, shards=False, averaged=False, evaluates=False),
    pipeline_of_two=Interleaved(dtype=FLOAT, shards=False, averaged=False, evaluates=False),
)
