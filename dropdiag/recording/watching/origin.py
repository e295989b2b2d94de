"""With which weights a run began and which batches it saw, as digests: by them runs are known to be pairs.

Values are hashed where they lie, and the hashes read when the run ends: no accelerator makes the host wait meanwhile.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dropdiag.recording.nested import tensors
from dropdiag.sketches.devices import sent
from dropdiag.sketches.mixing import mixed
from dropdiag.sketches.native import PLAIN

SAMPLED: Final = 4096
"""So many values of a larger tensor are looked at, spread over it by a hash: always the same ones."""
EVERY_STEP: Final = 8
GROWTH: Final = 1.25
"""The first eight steps are looked at, then ever fewer: each time a quarter of the steps later."""
WIDEST: Final = 16
"""Bytes of the widest number, a complex one."""


class _Hash(NamedTuple):
    """A tensor's, which is on its device, and what is known without its values."""

    shape: tuple[int, ...]
    number: Tensor


class Origin:
    """Takes the digests of one run.

    Parameters
    ----------
    model : nn.Module
        Its weights are those that the run begins with.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._weights = _of_weights(model)
        self._end: list[_Hash] | None = None
        self._batches: dict[int, _Hash] = {}
        self._next = 1

    def batch(self, step: int, args: Sequence[object], keywords: Mapping[str, object]) -> None:
        """Look at what the model is called with in a step: its first tensor, as later ones may be states of its own."""
        model = self._model()
        if step < self._next or model is None or not model.training:
            return
        first = next(tensors((args, keywords)), None)
        found = None if first is None else _hashed(first)
        if found is not None:
            self._batches[step] = found
            self._next = step + 1 if step < EVERY_STEP else int(step * GROWTH)

    def ends(self) -> None:
        """Look at the weights as the run leaves them."""
        model = self._model()
        self._end = None if model is None else _of_weights(model)

    def described(self) -> dict[str, Any]:
        """Return it as ``run.json`` holds it; weights whose values cannot be read are null."""
        steps, batches = list(self._batches), _read(self._batches.values())
        return {
            "weights": _joined(self._weights),
            "batches": {str(step): _joined([one]) for step, one in zip(steps, batches, strict=True)},
            "end": _joined(self._end),
        }


def _of_weights(model: nn.Module) -> list[_Hash] | None:
    """Return the hashes of all weights on the host, without their names, which an inserted module shifts."""
    found = [None if is_lazy(parameter) else _hashed(parameter) for parameter in model.parameters()]
    known = [one for one in found if one is not None]
    return _read(known) if known and len(known) == len(found) else None


@torch.no_grad()
def _hashed(tensor: Tensor) -> _Hash | None:
    """Return the hash of a tensor, None of one whose values do not lie there as they are."""
    if type(tensor) not in PLAIN or tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        return None
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return None  # what is done now would be part of the user's graph
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    if flat.numel() > SAMPLED:
        flat = flat.index_select(0, sent(torch.from_numpy(_places(flat.numel())), flat.device))
    octets = flat.contiguous().view(torch.uint8).to(torch.int64)
    keys = sent(torch.from_numpy(_keys()[: octets.numel()]), octets.device)
    return _Hash(tuple(tensor.shape), (octets * keys).sum())  # integers wrap around


def _read(hashes: Iterable[_Hash]) -> list[_Hash]:
    """Bring hashes to the host, all of a device at once."""
    found = list(hashes)
    by_device: dict[torch.device, list[int]] = {}
    for place, one in enumerate(found):
        by_device.setdefault(one.number.device, []).append(place)
    for places in by_device.values():
        numbers = torch.stack([found[place].number for place in places]).cpu()
        for place, number in zip(places, numbers, strict=True):
            found[place] = found[place]._replace(number=number)
    return found


def _joined(hashes: Sequence[_Hash] | None) -> str | None:
    if hashes is None:
        return None
    text = ";".join(f"{one.shape}:{int(one.number)}" for one in hashes)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=64)
def _places(numel: int) -> Any:
    return (mixed(1, SAMPLED) % np.uint64(numel)).astype(np.int64)


@lru_cache(maxsize=1)
def _keys() -> Any:
    return mixed(1, SAMPLED * WIDEST).view(np.int64)
