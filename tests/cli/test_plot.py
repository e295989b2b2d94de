from __future__ import annotations

import json

import pytest
from matplotlib import image

from dropdiag import plots
from dropdiag.cli.plot import FIGURES
from tests.analysis.dose_response.sweeps import sweep
from tests.flows import flow_runs

from .conftest import call


def test_all_that_is_recorded_is_drawn_and_the_rest_named(runs, tmp_path):
    code, out, err = call("plot", runs, "--out", tmp_path / "figures")
    drawn = ["weights", "correlation", "gradient_flow", "saturation", "learning"]
    assert out.splitlines() == [f"wrote {tmp_path / 'figures' / name}.png" for name in drawn]
    told = [line.split(": ")[:2] for line in err.splitlines()]
    measured = "masks_by_weights, ensemble, flatness, robustness, ablation, gradient_direction"
    assert told == [
        *(["not drawn", name] for name in ("flow_decomposition", "net_variance", "dropouts", "health")),
        ["not measured", measured],
    ]
    assert "not drawn: net_variance: no run holds 'net_variance'" in err
    assert code == 0
    for name in drawn:
        picture = image.imread(tmp_path / "figures" / f"{name}.png")
        assert picture.shape[0] > 100
        assert picture.std() > 0.01


def test_every_figure_of_runs_has_a_name_here():
    other = {"save", "scalar", "distribution", "gaaf"}
    assert set(FIGURES) == set(plots.__all__) - other


def test_where_the_gradient_comes_from_is_drawn_of_two_conditions_and_told_of_one(tmp_path):
    flow_runs(tmp_path / "runs", (0,), steps=4)
    both = (f"No dropout={tmp_path / 'runs'}/no-*", f"Dropout={tmp_path / 'runs'}/dropout-*")
    code, out, _ = call("plot", *both, "--out", tmp_path / "flow.svg", "--figure", "flow-decomposition")
    assert (code, out) == (0, f"wrote {tmp_path / 'flow.svg'}\n")
    assert all(f"<!-- {word}" in (tmp_path / "flow.svg").read_text() for word in ("output error", "act1", "total"))
    code, _, err = call("plot", both[1], "--out", tmp_path / "one.svg", "--figure", "flow_decomposition")
    assert code == 2
    assert "there is no condition beside 'Dropout' to compare" in " ".join(err.split())


def test_dose_and_response_are_drawn_where_runs_lie_on_an_axis(runs, tmp_path):
    sweep(tmp_path / "sweep", (0.0, 0.1, 0.5), (0, 1), x="p", layers=1)
    code, out, _ = call("plot", f"{tmp_path / 'sweep'}/*", "--out", tmp_path / "p.svg", "--figure", "dose-response",
                        "--x", "p")  # fmt: skip
    assert (code, out) == (0, f"wrote {tmp_path / 'p.svg'}\n")
    assert all(f"<!-- {word}" in (tmp_path / "p.svg").read_text() for word in ("p -->", "accuracy, eval", "trend"))
    # asked for, it says what is missing; unasked, it is not missed (see the first test)
    code, _, err = call("plot", runs, "--out", tmp_path / "no.svg", "--figure", "dose-response")
    assert code == 2
    assert "a response to 'rate' needs 2 doses or more, and no run has one" in " ".join(err.split())


def test_one_figure_goes_into_a_file_whose_ending_is_the_format(runs, tmp_path):
    code, out, _ = call("plot", f"A={runs}/no-*", f"B={runs}/dropout-*", "--out", tmp_path / "a" / "flow.pdf",
                        "--figure", "gradient-flow", "--layer", "layer[12].*", "--baseline", "B")  # fmt: skip
    assert code == 0
    assert out == f"wrote {tmp_path / 'a' / 'flow.pdf'}\n"
    assert (tmp_path / "a" / "flow.pdf").read_bytes().startswith(b"%PDF")


def test_layers_are_those_that_match_and_formats_are_all(runs, tmp_path):
    code, out, _ = call("plot", runs, "--out", tmp_path, "--figure", "weights", "--figure", "saturation", "--figure",
                        "effective_rank", "--layer", "layer2.*", "--layer", "*3.activation", "--format", "svg", "--json")  # fmt: skip
    assert code == 0
    assert json.loads(out)["files"] == [
        str(tmp_path / f"{name}.svg") for name in ("weights", "saturation", "effective_rank")
    ]
    for name, expected in (("weights", 1), ("saturation", 2), ("effective_rank", 2)):
        svg = (tmp_path / f"{name}.svg").read_text()
        titles = {layer for layer in ("layer1", "layer2", "layer3") if f"<!-- {layer}" in svg}
        assert titles == {"layer2", "layer3"} if expected == 2 else {"layer2"}


def test_what_was_asked_for_and_is_not_there_is_named_with_code_1(runs, tmp_path):
    code, out, err = call("plot", runs, "--out", tmp_path, "--figure", "net_variance", "--figure", "gaaf")
    assert (code, out) == (1, f"wrote {tmp_path / 'gaaf.png'}\n")
    assert err.startswith("not drawn: net_variance: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--figure", "wieghts"],
            "error: nothing can be drawn of these runs. wieghts: there is no such figure; did you mean 'weights'",
        ),
        (["--figure", "los"], "no run holds scalar 'los'; did you mean 'loss'"),
        (["--layer", "zzz"], "error: no layer matches 'zzz'; there are 'layer1.linear'"),
        (["--phase", "evl", "--figure", "saturation"], "in phase 'evl'; did you mean 'eval'"),
        (["--out", "figure.png"], "figure.png is one file and many figures are asked for"),
        (["--out", "figure.png", "--figure", "weights", "--format", "svg"], "ends in 'png' and --format says svg"),
        (["--baseline", "None", "--figure", "gradient_flow"], "no condition 'None'"),
    ],
)
def test_wrong_input_writes_nothing(runs, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = call("plot", runs, "--out", "figures", *options)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_drawn(runs, tmp_path):
    (runs / "dropout-s0" / "run.json").write_text("{")
    code, out, err = call("plot", runs, "--out", tmp_path, "--figure", "weights")
    assert code == 1
    assert out == f"wrote {tmp_path / 'weights.png'}\n"
    assert "left out: " in err
    assert "dropout-s0" in err
