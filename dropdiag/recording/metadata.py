"""What ``run.json`` says of a run before its first step."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from torch import nn

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.model.activations import EPS, Activation, describe, is_told_by_name
from dropdiag.model.sites import ACTIVATION, Site
from dropdiag.probes import Probe
from dropdiag.sketches import native
from dropdiag.store.folder import as_json


def manifest(
    config: dict[str, Any],
    sites: Sequence[Site],
    activations: Iterable[Activation],
    probes: Sequence[Probe[Any]],
    every: str,
) -> dict[str, Any]:
    """Return the start of ``run.json``.

    Parameters
    ----------
    config : dict
        The user's own, JSON.
    sites : sequence of Site
    activations : iterable of Activation
        Those whose saturation area is known.
    probes : sequence of Probe
    every : str
        The schedule, in words.

    Returns
    -------
    dict
    """
    return {
        "config": config,
        "steps": 0,
        "versions": {"python": platform.python_version(), **{n: _version(n) for n in ("dropdiag", "torch", "numpy")}},
        "native": native.loops is not None,
        "probes": [probe.name for probe in probes],
        "quantities": {q.name: q.described() for probe in probes for q in probe.quantities},
        "disabled_probes": [],
        "warnings": [],
        "every": every,
        "layers": [site.describe() for site in sites],
        "activations": {a.name: areas(a) for a in activations},
    }


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
    as_json(config)
    seed = config.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ArgumentError(f"config['seed'] must be an integer, got {seed!r}; it pairs runs across conditions")
    return dict(config)


def describe_activations(sites: Iterable[Site]) -> tuple[list[Site], dict[str, Activation]]:
    """Measure the derivative of every activation that is recorded.

    Parameters
    ----------
    sites : iterable of Site

    Returns
    -------
    sites : list of Site
        The same; where two activations of one name are different functions, the later ones are called
        ``NAME#2``, ``NAME#3``, ...
    activations : dict
        Name -> Activation, without those whose saturation has no meaning.
    """
    found: dict[str, Activation | None] = {}
    named = []
    for site in sites:
        wanted = site.kind == ACTIVATION and site.skipped is None and site.activation is not None
        named.append(_with_name(site, found) if wanted else site)
    return named, {name: activation for name, activation in found.items() if activation is not None}


def _with_name(site: Site, found: dict[str, Activation | None]) -> Site:
    """Describe a site's activation into ``found``, under a name that no other function has."""
    plain = str(site.activation)
    if plain in found and is_told_by_name(site.module):
        return site
    described = _described(plain, site.module)
    name, number = plain, 1
    while name in found and not _same(found[name], described):
        number += 1
        name = f"{plain}#{number}"
    found.setdefault(name, None if described is None else replace(described, name=name))
    return replace(site, activation=name)


def _same(a: Activation | None, b: Activation | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a.derivative, b.derivative, equal_nan=True))


def _described(name: str, module: nn.Module) -> Activation | None:
    try:
        return describe(module)
    except Exception as error:  # noqa: BLE001 - a user's own activation may not be elementwise, or not run in float64
        message = f"the derivative of {name} cannot be measured, its saturation is not judged: {error!r}"
        warnings.warn(message, DropdiagWarning, stacklevel=4)
        return None


def areas(activation: Activation) -> dict[str, Any]:
    """Return an activation's saturation area as JSON: open ends are null."""

    def ends(areas: Iterable[tuple[float, float]]) -> list[list[float | None]]:
        return [[x if math.isfinite(x) else None for x in area] for area in areas]

    return {"sup": activation.sup, "eps": EPS, "left": ends(activation.left), "right": ends(activation.right)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown (not installed as a package)"
