"""The states of random number generators: torch's, numpy's and Python's own, and those that a model holds."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch

OwnGenerator: TypeAlias = (
    torch.Generator | np.random.Generator | np.random.BitGenerator | np.random.RandomState | random.Random
)
_Access: TypeAlias = tuple[Callable[[], Any], Callable[[Any], Any]]
"""Functions that read and write a generator's state."""


def is_generator(item: object) -> TypeGuard[OwnGenerator]:
    """Whether an object is a generator whose state can be read and written."""
    if isinstance(item, random.SystemRandom):  # the system's entropy has no state
        return False
    kinds = (torch.Generator, np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)
    return isinstance(item, kinds)


class RandomStates:
    """The states of all generators that a forward pass may draw from, as they are now.

    Parameters
    ----------
    own : sequence of generators
        Those that the model holds.
    """

    def __init__(self, own: Sequence[OwnGenerator]) -> None:
        self._generators = own
        self._access = [*_global_access(), *map(_access, own)]
        self._at_first = self.now()

    def now(self) -> list[Any]:
        """Return the states, which `same_states` compares."""
        return [read() for read, _ in self._access]

    def put_back(self) -> None:
        """Give each generator the state it had at first."""
        for (_, write), state in zip(self._access, self._at_first, strict=True):
            write(state)

    def begin(self, seed: int) -> None:
        """Put the model's own generators back to where they were, and seed the global ones."""
        self.put_back()
        self._seed_global(seed)

    def seed(self, seed: int) -> None:
        """Seed all generators, the model's own as well."""
        self._seed_global(seed)
        seed_generators(self._generators, seed)

    @staticmethod
    def _seed_global(seed: int) -> None:
        # torch.manual_seed() would also seed devices that are not in use yet, which nothing puts back.
        torch.default_generator.manual_seed(seed)
        for generator in _device_generators():
            generator.manual_seed(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - a model that draws from it is to get the same numbers again
        random.seed(seed)


def same_states(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two results of `RandomStates.now` are the same."""
    return all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return all(_same(a[name], b[name]) for name in a)
    if isinstance(a, tuple):
        return all(map(_same, a, b))
    return bool(a == b)


def derived(*parts: object) -> int:
    """Return a seed of 63 bits that is made of a seed and of what it is for: another for any other of these."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def seed_generators(generators: Sequence[OwnGenerator], seed: int) -> None:
    """Seed generators that a model holds."""
    for generator in generators:
        _seed(generator, seed)


def _seed(generator: OwnGenerator, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, (np.random.RandomState, random.Random)):
        generator.seed(seed % 2**32)
    else:
        bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator
        bits.state = type(bits)(seed).state


def _access(generator: OwnGenerator) -> _Access:
    if isinstance(generator, torch.Generator):
        return generator.get_state, generator.set_state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state, generator.set_state
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator
    return lambda: bits.state, lambda state: setattr(bits, "state", state)


def _global_access() -> Iterator[_Access]:
    for generator in (torch.default_generator, *_device_generators()):
        yield _access(generator)
    if torch.backends.mps.is_available():
        yield torch.mps.get_rng_state, torch.mps.set_rng_state
    yield np.random.get_state, np.random.set_state
    yield random.getstate, random.setstate


def _device_generators() -> Iterator[torch.Generator]:
    for backend in (torch.cuda, torch.xpu):
        if backend.is_initialized():  # asking for the generators of one that is not would start it
            yield from backend.default_generators
