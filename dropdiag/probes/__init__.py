"""Probes: which tensor of a site is summarised by which sketch, and what is recorded of it."""

from dropdiag.deprecation import renamed
from dropdiag.probes.base import Counted, Probe, ProbeValue, Signal, SiteInfo, State
from dropdiag.probes.presets import PRESETS, PROBES, chosen_probes

__all__ = ["PRESETS", "PROBES", "Counted", "Probe", "ProbeValue", "Signal", "SiteInfo", "State", "chosen_probes"]

__getattr__ = renamed(
    __name__,
    {
        "Place": "dropdiag.probes.base:SiteInfo",
        "Tap": "dropdiag.probes.base:Signal",
        "Value": "dropdiag.probes.base:ProbeValue",
        "choose": "dropdiag.probes.presets:chosen_probes",
    },
)
