"""A small comparison with the frames of `dropdiag.compare`, from numbers that can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dropdiag.analysis import gradient_flow, saturation
from dropdiag.analysis.claims.claims import LAYERS, PARTS, TABLE, Claims
from dropdiag.analysis.claims.roles import Roles
from dropdiag.analysis.seeds import t_interval
from dropdiag.store.reader import Runs

RULES = {"c": "Supported where the interval of the log ratio lies above 0 in every layer."}


@dataclass(frozen=True)
class Comparison:
    runs: Runs
    baseline: str
    conditions: tuple[str, ...]
    table: pd.DataFrame
    unmatched: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["condition", "layer", "reason"]))
    problems: tuple[str, ...] = ()

    def claims(self, **_options: Any) -> Claims:
        rows, parts, layers = [], [], []
        for condition, part in self.table[self.table["measure"] == "gradient_flow"].groupby("condition", sort=False):
            each = ["supported" if low > 0 else "contradicted" if high < 0 else "undecided"
                    for low, high in zip(part["low"], part["high"], strict=True)]  # fmt: skip
            verdict = each[0] if len(set(each)) == 1 else "undecided"
            reason = (
                f"The factor lies between {np.exp(part['effect'].min()):.2f} and {np.exp(part['effect'].max()):.2f}."
            )
            provisional = verdict != "undecided" and float(part["p_attainable"].max()) > 0.05
            head = {"claim": "c", "statement": "Gradient flow is larger.", "condition": condition,
                    "baseline": self.baseline, "provisional": provisional, "n": int(part["n"].min()),
                    "part": "more gradient", "measure": "gradient_flow", "scale": "log ratio", "threshold": 0.0,
                    "test": part["test"].iloc[0], "reason": reason, "caveats": "", "note": "", "beside": ""}  # fmt: skip
            rows.append(head | {"verdict": verdict})
            means = part[["effect", "low", "high", "p", "p_attainable", "n_baseline"]].mean().to_dict()
            parts.append(head | means | {"verdict": verdict, "counts": True, "p_family": means["p"]})
            layers += [head | row | {"verdict": own} for row, own in zip(part.to_dict("records"), each, strict=True)]
        table, parts_, layers_ = (pd.DataFrame(some, columns=columns) for some, columns in
                                  ((rows, TABLE), (parts, PARTS), (layers, LAYERS)))  # fmt: skip
        return Claims(table, parts_, layers_, RULES, Roles(None, (), ()), 0.05, f"compared with {self.baseline!r}")


def comparison(runs: Runs, baseline: str | None = None, **options: Any) -> Comparison:
    """Log ratios of gradient flow and differences of saturation shares, paired by order, with t intervals."""
    base = baseline or runs.conditions[0]
    frames = {"gradient_flow": (gradient_flow.per_run(runs), "mean", "log ratio", "loss units per net-value unit")}
    shares = saturation.share(runs)
    if shares["share"].notna().any():
        frames["saturation_share"] = (shares, "share", "difference", "1")
    rows: list[dict[str, Any]] = []
    for measure, (frame, column, scale, unit) in frames.items():
        quantity = "net_grad_abs_mean" if measure == "gradient_flow" else "net_value"
        for (layer, call), site in frame.groupby(["layer", "call"], sort=False):
            own = {name: part[column].to_numpy(float) for name, part in site.groupby("condition", sort=False)}
            head = {"baseline": base, "layer": layer, "call": call, "measure": measure, "quantity": quantity,
                    "scale": scale, "unit": unit}  # fmt: skip
            rows += [
                {"condition": name, **head, **_effect(own[name], own[base], scale == "log ratio")}
                for name in runs.conditions
                if name != base and name in own and base in own
            ]
    return Comparison(
        runs, base, (base, *(name for name in runs.conditions if name != base)), pd.DataFrame(rows), **options
    )


def _effect(own: np.ndarray, base: np.ndarray, ratio: bool) -> dict[str, Any]:
    n = min(len(own), len(base))
    apart = np.log(own[:n] / base[:n]) if ratio else own[:n] - base[:n]
    effect, low, high = t_interval(apart)
    return {"effect": effect, "low": low, "high": high, "interval": "t" if n > 1 else "none", "value": own.mean(),
            "baseline_value": base.mean(), "p": 2.0**-n * 2 if n > 1 else np.nan, "p_attainable": 2.0**-n * 2,
            "p_holm": min(1.0, 2.0**-n * 6) if n > 1 else np.nan, "test": "sign flip" if n > 1 else "none", "n": n, "n_baseline": len(base),
            "paired": True, "note": "" if n > 1 else "one seed: no interval, no p"}  # fmt: skip
