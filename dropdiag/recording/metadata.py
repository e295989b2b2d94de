"""The content of ``run.json`` before the first step."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from torch import nn

from dropdiag.errors import DropdiagWarning
from dropdiag.model.activations import EPS, EVERYWHERE, Activation, describe, is_identified_by_name
from dropdiag.model.sites import ACTIVATION, Site
from dropdiag.probes.base import Probe
from dropdiag.sketches import native


def run_metadata(
    config: dict[str, Any],
    sites: Sequence[Site],
    activations: Iterable[Activation],
    probes: Sequence[Probe[Any]],
    every: str,
    *,
    ranks: dict[str, Any] | None = None,
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
        The schedule, as it prints.
    ranks : dict or None
        Of a process that is one of several: its rank, and what else is known of it.

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
        "finite_shares": True,  # a saturation share is missing where a net value is not finite: no histogram need tell
        "quantities": {q.name: q.described() for probe in probes for q in probe.quantities},
        "disabled_probes": [],
        "interventions": [],  # an InterventionLog adds them
        "ranks": ranks,
        "warnings": [],
        "missing": [],  # of measurements, with the reasons
        "every": every,
        "order": [],  # of execution: known once it ran
        "chain": [],  # of tensors from each net value to the output: likewise
        "layers": [site.describe() for site in sites],
        "activations": {a.name: saturation_area(a) for a in activations},
    }


def describe_activations(
    sites: Iterable[Site], known: Mapping[str, Activation] | None = None
) -> tuple[list[Site], dict[str, Activation]]:
    """Measure the derivative of every recorded activation.

    Parameters
    ----------
    sites : iterable of Site
    known : dict, optional
        Activations that have their names already.

    Returns
    -------
    sites : list of Site
        The same; where two activations of one name are different functions, the later ones are called
        ``NAME#2``, ``NAME#3``, ...
    activations : dict
        Name -> Activation, the known ones among them, without those whose saturation has no meaning.
    """
    found: dict[str, Activation | None] = dict(known or {})
    named = []
    for site in sites:
        wanted = site.kind == ACTIVATION and site.skipped is None and site.activation is not None
        named.append(_with_name(site, found) if wanted else site)
    return named, {name: activation for name, activation in found.items() if activation is not None}


def _with_name(site: Site, found: dict[str, Activation | None]) -> Site:
    """Measure a site's activation into ``found``, under a name that no other function has."""
    plain = str(site.activation)
    if plain in found and is_identified_by_name(site.module):  # one name is one function here
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
    # Saturation depends on the derivative alone: functions that share it in every bin need no two names.
    return bool(np.array_equal(a.derivative, b.derivative, equal_nan=True))


def _described(name: str, module: nn.Module) -> Activation | None:
    try:
        return describe(module)
    except Exception as error:  # noqa: BLE001 - a user's own activation may not be elementwise, or not run in float64
        message = f"the derivative of {name} cannot be measured, its saturation is not judged: {error!r}"
        warnings.warn(message, DropdiagWarning, stacklevel=4)
        return None


def saturation_area(activation: Activation) -> dict[str, Any]:
    """Return an activation's saturation area as JSON, which has no infinity: open ends are null."""

    def ends(areas: Iterable[tuple[float, float]]) -> list[list[float | None]]:
        return [[x if math.isfinite(x) else None for x in area] for area in areas]

    area = {"sup": activation.sup, "eps": EPS, "left": ends(activation.left), "right": ends(activation.right)}
    return area if activation.known == EVERYWHERE else {**area, "known": ends([activation.known])[0]}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown (not installed as a package)"
