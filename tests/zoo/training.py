"""Train a network of the zoo bare, recorded, and under the slow reader."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

import dropdiag as dd
from dropdiag.recording.notices import DISK_IS_SLOW
from tests.zoo.network import Network
from tests.zoo.slow_reader import SlowReader
from tests.zoo.tally import Pass


@dataclass
class Weights:
    """Effective weight matrices of one network as they stand after a step, and their gradients."""

    values: list[np.ndarray]
    gradients: list[np.ndarray | None]


@dataclass
class Trained:
    """What a training left."""

    losses: list[Tensor] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    state: dict[str, Tensor] = field(default_factory=dict)
    random: list[Any] = field(default_factory=list)
    coverage: dict[str, list[Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    passes: list[dict[str, list[Pass]]] = field(default_factory=list)
    weights: list[dict[str, Weights]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    evaluate: Callable[[], dict[str, list[Pass]]] = dict
    parts: dict[str, nn.Module] = field(default_factory=dict)


def bare(network: Network) -> Trained:
    """Train without anything."""
    trained, model = Trained(), network.make()
    parts = network.parts(model)
    _train(network, model, parts, trained)
    return trained


def recorded(network: Network, folder: Path) -> Trained:
    """Train with a Recorder on each part; the run folders are called as the parts."""
    trained, model = Trained(), network.make()
    parts = network.parts(model)
    with warnings.catch_warnings(record=True) as caught, ExitStack() as stack:
        warnings.simplefilter("always", dd.DropdiagWarning)
        recorders = {
            name: stack.enter_context(dd.Recorder(part, folder / name, probes="full", every=1, strict=True))
            for name, part in parts.items()
        }

        def after_step() -> None:
            for recorder in recorders.values():
                recorder.step()

        evaluations = (recorder.evaluation() for recorder in recorders.values())
        _train(network, model, parts, trained, after_step, evaluations)
        trained.coverage = {name: list(recorder.coverage()) for name, recorder in recorders.items()}
    messages = [str(w.message) for w in caught if issubclass(w.category, dd.DropdiagWarning)]
    trained.warnings = [m for m in messages if m != DISK_IS_SLOW]  # a matter of the machine's load
    return trained


def read_slowly(network: Network) -> Trained:
    """Train under the slow reader; the last entry of ``passes`` is the evaluation's."""
    trained, model = Trained(), network.make(twin=True)
    parts = network.parts(model)
    reader = SlowReader(parts, network.composites, network.also)

    def after_step() -> None:
        trained.passes.append(reader.step_ends())
        trained.weights.append({name: Weights(*_weights(part)) for name, part in parts.items()})

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation for ATen; hooks turn it off too
    try:
        with reader:
            _train(network, model, parts, trained, after_step)
            trained.passes.append(reader.step_ends(training=False))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    trained.dropped, trained.parts = reader.dropped, parts
    trained.evaluate = partial(_evaluate, network, model, reader)
    return trained


def _evaluate(network: Network, model: nn.Module, reader: SlowReader) -> dict[str, list[Pass]]:
    """Return the passes of the evaluation, gone through once more."""
    model.eval()
    with torch.no_grad(), reader:
        network.loss(model, network.batches()[-1])
    model.train()
    return reader.step_ends(training=False)


def _train(network, model, parts, trained, after_step=lambda: None, evaluations: Iterable[Any] = ()) -> None:
    watches = [part.register_forward_hook(partial(_keep_output, trained)) for part in parts.values()]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state that networks draw from
    *batches, held_out = network.batches()
    optimizers = network.optimizers(parts)
    for batch in batches:
        trained.losses += network.train_step(parts, optimizers, batch)
        after_step()
    model.eval()
    with ExitStack() as stack, torch.no_grad():
        for evaluation in evaluations:
            stack.enter_context(evaluation)
        trained.losses.append(network.loss(model, held_out))
    model.train()
    for watch in watches:
        watch.remove()
    trained.state = {name: tensor.detach().clone() for name, tensor in _tensors(model)}
    trained.state |= {f"{n}.grad": p.grad.to_dense().clone() for n, p in model.named_parameters() if p.grad is not None}
    trained.random = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002
    trained.random += [repr(value) for value in _own_state(model)]


def _keep_output(trained: Trained, module: nn.Module, args: Any, output: Any) -> None:
    trained.outputs.append(_copied(output))


def _copied(nested: Any) -> Any:
    """Return an output as plain lists and copies of its tensors, the names of its fields among them."""
    if isinstance(nested, Tensor):
        return nested.detach().clone()
    if is_dataclass(nested) and not isinstance(nested, Mapping):
        nested = vars(nested)
    if isinstance(nested, Mapping):
        return [(name, _copied(value)) for name, value in nested.items()]
    return [_copied(value) for value in nested] if isinstance(nested, (list, tuple)) else repr(nested)


def same_output(one: Any, other: Any, rtol: float) -> bool:
    """Whether two outputs that were kept are the same: fields, their order, and values (to `rtol`; 0: bit for bit)."""
    if isinstance(one, Tensor):
        if rtol == 0 or not one.is_floating_point():
            return torch.equal(one.nan_to_num(), other.nan_to_num()) and one.dtype == other.dtype
        return torch.allclose(one, other, rtol=rtol, atol=rtol)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same_output(a, b, rtol) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Give parameters and buffers, those that no state dict holds as well."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _own_state(model: nn.Module) -> Iterator[Any]:
    """Give what modules keep for themselves: modes, counters, masks, generators."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Generator):
                yield name, key, value.get_state().tolist()
            elif isinstance(value, Tensor):
                yield name, key, value.tolist()
            elif isinstance(value, (bool, int, float)):
                yield name, key, value


def _weights(model: nn.Module) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Return every physical matrix once, and what parametrisations make of theirs."""
    values, gradients = [], []
    for name, parameter in model.named_parameters():
        part = name.endswith(("_g", "_v", "_orig", "_raw")) or ".parametrizations." in f".{name}"
        if parameter.ndim >= 2 and not part:
            values.append(_numpy(parameter))
            gradients.append(None if parameter.grad is None else _numpy(parameter.grad))
    for module in model.modules():
        values += [_numpy(weight) for weight in _made_by_hooks(module)]
        for parameter in getattr(module, "parametrizations", {}):
            parts = [part for part in module.parametrizations[parameter].modules() if part.training]
            for part in parts:
                part.training = False  # spectral norm takes a step where it is read in training
            values.append(_numpy(getattr(module, parameter)))
            gradients.append(None)
            for part in parts:
                part.training = True
    return values, gradients


def _made_by_hooks(module: nn.Module) -> Iterator[Tensor]:
    """Give the weights that forward pre-hooks of torch's make, as the next forward pass would."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm):
            yield hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            yield hook.compute_weight(module)
        elif isinstance(hook, prune.BasePruningMethod):
            yield hook.apply_mask(module)
    for name in module._parameters:
        if name.endswith("_raw"):
            yield getattr(module, name.removesuffix("_raw"))


def _numpy(tensor: Tensor) -> np.ndarray:
    dense = tensor.detach().to_dense()
    return dense.to(torch.promote_types(dense.dtype, torch.float32)).numpy().copy()
