"""Texts that do something where they are let, and runs in which every name is one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.quantity import Quantity
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter
from tests.synthetic import AREAS, DERIVATIVES

TERMINAL = {
    "colour": "\x1b[31mred\x1b[0m",
    "screen": "\x1b[2J\x1b[H\x9b2J",
    "link": "\x1b]8;;http://evil.example\x07text\x1b]8;;\x07",
    "title": "\x1b]0;owned\x1b\\",
    "over": "seen\x08\x08\x08\x08gone\rover\x7f",
    "lines": "first\nerror: second\x0b\x0c\x85\u2028\u2029",
    "turned": "\u202egnp.exe\u2066\u2069\u200f\u061c",
    "unseen": "a\u200b\u200d\u2060\ufeff\u00ad\u3164\U000e0041b",
    "markup": "[red]rich[/red] [link=http://evil.example]here[/link] [/]",
}
PAGE = {
    "script": "<script>alert(1)</script>",
    "image": "</script><img src=http://evil.example/x onerror=alert(2)>",
    "comment": "<!--<script>--!>]]>",
    "attribute": "\" onmouseover=alert(3) x='`",
    "address": "javascript:alert(4)",
    "style": "</style><style>*{background:url(http://evil.example/y)}</style>",
    "template": "{{7*7}}${alert(5)}`{% raw %}",
    "prototype": "__proto__",
    "constructor": "constructor",
}
SHEET = {
    "equals": '=HYPERLINK("http://evil.example","x")',
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(A1)",
    "tab": "\t=1",
    "carriage": "\r=1",
    "wide": "\uff1d1",
    "apostrophe": '\'quoted, "twice"',
}
FIGURE = {
    "fraction": "$\\frac{",
    "mathematics": "$x^2$ $",
    "backslash": "a\\$b\\",
    "hidden": "_nolegend_",
}
PLACE = {
    "above": "../../evil",
    "absolute": "/dropdiag/evil",
    "device": "CON",
    "long": "n" * 300,
    "pattern": "a*b?[c]",
    "quotes": "'); DROP TABLE runs; --",
    "view": "@runs@",
    "nothing": ".",
}
TEXTS = TERMINAL | PAGE | SHEET | FIGURE | PLACE


def _histogram(step: int, phase: str, layer: str, quantity: str, rng: np.random.Generator) -> HistogramRow:
    made = Histogram.from_values(rng.normal(0.0, 1.0, 300).astype(np.float32))
    return HistogramRow(step, phase, layer, 0, quantity, made.bins, made.counts)


def write_hostile(path: Path, condition: str, seed: int, names: list[str], **more: Any) -> Path:
    """Write a run in which layers, activations, quantities, phases, warnings, config and error are such texts."""
    rng = np.random.default_rng(seed)
    sites = [{"layer": name, "call": 0, "kind": kind, "type": name, "activation": "Tanh" if kind != "weight" else None,
              "shape": []} for name in names for kind in ("weight", "activation")]  # fmt: skip
    coverage = [{**{k: one[k] for k in ("layer", "call", "kind", "type")}, "functional": False, "expected": True,
                 "fired": 3, "sampled": None, "skipped": names[0], "nodes": names[-1]} for one in sites]  # fmt: skip
    own = [Quantity(f"own {name}", "scalar", name, f"label {name}") for name in names[:3]]
    own += [Quantity(f"own bins {name}", "histogram", name, f"label {name}") for name in names[:3]]
    meta = {
        "config": {"condition": condition, "seed": seed, **{name: name for name in names}},
        "versions": dict.fromkeys(names[:2], names[0]), "layers": sites, "activations": {"Tanh": {"sup": 1.0, "eps": 0.1, **AREAS["Tanh"]}},
        "order": [[[name, 0]] for name in names], "quantities": {one.name: one.described() for one in own},
        "warnings": names, "coverage": coverage, "probes": names[:2],
        "disabled_probes": [{"probe": names[0], "why": names[1]}], **more,
    }  # fmt: skip
    writer = RunWriter(path, meta)
    rows, bins = [], []
    for step in (1, 2, 3):
        rows += [ScalarRow(step, "train", None, 0, "loss", 1.0 / step)]
        rows += [ScalarRow(step, "eval", None, 0, "accuracy", 0.2 * step)]
        rows += [ScalarRow(step, "train", name, 0, "net_grad_abs_mean", float(rng.uniform(0.5, 1.0))) for name in names]
        rows += [ScalarRow(step, "train", None, 0, one.name, -0.5) for one in own if one.kind == "scalar"]
        rows += [ScalarRow(step, name, None, 0, name, -0.5) for name in names]
    for name in names:
        bins += [_histogram(3, "train", name, "weight", rng), _histogram(3, "eval", name, "net_value", rng)]
        bins += [_histogram(3, name, names[0], "net_value", rng)]
    bins += [_histogram(3, "train", names[0], one.name, rng) for one in own if one.kind == "histogram"]
    writer.add_scalars(rows)
    writer.add_histograms(bins)
    writer.add_derivatives({"Tanh": DERIVATIVES["Tanh"](line_centres())})
    writer.close("completed", error=names[0])  # what it warned of is told beside it, whatever its end
    return path
