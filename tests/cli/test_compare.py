"""`compare`, `report` and `watch`: their options, exit codes and messages with stand-ins, and the real thing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis.claims.claims import Unrecorded
from dropdiag.errors import ArgumentError

from .conftest import call

ROW = {
    "condition": "Dropout", "baseline": "No dropout", "layer": "layer1.activation", "call": 0, "quantity": "x",
    "measure": "gradient_flow", "scale": "log ratio", "unit": "1", "effect": 1.2345, "low": 1.0, "high": 1.4,
    "p": 0.0625, "p_attainable": 0.0625, "p_holm": 0.125, "n": 5, "n_baseline": 5, "paired": True, "note": "",
}  # fmt: skip
EFFECTS = pd.DataFrame([
    ROW,
    ROW | {"layer": None, "call": np.nan, "measure": "final:loss", "scale": "difference", "low": np.nan,
           "high": np.nan, "p_holm": np.nan, "n_baseline": 4},
])  # fmt: skip
CLAIMS = pd.DataFrame([{"claim": "c", "statement": "gradient flow is larger", "condition": "Dropout",
                        "baseline": "No dropout", "verdict": "supported", "provisional": False, "reason": "factor 3.4", "caveats": "5 pairs of seeds.", "n": 5}])  # fmt: skip


PARTS = pd.DataFrame([
    {"claim": "c", "condition": "Dropout", "part": "more gradient", "counts": True, "provisional": True, "p_family": 0.0123,
     "reason": "It is 3.44 times.", "note": "", "beside": "made of slope ×2 and mask ×1.72", "scale": "log ratio", "effect": 1.2345, "low": 1.0, "high": 1.4,
     "verdict": "supported"},
    {"claim": "c", "condition": "Dropout", "part": "read otherwise", "counts": False, "provisional": False, "p_family": 1.0,
     "reason": "It is 0.5.", "note": "one layer is left out", "beside": "", "scale": "difference", "effect": 0.5, "low": np.nan,
     "high": np.nan, "verdict": "undecided"},
    {"claim": "c", "condition": "Dropout", "part": "never seen", "counts": False, "provisional": False, "p_family": np.nan,
     "reason": "it was not recorded", "note": "it was not recorded", "beside": "", "scale": np.nan, "effect": np.nan, "low": np.nan,
     "high": np.nan, "verdict": "not recorded"},
])  # fmt: skip


class StandIns:
    """What the commands call, in place of the real thing."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.problems: tuple[str, ...] = ()
        self.unrecorded: tuple[Unrecorded, ...] = ()
        self.unmatched = pd.DataFrame(columns=["condition", "layer", "reason"])
        self.runs = [SimpleNamespace(path=Path("runs/a"))]

    def compare(self, runs, **options):
        self.asked.append(("compare", runs, options))
        if options["baseline"] == "wrong":
            raise ArgumentError("no condition 'wrong'; there are 'No dropout', 'Dropout'")
        claims = SimpleNamespace(
            table=CLAIMS, layers=CLAIMS, parts=PARTS, rules={"c": "the rule"}, alpha=0.05,
            headline="'Dropout' compared with 'No dropout'", unrecorded=self.unrecorded,
        )  # fmt: skip
        return SimpleNamespace(
            runs=self.runs, baseline="No dropout", conditions=("No dropout", "Dropout"), table=EFFECTS,
            unmatched=self.unmatched, problems=self.problems, claims=lambda **asked: self.asked.append(("claims", asked)) or claims,
        )  # fmt: skip

    def opened(self, runs):
        return self.runs, list(self.problems)

    def report(self, what, path, **options):
        self.asked.append(("report", what, path, options))
        return Path(path)

    def watch(self, target, **options):
        self.asked.append(("watch", target, options))
        if target == Path("forever"):
            raise KeyboardInterrupt


@pytest.fixture
def stand_ins(monkeypatch):
    made = StandIns()
    modules = {
        "dropdiag.analysis.comparison": {"compare": made.compare, "__path__": []},
        "dropdiag.analysis.compare.lenient": {"opened": made.opened},
        "dropdiag.report": {"__path__": []},
        "dropdiag.report.page": {"report": made.report},
        "dropdiag.report.serve": {"watch": made.watch},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_verdicts_and_effects(stand_ins):
    code, out, err = call("compare", "No dropout=runs/base-*", "Dropout=runs/drop-*", columns=120)
    assert (code, err) == (0, "")
    assert stand_ins.asked == [
        ("compare", {"No dropout": ["runs/base-*"], "Dropout": ["runs/drop-*"]},
         {"baseline": None, "on_unreadable": "ignore"}),
        ("claims", {}),
    ]  # fmt: skip
    lines = [" ".join(line.split()) for line in out.splitlines()]
    at = lines.index("(c) gradient flow is larger")
    assert lines[at + 1 : at + 6] == [
        "Dropout, beside No dropout: supported",
        "effect 95 % interval p, family",
        "more gradient ×3.44 2.72 to 4.06 0.012 supported*",
        "read otherwise 0.5 1 (undecided)",
        "read otherwise: one layer is left out",
    ], "exp of 1.2345, 1.0 and 1.4; what is provisional or not counted is marked"
    assert lines[at + 6] == "never seen: it was not recorded"
    assert lines[at + 7] == "Made of slope ×2 and mask ×1.72."
    assert "* provisional: decided by Student's t; more seeds may turn it" in lines
    assert "(c): 5 pairs of seeds." in lines
    at = lines.index("gradient_flow (factor)")
    assert lines[at + 1] == "layer1.activation ×3.44 2.72 to 4.06 0.125 0.0625 5", "exp of 1.2345, 1.0 and 1.4"
    assert lines[at + 2] == "final:loss 1.23 0.0625 5 and 4", "no interval, no p, no layer: nothing is invented"
    assert "Dropout, beside No dropout" in out


def test_a_claim_of_no_condition_has_an_empty_cell(stand_ins, monkeypatch):
    none = {"claim": "e", "condition": np.nan, "verdict": "undecided", "reason": "there is no third condition",
            "caveats": ""}  # fmt: skip
    monkeypatch.setitem(globals(), "CLAIMS", pd.concat([CLAIMS, pd.DataFrame([CLAIMS.iloc[0].to_dict() | none])]))
    code, out, _ = call("compare", "A=a", "B=b", columns=120)
    assert code == 0
    assert "(e) gradient flow is larger\n  undecided\n    there is no third condition\n" in out
    assert "nan" not in out


def test_it_fits_80_columns(stand_ins):
    out = call("compare", "A=a", "B=b")[1]
    assert max(map(len, out.splitlines())) <= 80


def test_a_long_name_of_a_part_goes_on_in_the_next_line(stand_ins, monkeypatch):
    name = "better validation_accuracy of a condition with a name of some length"
    monkeypatch.setitem(globals(), "PARTS", PARTS.assign(part=[name, "b", "c"]))
    out = call("compare", "A=a", "B=b")[1]
    assert max(map(len, out.splitlines())) <= 80
    at = out.index("better")
    first = out[at : out.index("\n", at)]
    assert first.endswith("2.72 to 4.06      0.012  supported*"), "the numbers stand in the first line"
    assert "of some length" in " ".join(out[at:].split())


def test_caveats_that_several_claims_share_are_said_once(stand_ins, monkeypatch):
    head = CLAIMS.iloc[0].to_dict()
    rows = [
        head,
        head | {"condition": "GAAF"},
        head | {"claim": "d"},
        head | {"claim": "d", "condition": "GAAF", "caveats": "Other."},
    ]
    monkeypatch.setitem(globals(), "CLAIMS", pd.DataFrame(rows))
    lines = call("compare", "A=a", "B=b", columns=120)[1].splitlines()
    assert "(c), (d) Dropout: 5 pairs of seeds." in lines
    assert "(d) GAAF: Other." in lines


def test_layers_and_measures_are_chosen(stand_ins):
    out = call("compare", "A=a", "B=b", "--measure", "gradient_*", columns=120)[1]
    assert "gradient_flow" in out
    assert "final:loss" not in out
    assert "final:loss" not in call("compare", "A=a", "B=b", "--layer", "layer1*", columns=120)[1]
    code, _, err = call("compare", "A=a", "B=b", "--measure", "nothing")
    assert (code, err) == (2, "error: no measure matches 'nothing'; there are gradient_flow, final:loss\n")


def test_json(stand_ins):
    stand_ins.problems = ("runs/x cannot be read",)
    code, out, err = call("compare", "A=a", "B=b", "--json", "--out", "r.html")
    found = json.loads(out)
    assert (code, err) == (1, "left out: runs/x cannot be read\n")
    assert found["problems"] == ["runs/x cannot be read"]
    assert found["claims"][0]["verdict"] == "supported"
    assert found["effects"][0]["effect"] == 1.2345
    assert found["effects"][1]["low"] is None
    assert found["claims_by_part"][0]["claim"] == "c"
    assert found["rules"] == {"c": "the rule"}
    assert (found["report"], found["runs"]) == ("r.html", ["runs/a"])


def test_out_writes_the_report_of_that_comparison(stand_ins):
    code, out, _ = call("compare", "A=a", "B=b", "--out", "x/report.html")
    assert code == 0
    assert out.endswith("report:  x/report.html\n")
    _, what, path, _ = stand_ins.asked[-1]
    assert (what.baseline, path) == ("No dropout", Path("x/report.html"))


def test_problems_and_unmatched_layers_are_told(stand_ins):
    stand_ins.problems = ("runs/x cannot be read",)
    stand_ins.unmatched = pd.DataFrame([{"condition": "Dropout", "layer": "extra", "reason": "no layer like it"}])
    code, out, err = call("compare", "A=a", "B=b", columns=120)
    assert (code, err) == (1, "left out: runs/x cannot be read\n")
    assert "not compared: extra of Dropout: no layer like it" in out


def test_wrong_input_is_one_line_and_code_2(stand_ins):
    code, out, err = call("compare", "A=a", "B=b", "--baseline", "wrong")
    assert (code, out) == (2, "")
    assert err == "error: no condition 'wrong'; there are 'No dropout', 'Dropout'\n"
    code, _, err = call("compare", "A=a", "b")
    assert (code, err.count("\n")) == (2, 1)


def test_report(stand_ins):
    code, out, _ = call("report", "A=a", "--out", "r.html", "--title", "T", "--baseline", "A")
    assert (code, out) == (0, "report:  r.html\n")
    assert stand_ins.asked[-1] == (
        "report",
        stand_ins.runs,
        Path("r.html"),
        {"title": "T", "baseline": "A", "claims": {}},
    )
    stand_ins.problems = ("runs/x cannot be read",)
    code, out, err = call("report", "a", "--json")
    assert json.loads(out) == {"report": "report.html", "runs": ["runs/a"], "problems": ["runs/x cannot be read"]}
    assert (code, err) == (1, "left out: runs/x cannot be read\n")


def test_who_plays_whom_and_what_ends_the_epochs_is_asked_of_claims_and_report(stand_ins):
    wanted = {"dropout": "A", "gaaf": "B", "scalar": "validation_loss"}
    options = [part for name, value in wanted.items() for part in (f"--{name}", value)]
    assert call("compare", "A=a", "B=b", "--out", "r.html", *options)[0] == 0
    (_, asked), (*_, written) = stand_ins.asked[-2:]
    assert asked == wanted
    assert written == {"claims": wanted}
    assert call("report", "A=a", "B=b", *options)[0] == 0
    assert stand_ins.asked[-1][-1]["claims"] == wanted


def test_notes_are_printed_once(stand_ins, monkeypatch):
    rows = [ROW | {"layer": f"layer{i}", "note": "over the first 50 training steps"} for i in range(3)]
    rows.append(ROW | {"measure": "weight_w1", "layer": "layer0", "note": "x: the weights are not finite"})
    rows.append(ROW | {"measure": "weight_w1", "layer": "layer1"})
    monkeypatch.setitem(globals(), "EFFECTS", pd.DataFrame(rows))
    out = call("compare", "A=a", "B=b", columns=120)[1]
    assert out.count("note: Dropout, gradient_flow: over the first 50 training steps\n") == 1
    assert "note: Dropout, weight_w1 (layer0): x: the weights are not finite\n" in out


def test_curves_of_layers_are_printed_when_they_are_asked_for(stand_ins, monkeypatch):
    rows = [ROW | {"measure": f"ablated_loss@{x:g}"} for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
    rows += [ROW | {"measure": f"ablated_accuracy@{x:g}"} for x in (0.0, 0.5, 1.0)]
    rows += [ROW | {"measure": f"noisy_loss@{x:g}", "layer": None} for x in (0.0, 0.1, 0.2, 0.5, 1.0)]
    monkeypatch.setitem(globals(), "EFFECTS", pd.DataFrame(rows))
    out = call("compare", "A=a", "B=b", columns=120)[1]
    assert "not printed: ablated_loss, at 5 values; --measure 'ablated_loss@*' prints them" in out
    assert "ablated_loss@" not in out.replace("'ablated_loss@*'", "")
    # few values are printed, and so are those of the network, which have a row each
    assert all(f"ablated_accuracy@{x:g} " in out for x in (0.0, 0.5, 1.0))
    assert all(f"noisy_loss@{x:g} " in out for x in (0.0, 0.1, 0.2, 0.5, 1.0))
    asked = call("compare", "A=a", "B=b", "--measure", "ablated_loss@*", columns=120)[1]
    assert all(f"ablated_loss@{x:g} " in asked for x in (0.0, 0.25, 0.5, 0.75, 1.0))
    assert "not printed" not in asked


def test_watch(stand_ins):
    assert call("watch", "runs", "--port", "8000", "--interval", "2", "--open", **{"DROPDIAG_TOKEN": "s3"})[0] == 0
    assert stand_ins.asked[-1] == ("watch", Path("runs"), {
        "host": "127.0.0.1", "port": 8000, "interval": 2.0, "token": "s3", "open_browser": True,
    })  # fmt: skip
    assert call("watch", "forever")[0] == 130
    assert call("watch", "runs", "--port", "70000")[0] == 2


def test_the_real_comparison(runs):
    pytest.importorskip("dropdiag.analysis.claims.claims")
    code, out, err = call("compare", f"No dropout={runs}/no-*", f"Dropout={runs}/dropout-*", columns=200)
    assert code == 0, err
    assert "gradient_flow (factor)" in out
    assert "note: Dropout, gradient_flow: over the first 40 training steps" in out
    (runs / "dropout-s1" / "run.json").write_text("{")
    code, out, err = call("compare", f"No dropout={runs}/no-*", f"Dropout={runs}/dropout-*", "--json")
    assert code == 1
    assert "dropout-s1" in err
    found = json.loads(out)
    assert {claim["verdict"] for claim in found["claims"]} <= {"supported", "contradicted", "undecided"}
    assert {row["measure"] for row in found["effects"]} >= {"gradient_flow"}


def test_the_real_report(runs, tmp_path):
    pytest.importorskip("dropdiag.analysis.claims.claims")
    pytest.importorskip("dropdiag.report.page")
    out = tmp_path / "report.html"
    code, said, err = call("report", f"No dropout={runs}/no-*", f"Dropout={runs}/dropout-*", "--out", out)
    assert (code, said) == (0, f"report:  {out}\n"), err
    assert "<html" in out.read_text(encoding="utf-8")
