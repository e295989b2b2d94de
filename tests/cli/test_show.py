from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.analysis.correlation import mean_abs
from tests.report.folders import own
from tests.versions import drop_run, schedule

from .conftest import call

FROZEN = Path(__file__).parents[1] / "frozen" / "recorded"


def test_a_summary_and_a_row_a_site(runs):
    code, out, err = call("show", runs / "dropout-s0")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "dropout-s0"
    assert "condition  Dropout, seed 0" in lines
    assert any(line.startswith("state      completed, 40 steps, ") for line in lines)
    assert "cost       not known before the run has ended" not in out
    rows = {
        line.split()[0]: line
        for line in lines
        if line.startswith("layer") and ".." not in line and "." in line.split()[0]
    }
    assert list(rows) == [f"layer{i}.{kind}" for i in (1, 2, 3) for kind in ("linear", "activation")]
    run = dd.load(runs / "dropout-s0")
    flow = run.select("net_grad_abs_mean", layer="layer1.activation")["value"].mean()
    shares = run.select(["saturation_share_left", "saturation_share_right"], layer="layer1.activation")["value"].sum()
    r = mean_abs(*run.histogram("node_correlation", "layer1.activation").bounds())
    assert rows["layer1.activation"].split()[-3:] == [f"{flow:.1e}", f"{shares:.1%}", f"{r:.2f}"]
    assert "w: weights at step 40 (train); z: net values at step 40 (eval)" in out.replace("\n", " ")


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_it_fits_the_width(runs, columns):
    _, out, _ = call("show", runs / "dropout-s0", columns=columns)
    assert max(map(len, out.splitlines())) <= columns
    row = next(line for line in out.splitlines() if line.startswith("layer2.activation"))
    assert row.split()[0] == "layer2.activation", "names of usual length stay whole at 80 columns"


def test_figures_follow_the_numbers(runs):
    _, out, _ = call("show", runs / "dropout-s0", "--layer", "layer3.activation")
    row = next(line for line in out.splitlines() if line.startswith("layer3.activation"))
    values, _, flow = row.split()[2:5]
    assert len(values) == len(flow)
    assert flow[0] == "█", "the gradient falls: its line begins at the top"
    assert flow[-1] in "▁▂▃"
    weights = next(line for line in call("show", runs / "dropout-s0")[1].splitlines() if "layer1.linear" in line)
    bars = weights.split()[2]
    assert bars[len(bars) // 2] in "▆▇█", "weights are most around 0"
    assert bars[0] in "▁▂"


def test_layers_and_steps_are_chosen(runs):
    code, out, _ = call("show", runs / "dropout-s0", "--layer", "layer1.*", "--step", "60")
    assert code == 0
    assert "layer1.linear" in out
    assert "layer2" not in out
    code, out, err = call("show", runs / "dropout-s0", "--layer", "conv*")
    assert (code, out) == (2, "")
    assert err.startswith("error: no layer of dropout-s0 matches 'conv*'; it has layer1.linear, layer1.activation, ")
    assert err.count("\n") == 1
    code, _, err = call("show", runs / "dropout-s0", "--step", "3")
    assert (code, err) == (2, "error: no histogram is recorded up to step 3; the first one is of step 40\n")
    code, _, err = call("show", runs / "dropout-s0", "--phase", "test")
    assert (code, err) == (2, "error: dropout-s0 has no 'net_value' in phase 'test'; it has eval\n")


def test_json_holds_the_numbers(runs):
    code, out, _ = call("show", runs / "dropout-s1", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["run"], found["condition"], found["seed"], found["steps"]) == ("dropout-s1", "Dropout", 1, 50)
    assert found["bytes"] == sum(p.stat().st_size for p in (runs / "dropout-s1").rglob("*") if p.is_file())
    layers = {layer["layer"]: layer for layer in found["layers"]}
    run = dd.load(runs / "dropout-s1")
    z = run.histogram("net_value", "layer2.activation")
    assert layers["layer2.activation"]["net_value"]["sd"] == pytest.approx(z.std())
    assert layers["layer2.activation"]["net_value"]["n"] == 500
    assert layers["layer2.linear"]["saturation_share"] is None
    flow = run.select("net_grad_abs_mean", layer="layer2.activation")["value"]
    assert layers["layer2.activation"]["gradient_flow"]["mean"] == pytest.approx(flow.mean())
    assert np.average(layers["layer2.activation"]["gradient_flow"]["means"]) == pytest.approx(flow.mean(), rel=0.2)


def test_every_other_quantity_is_listed_with_its_last_value(tmp_path):
    run = own(tmp_path)[2]
    code, out, err = call("show", run.path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    at = lines.index("curvature of φ, 1/net-value unit (train)")
    curvature = run.select("curvature", steps=5)["value"].tolist()
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["fc1", "5", f"{curvature[0]:.3g}"], ["fc2", "5", f"{curvature[1]:.3g}"],
    ]  # fmt: skip
    at = lines.index("value |v| (train)")
    histogram = run.histogram("own values", "fc1")
    assert lines[at + 1].split() == ["fc1", "5", f"{histogram.mean():.3g}", f"{histogram.std():.3g}"]
    assert [line.split() for line in lines if line.startswith("loss")] == [["loss", "(train)", "5", "0.2"]]
    assert "Nothing is recorded" not in out


def test_other_quantities_in_json_up_to_a_step_and_of_a_layer(tmp_path):
    run = own(tmp_path)[2]
    found = json.loads(call("show", run.path, "--json")[1])["quantities"]
    assert {one["quantity"] for one in found} == {"loss", "curvature", "own values"}
    first = found[1]
    assert (first["label"], first["unit"], first["layer"], first["sd"]) == (
        "curvature of φ",
        "1/net-value unit",
        "fc1",
        None,
    )
    assert {one["step"] for one in found} == {5}
    before = json.loads(call("show", run.path, "--json", "--step", "3")[1])["quantities"]
    assert {one["quantity"]: one["step"] for one in before} == {"loss": 3, "curvature": 3, "own values": 1}
    layers = json.loads(call("show", run.path, "--json", "--layer", "fc2")[1])["quantities"]
    assert {one["layer"] for one in layers} == {"fc2"}


def test_two_held_out_phases_are_both_named():
    code, out, err = call("show", FROZEN / "two-phases", "--phase", "test")
    assert (code, err) == (0, "")
    assert "accuracy (test)" in out
    assert "accuracy (validation)" not in out
    out = "\n".join(call("show", FROZEN / "two-phases")[1:])
    assert "validation" in out
    assert "test" in out


def test_a_torn_segment_is_told_and_the_code_is_1(runs):
    segment = next((runs / "dropout-s0" / "rank-0").glob("scalars-*.parquet"))
    segment.write_bytes(segment.read_bytes()[:100])
    code, out, err = call("show", runs / "dropout-s0")
    assert code == 1
    assert "layer1.linear" in out
    assert err.startswith("warning: ")
    assert segment.name in err


def test_what_is_no_run_is_wrong_input(tmp_path):
    code, out, err = call("show", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"error: {tmp_path} is not a run: it has no run.json\n"


def test_a_run_that_trains_without_histograms_yet(tmp_path):
    from dropdiag.store.writer import RunWriter
    from tests.synthetic import _meta, content

    RunWriter(tmp_path / "run", _meta(content("Dropout", 0), "Dropout", 0, "Tanh"))
    code, out, _ = call("show", tmp_path / "run")
    assert code == 0
    assert "state      running, 0 steps" in out
    assert "Nothing is recorded of any layer yet." in out


@pytest.mark.parametrize(("encoding", "plain"), [("utf-8", False), ("ascii", True), ("latin-1", True)])
def test_a_pipe_of_any_encoding(runs, encoding, plain):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dropdiag.cli", "show", runs / "dropout-s0"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}, capture_output=True, check=True,
    )  # fmt: skip
    out = done.stdout.decode(encoding)
    assert "\x1b" not in out
    assert out.isascii() == plain
    assert "layer1.activation" in out
    assert "?" not in out, "everything has a plain form"


def test_help_in_a_pipe_of_ascii(runs):
    done = subprocess.run(
        [sys.executable, "-m", "dropdiag.cli", "show", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}, capture_output=True, check=True,
    )  # fmt: skip
    assert b"--layer" in done.stdout


def test_a_layer_of_markup_is_text(tmp_path):
    from tests.synthetic import content, write

    made = content("Dropout", 0, layers=1, steps=5, size=50)
    made.weight = {"[bold red]w": next(iter(made.weight.values()))}
    write(tmp_path / "run", made, "[link=x]Dropout", 0)
    _, out, _ = call("show", tmp_path / "run", columns=120)
    assert "[bold red]w" in out
    assert "[link=x]Dropout, seed 0" in out


def test_dropouts_have_rows_of_their_own_and_old_names_find_layers(tmp_path):
    drop_run(tmp_path / "run", rate=schedule)
    code, out, err = call("show", tmp_path / "run")
    assert (code, err) == (0, "")
    assert ["c1:dropout", "0.36→0", "0.301", "0.18", "element", "c1:relu", "c2"] in [
        line.split() for line in out.splitlines()
    ]
    assert "dropped share" not in out  # once is enough
    code, out, err = call("show", tmp_path / "run", "--layer", "(model):*", "--json")
    assert [one["layer"] for one in json.loads(out)["layers"]] == ["c1:relu", "c2:relu", "fc1:relu"]
    assert json.loads(out)["dropouts"] == []
    assert "the name that an earlier version gave to" in err
    code, out, _ = call("show", tmp_path / "run", "--layer", "*drop", "--json")
    (only,) = json.loads(out)["dropouts"]
    assert (only["layer"], only["rate_last"], only["scheduled"], only["feeds"]) == ("fc1.drop", 0.0, True, None)
