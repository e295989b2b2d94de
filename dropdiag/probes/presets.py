"""All probes of dropdiag's own, and the presets: a new probe is added to `PROBES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.probes.abs_means import GradientFlow, RawWeightGradientMeans, WeightGradientMeans
from dropdiag.probes.base import Probe
from dropdiag.probes.dropouts import Dropouts
from dropdiag.probes.flow_decomposition import FlowDecomposition
from dropdiag.probes.health import DeadNodes, DistanceFromStart, UpdateToWeight
from dropdiag.probes.histograms import NetGradients, NetValues, NodeValues, WeightGradients, Weights
from dropdiag.probes.moments import NetValueMoments, WeightMoments
from dropdiag.probes.node_correlation import (
    EffectiveRank,
    MultipleCorrelation,
    NodeCorrelation,
    TrainingNodeCorrelation,
    of_one_covariance,
)
from dropdiag.probes.saturation import Saturation

PROBES: Final[tuple[Probe[Any], ...]] = (
    Weights(), NetValues(), Saturation(), GradientFlow(), NodeCorrelation(), EffectiveRank(), TrainingNodeCorrelation(),
    NodeValues(), NetGradients(), WeightGradients(), WeightGradientMeans(), RawWeightGradientMeans(), WeightMoments(),
    NetValueMoments(),
    Dropouts(),
    FlowDecomposition(),
    MultipleCorrelation(), DeadNodes(), UpdateToWeight(), DistanceFromStart(),
)  # fmt: skip

PRESETS: Final[dict[str, tuple[str, ...]]] = {
    "light": ("saturation", "gradient_flow"),
    "paper": (
        "weights", "net_values", "saturation", "gradient_flow", "node_correlation", "dropouts", "flow_decomposition",
    ),
    # Node correlation in training steps depends on the batch and its masks: it is taken only where it is asked for.
    "full": tuple(probe.name for probe in PROBES if not isinstance(probe, TrainingNodeCorrelation)),
}  # fmt: skip


def chosen_probes(probes: str | Sequence[str | Probe[Any]]) -> tuple[Probe[Any], ...]:
    """Return the probes that ``probes=`` of the Recorder names.

    Parameters
    ----------
    probes : str or sequence of str or Probe
        A preset ("light", "paper", "full"), a probe's name, or several names and probes of your own.

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
    return of_one_covariance(chosen)


def _named(item: object) -> tuple[Probe[Any], ...]:
    if isinstance(item, Probe):
        return (item,)
    known = {probe.name: probe for probe in PROBES}
    if isinstance(item, str) and item in PRESETS:
        return tuple(known[name] for name in PRESETS[item])
    if isinstance(item, str) and item in known:
        return (known[item],)
    raise ArgumentError(f"unknown probe {item!r}; presets are {', '.join(PRESETS)}, probes are {', '.join(known)}")
