"""The tables of active measurements: beside numpy on the rows that were written."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import dropdiag as dd
from dropdiag.report.data import gather
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.schema import MEASURED, at
from dropdiag.store.writer import RunWriter
from tests.openings import openings

CONDITIONS, SEEDS, STEPS = ("No dropout", "Dropout"), 3, 1000
LAYERS = ("act1", "act2")
SCORES = ("nll", "accuracy", "calibration_error")
OUTPUTS = ("weight_scaled", "geometric", "arithmetic")
NETWORK = {
    "flatness": ("relative_flatness", "loss_rise@0.1", "hessian_eigenvalue@1", "hessian_eigenvalue@2", "hessian_trace",
                 "sam_sharpness@0.05", "hessian_trace_se"),
    "robustness": ("noisy_loss@0", "noisy_loss@0.2", "noisy_accuracy@0", "noisy_accuracy@0.2"),
    "ensemble": (*(f"{score}_{output}" for score in SCORES for output in OUTPUTS), "mutual_information", "ensemble_masks",
                 *(f"ensemble_kl_{mean}{end}" for mean in ("geometric", "arithmetic") for end in ("", "_bias")), "regulariser"),
}  # fmt: skip
OF_LAYERS = {
    "flatness": ("relative_flatness",),
    "masks_by_weights": ("flow_masks_off", "flow_masks_on"),
    "ablation": ("ablation_interaction", "ablation_interaction_null", *(at(f"ablated_{score}", share)
                 for score in ("loss", "accuracy") for share in (0.0, 0.25, 0.5, 1.0))),
    "eval": ("multiple_correlation",),
}  # fmt: skip
EARLY, DIRECTION = (0, 50, 100, 900), "gradient_direction_variance_masks_off"
Values = dict[tuple[str, str, str], np.ndarray]


def values_of(condition: int) -> Values:
    """Phase, quantity and layer -> what the runs of a condition measured last; of the direction, shape (seeds, steps)."""
    rng = np.random.default_rng(condition)
    names = [(phase, name, "") for phase, several in NETWORK.items() for name in several]
    names += [(phase, name, layer) for phase, several in OF_LAYERS.items() for name in several for layer in LAYERS]
    made = {name: rng.lognormal(0.0, 0.4, SEEDS) for name in names}
    return {**made, ("gradient_direction", DIRECTION, ""): rng.uniform(0.1, 0.5, (SEEDS, len(EARLY)))}


def write(path: Path, condition: int, seed: int, measures: set[str], more: tuple[ScalarRow, ...] = ()) -> Path:
    sites: list[dict[str, Any]] = [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "activation": None,
                                    "shape": []} for name in LAYERS]  # fmt: skip
    name = CONDITIONS[condition]
    lost = [{"phase": "flatness", "why": "there is no second derivative", "of": [["hessian_trace", None]]}]
    writer = RunWriter(path, {"config": {"condition": name, "seed": seed}, "versions": {}, "layers": sites, "activations": {},
                              "order": [[[site["layer"], 0]] for site in sites], "steps": STEPS,
                              "missing": lost if condition else []})  # fmt: skip
    rows = [*more, ScalarRow(STEPS, "train", None, 0, "loss", 1.0)]
    for (phase, quantity, layer), values in values_of(condition).items():
        if phase not in (*measures, "eval"):
            continue
        at_steps = zip(EARLY, values[seed], strict=True) if values.ndim > 1 else [(10, 99.0), (STEPS, values[seed])]
        rows += [ScalarRow(step, phase, layer or None, 0, quantity, float(value)) for step, value in at_steps]
    writer.add_scalars(rows)
    writer.close("completed")
    return path


def written(folder: Path, measures: set[str] = frozenset(MEASURED), **options: Any) -> dict[str, list[Path]]:
    return {name: [write(folder / f"{c}-{seed}", c, seed, set(measures), **options) for seed in range(SEEDS)]
            for c, name in enumerate(CONDITIONS)}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def paths(folder):
    return written(folder)


@pytest.fixture(scope="module")
def content(paths):
    return gather(load(paths))


def rows_of(content, name, place=0):
    """The rows of one table as dicts: heading -> cell."""
    (found,) = [one for one in content.measured if one.section.name == name]
    table = found.tables[place]
    return [dict(zip(table.heads, row, strict=True)) for row in table.rows]


def own(condition, phase, quantity, layer=""):
    return values_of(CONDITIONS.index(condition))[phase, quantity, layer]


def check(cell, values, digits=3):
    """A cell has the mean, shown with the standard deviation over seeds."""
    assert float(cell.value) == pytest.approx(np.mean(values))
    assert float(cell.shown.replace("−", "-").split(" (")[0]) == pytest.approx(
        np.mean(values), rel=0.6 * 10.0 ** (1 - digits)
    )
    spread = float(cell.shown.split(" (")[1].rstrip(")").replace("−", "-"))
    assert spread == pytest.approx(np.std(values, ddof=1), rel=0.06)


def test_all_that_was_recorded_has_a_table(content):
    assert [one.section.name for one in content.measured] == [
        "masks_by_weights", "gradient_direction", "ensemble", "flatness", "robustness", "ablation",
    ]  # fmt: skip
    assert {one.section.name for one in content.measured} == set(MEASURED)
    others = [
        row[0].shown for one in content.diagnostics if one.section.name == "other_scalars" for row in one.table.rows
    ]
    assert set(others) == {"adjusted R² of a node on the others, mean"}


def test_effects_of_weights_and_masks(content):
    rows = rows_of(content, "masks_by_weights")
    assert [(row["Condition"].value, row["Layer"].value) for row in rows] == [("Dropout", "act1"), ("Dropout", "act2")]
    for row in rows:
        off, on = (np.log([own(c, "masks_by_weights", f"flow_masks_{m}", row["Layer"].value) for c in CONDITIONS])
                   for m in ("off", "on"))  # fmt: skip
        expected = {"Weights": (off[1] - off[0] + on[1] - on[0]) / 2, "Masks": (on[0] - off[0] + on[1] - off[1]) / 2,
                    "Interaction": on[1] - off[1] - on[0] + off[0], "Together": on[1] - off[0]}  # fmt: skip
        for name, paired in expected.items():
            assert float(row[name].value) == pytest.approx(np.exp(paired.mean())), name
            low, high = np.exp(stats.t.interval(0.95, SEEDS - 1, paired.mean(), stats.sem(paired)))
            told = re.findall(r"[\d.]+(?:e[−-]?\d+)?", row[name].shown.split("[")[1])
            assert [float(end.replace("−", "-")) for end in told] == pytest.approx([low, high], rel=6e-3), name
        assert row["Runs of both"].value == str(2 * SEEDS)
    cells = rows_of(content, "masks_by_weights", 1)
    assert len(cells) == 4
    for row in cells:
        for head, name in (("Masks off", "flow_masks_off"), ("Masks on", "flow_masks_on")):
            check(row[head], own(row["Condition"].value, "masks_by_weights", name, row["Layer"].value))


def test_the_output_beside_the_means_over_masks(content):
    rows = {(row["Condition"].value, row["Output"].value): row for row in rows_of(content, "ensemble")}
    assert len(rows) == 6
    for mean in ("geometric", "arithmetic"):
        row = rows["Dropout", f"{mean} mean"]
        whole, bias = (own("Dropout", "ensemble", f"ensemble_kl_{mean}{end}") for end in ("", "_bias"))
        assert float(row["KL to weight scaling, nats"].value) == pytest.approx((whole - bias).mean())
        assert float(row["Taken off it for few masks"].value) == pytest.approx(bias.mean())
    scaled = rows["No dropout", "weight scaling"]
    assert scaled["KL to weight scaling, nats"].value == ""
    for head, score in (("NLL, nats", "nll"), ("Accuracy", "accuracy"), ("Calibration error", "calibration_error")):
        check(scaled[head], own("No dropout", "ensemble", f"{score}_weight_scaled"))
    check(
        rows["Dropout", "arithmetic mean"]["Mutual information, nats"], own("Dropout", "ensemble", "mutual_information")
    )
    alone = rows_of(content, "ensemble", 1)
    assert [row["Dropout"].value for row in alone] == ["all together"] * 2
    check(alone[1]["R, loss units"], own(alone[1]["Condition"].value, "ensemble", "regulariser"))


def test_flatness_and_robustness(content):
    rows = {(row["Number"].value, row["Condition"].value): row for row in rows_of(content, "flatness")}
    names = {
        "relative flatness (less is flatter)": "relative_flatness", "rise of the loss at 0.1": "loss_rise@0.1",
        "largest eigenvalue of the Hessian": "hessian_eigenvalue@1", "eigenvalue 2 of the Hessian": "hessian_eigenvalue@2",
        "trace of the Hessian": "hessian_trace", "SAM sharpness at 0.05": "sam_sharpness@0.05",
    }  # fmt: skip
    assert [name for name, condition in rows if condition == "Dropout"] == list(names)
    for (called, condition), row in rows.items():
        check(row["Mean"], own(condition, "flatness", names[called]))
    for row in rows_of(content, "flatness", 1):
        check(
            row["Relative flatness, loss units"],
            own(row["Condition"].value, "flatness", "relative_flatness", row["Layer"].value),
        )
    for row in rows_of(content, "robustness"):
        noise, condition = float(row["Noise, sd of the inputs"].value), row["Condition"].value
        loss, clean = (own(condition, "robustness", at("noisy_loss", x)) for x in (noise, 0.0))
        check(row["Loss"], loss)
        check(row["Accuracy"], own(condition, "robustness", at("noisy_accuracy", noise)))
        added = [float(row["Added by noise"].value)] if noise else []
        assert added == pytest.approx([(loss - clean).mean()] if noise else [])
    assert [row["Noise, sd of the inputs"].shown for row in rows_of(content, "robustness")] == ["0", "0", "0.2", "0.2"]


def test_three_definitions_of_co_adaptation_stand_side_by_side(content):
    rows = rows_of(content, "ablation")
    assert len(rows) == 4
    for row in rows:
        site = row["Condition"].value, "ablation"
        observed, lot = (own(*site, f"ablation_interaction{end}", row["Layer"].value) for end in ("", "_null"))
        check(row["I"], observed)
        check(row["I by lot"], lot)
        check(row["|I − by lot|"], np.abs(observed - lot))
        check(row["Multiple R²"], own(row["Condition"].value, "eval", "multiple_correlation", row["Layer"].value))
        assert row["Mean |r|"].value == ""  # no histogram of r was recorded
    for row in rows_of(content, "ablation", 1):
        for head, name in (
            ("Loss, none ablated", "ablated_loss@0"),
            ("Accuracy, 50 % ablated", "ablated_accuracy@0.5"),
        ):
            check(row[head], own(row["Condition"].value, "ablation", name, row["Layer"].value))


def test_the_direction_early_and_late(content):
    rows = {row["Condition"].value: row for row in rows_of(content, "gradient_direction")}
    for condition, row in rows.items():
        values = own(condition, "gradient_direction", DIRECTION)
        check(row["Variance, early"], values[:, 1:3].mean(axis=1), digits=2)
        check(row["Variance, late"], values[:, 3], digits=2)
        assert (row["Masks"].value, row["Error, late"].value) == ("off", "")
    (found,) = [one for one in content.measured if one.section.name == "gradient_direction"]
    assert "at steps 50, 100." in found.tables[0].note
    assert [one["steps"] for one in found.figure["curves"]] == [list(EARLY)]


def test_what_is_missing_says_why(content, paths, tmp_path):
    (found,) = [one for one in content.measured if one.section.name == "flatness"]
    assert found.missing == ["Dropout: hessian_trace missing: there is no second derivative."]
    page = dd.report(load(paths), tmp_path / "page.html").read_text()
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "hessian_trace missing: there is no second derivative." in text
    assert "Measured with passes of their own" in text
    for one in content.measured:
        assert page.count(f'id="{one.section.name}"') == 1
        assert f'id="{one.section.name}-table"' in page
        part = page[page.index(f'id="{one.section.name}"') :]
        how = re.search(
            r"<b>How to read it.</b> (.*?)</p>\s*<p class=\"how\"><b>How it misleads.</b> (.*?)</p>", part, re.DOTALL
        )
        assert how is not None
        # each has words of its own, and not those for what nobody describes
        assert min(map(len, how.groups())) > 40
        assert "The distribution of" not in how[1]
    meta = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)[1])
    assert {"masks_by_weights", "gradient_direction"} <= set(meta["sections"])


def test_only_what_was_recorded_is_there(tmp_path):
    assert gather(load(written(tmp_path / "none", set()))).measured == []
    one = gather(load(written(tmp_path / "one", {"robustness"})))
    assert [found.section.name for found in one.measured] == ["robustness"]
    page = dd.report(load(written(tmp_path / "again", set())), tmp_path / "page.html").read_text()
    assert "Measured with passes of their own" not in page


def test_what_was_recorded_in_another_phase_is_shown_with_the_others(tmp_path):
    more = (ScalarRow(STEPS, "mine", "act1", 0, "ablation_interaction", 0.25),)
    found = gather(load(written(tmp_path, {"ablation"}, more=more)))
    others = [row for one in found.diagnostics if one.section.name == "other_scalars" for row in one.table.rows]
    assert {row[2].shown for row in others if row[0].shown == "interaction I of partners"} == {"mine"}


def test_layers_that_are_not_wanted_are_left_out(paths):
    found = gather(load(paths), layers=["act2"])
    assert {row["Layer"].value for row in rows_of(found, "ablation")} == {"act2"}
    assert {row["Layer"].value for row in rows_of(found, "masks_by_weights")} == {"act2"}
    assert len(rows_of(found, "flatness")) == 12  # of the network


def test_one_condition_alone_has_cells_and_no_effects(paths):
    found = gather(load({"Dropout": paths["Dropout"]}))
    (one,) = [one for one in found.measured if one.section.name == "masks_by_weights"]
    assert [table.heads for table in one.tables] == [["Condition", "Layer", "Masks off", "Masks on", "Seeds"]]


def test_no_file_is_opened_more_often_for_it(folder, paths):
    gather(load(paths))
    with openings(folder) as opened:
        gather(load(paths))
    assert max(times for name, times in opened.items() if "scalars" in name) <= 3
