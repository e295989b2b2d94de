"""Whether random numbers are drawn: the states of all generators that a model can reach, compared.

Reading a state changes none, and does not make the host wait for a device.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

States: TypeAlias = dict[str, object]
"""State by the generator's name, in a form that can be compared."""

_OWN = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class RandomStates:
    """The generators of a model: torch's defaults, numpy's and Python's global ones, and those its modules hold.

    Parameters
    ----------
    model : nn.Module

    Notes
    -----
    A generator that a model reaches by a global variable alone is not found.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._own: dict[str, Any] = {}
        self._devices: list[torch.device] = []

    def find(self) -> None:
        """Look for devices and for generators of the model's own, which may have come since the last time."""
        tensors = (*self._model.parameters(), *self._model.buffers())
        self._devices = sorted({t.device for t in tensors if t.device.type not in ("cpu", "meta")}, key=str)
        self._own = dict(_generators(self._model))

    def read(self, *, thorough: bool) -> States:
        """Return all states as they stand.

        Parameters
        ----------
        thorough : bool
            Whether numpy's second normal number of a pair, which was drawn with the first, counts as drawn: asking for
            it takes thirty microseconds.
        """
        states: States = {
            "torch's default generator": _bytes(torch.default_generator.get_state()),
            "numpy's global state": _numpy_state(thorough=thorough),
            "Python's random": random.getstate(),
        }
        for device in self._devices:
            states[f"torch's default generator of {device}"] = _bytes(_device_state(device))
        for name, generator in self._own.items():
            states[name] = _state(generator)
        return states

    @staticmethod
    def capturing() -> bool:
        """Whether a CUDA graph is being captured, when states cannot be read."""
        return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def changed(before: States, after: States) -> list[str]:
    """Return the names of generators that have drawn between two readings."""
    return [name for name, state in before.items() if name in after and after[name] != state]


def _generators(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Give the generators among the attributes of a model's modules, and in their lists and dicts."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            for place, held in _held(value):
                if isinstance(held, _OWN):
                    library = type(held).__module__.partition(".")[0]
                    yield f"{library}'s generator at {path or '(model)'}.{name}{place}", held


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", held) for key, held in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{number}]", held) for number, held in enumerate(value))
    else:
        yield "", value


def _numpy_state(*, thorough: bool) -> object:
    """Return the state that np.random.rand() and the like use."""
    generator = np.random.get_bit_generator()  # type: ignore[attr-defined]
    if thorough or not isinstance(generator, np.random.MT19937):
        return _frozen(np.random.get_state())  # noqa: NPY002 - it is this one that is asked about
    # The memory of its 624 words and of its place among them, which change with every draw: `state` copies them one by
    # one, in twenty times the time.
    return ctypes.string_at(generator.ctypes.state_address, 625 * 4)


def _device_state(device: torch.device) -> Tensor:
    module = torch.get_device_module(device)
    state: Tensor = module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)
    return state


def _state(generator: Any) -> object:
    if isinstance(generator, torch.Generator):
        return _bytes(generator.get_state())
    if isinstance(generator, np.random.Generator):
        return _frozen(generator.bit_generator.state)
    return _frozen(generator.get_state()) if isinstance(generator, np.random.RandomState) else generator.getstate()


def _bytes(state: Tensor) -> bytes:
    return state.numpy().tobytes()


def _frozen(state: Any) -> object:
    """Return nested containers with arrays as bytes: arrays have no plain answer to ``==``."""
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return {name: _frozen(value) for name, value in state.items()}
    return tuple(map(_frozen, state)) if isinstance(state, (tuple, list)) else state
