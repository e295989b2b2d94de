"""The probes, as an explicit tuple, and the presets that name some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.probes.abs_means import GradientFlow, RawWeightGradientMeans, WeightGradientMeans
from dropdiag.probes.base import Place, Probe, Tap, Value
from dropdiag.probes.histograms import NetGradients, NetValues, NodeValues, WeightGradients, Weights
from dropdiag.probes.moments import NetValueMoments, WeightMoments
from dropdiag.probes.node_correlation import EffectiveRank, NodeCorrelation, TrainingNodeCorrelation
from dropdiag.probes.saturation import Saturation

__all__ = ["PRESETS", "PROBES", "Place", "Probe", "Tap", "Value", "choose"]

PROBES: Final[tuple[Probe[Any], ...]] = (
    Weights(),
    NetValues(),
    Saturation(),
    GradientFlow(),
    NodeCorrelation(),
    EffectiveRank(),
    TrainingNodeCorrelation(),
    NodeValues(),
    NetGradients(),
    WeightGradients(),
    WeightGradientMeans(),
    RawWeightGradientMeans(),
    WeightMoments(),
    NetValueMoments(),
)

PRESETS: Final[dict[str, tuple[str, ...]]] = {
    "light": ("saturation", "gradient_flow"),
    "paper": ("weights", "net_values", "saturation", "gradient_flow", "node_correlation"),
    "full": tuple(probe.name for probe in PROBES if not isinstance(probe, TrainingNodeCorrelation)),
}


def choose(probes: str | Sequence[str | Probe[Any]]) -> tuple[Probe[Any], ...]:
    """Turn ``probes=`` of the Recorder into probes.

    Parameters
    ----------
    probes : str or sequence of str or Probe
        A preset ("light", "paper", "full"), a probe's name, or several names and probes of one's own.

    Raises
    ------
    ArgumentError
        For an unknown name, no probe, or one that comes twice.
    """
    items = (probes,) if isinstance(probes, (str, Probe)) else tuple(probes)
    chosen = tuple(probe for item in items for probe in _named(item))
    names = [probe.name for probe in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"probes= names {', '.join(twice)} twice; name each probe once")
    if not chosen:
        raise ArgumentError('probes= is empty; use a preset ("light", "paper", "full") or probe names')
    return chosen


def _named(item: object) -> tuple[Probe[Any], ...]:
    if isinstance(item, Probe):
        return (item,)
    known = {probe.name: probe for probe in PROBES}
    if isinstance(item, str) and item in PRESETS:
        return tuple(known[name] for name in PRESETS[item])
    if isinstance(item, str) and item in known:
        return (known[item],)
    raise ArgumentError(f"unknown probe {item!r}; presets are {', '.join(PRESETS)}, probes are {', '.join(known)}")
