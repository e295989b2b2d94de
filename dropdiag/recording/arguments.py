"""Checks of what the Recorder is given, before anything is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.store.door import writing
from dropdiag.store.folder import as_json
from dropdiag.store.limits import DEPTH
from dropdiag.store.schema import TRAIN
from dropdiag.store.seeds import seed_of


def checked_config(config: object) -> dict[str, Any]:
    """Return a copy of ``config=`` that is plain JSON.

    Raises
    ------
    ArgumentError
        If it is no dict, holds what JSON does not know, or has a seed that is no integer.
    """
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise ArgumentError(f"config= takes a dict with text keys, got {config!r}")
    try:
        own = {key: _plain(value) for key, value in config.items()}
        as_json(own)  # refuses what JSON cannot hold: here, not where run.json is written after the first steps
    except RecursionError:
        raise ArgumentError(f"config= holds lists and dicts more than {DEPTH} deep, or one that holds itself") from None
    writing.check_config(own)
    seed = seed_of(own)
    return own if seed is None else {**own, "seed": seed}


def _plain(value: Any) -> Any:
    """Return numbers of numpy and torch as Python's, at any depth: a seed or a rate often comes out of an array."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    single = isinstance(value, np.generic) or (isinstance(value, (np.ndarray, Tensor)) and value.ndim == 0)
    return value.item() if single else value


def check_flush_every(seconds: object) -> float:
    """Return ``flush_every=`` as a float; raise `ArgumentError` where it is no finite number of seconds."""
    number = isinstance(seconds, (int, float, np.integer, np.floating)) and not isinstance(seconds, bool)
    if not number or not 0.0 <= float(seconds) < math.inf:  # type: ignore[arg-type]
        raise ArgumentError(
            f"flush_every= takes seconds, a finite number of at least 0 (0: every step is flushed), got {seconds!r}"
        )
    return float(seconds)  # type: ignore[arg-type]


def checked_node_axis(node_axis: object) -> dict[str, int]:
    """Return ``node_axis=`` as a dict of pattern -> dimension.

    Raises
    ------
    ArgumentError
        If it is no mapping from text to integers.
    """
    if node_axis is None:
        return {}
    if isinstance(node_axis, Mapping) and all(
        isinstance(pattern, str) and isinstance(dim, int) and not isinstance(dim, bool)
        for pattern, dim in node_axis.items()
    ):
        return dict(node_axis)
    raise ArgumentError(
        f"node_axis= takes a dict of layer pattern -> dimension, as {{'conv1:*': 1}}; got {node_axis!r}"
    )


def check_phase(phase: object) -> None:
    """Raise `ArgumentError` unless ``phase=`` is a name that held-out data may have."""
    if not isinstance(phase, str) or not phase or phase == TRAIN:
        raise ArgumentError(f"phase= must be a name other than {TRAIN!r}, the phase of training steps; got {phase!r}")
    writing.check_name("phase=", phase)


def check_layer(layer: object) -> None:
    """Raise `ArgumentError` unless ``layer=`` is a name."""
    if not isinstance(layer, str) or not layer:
        raise ArgumentError(f"layer= must be a layer's name, got {layer!r}")
    writing.check_name("layer=", layer)


def check_mask(mask: object) -> None:
    """Raise `ArgumentError` unless a padding mask is a boolean tensor of two dimensions."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2:
        got = f"got {tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else f"got {type(mask).__name__}"
        raise ArgumentError("padding() takes a boolean tensor of shape (batch, tokens), True for tokens, " + got)
