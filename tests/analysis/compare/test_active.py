"""What active measurements recorded, as measures of a comparison: beside numpy on the rows that were written."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.analysis import flow_decomposition, learning
from dropdiag.analysis.compare.active import BY_GAAF, NO_BIAS, NO_MASK
from dropdiag.analysis.compare.measures import FLOW_TERMS, measure_of
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.flows import flow_runs, readings, write_flow

CONDITIONS = ("No dropout", "Dropout", "GAAF")
SEEDS, STEPS = range(4), 1000
VALUES = np.random.default_rng(8).lognormal(0.0, 0.5, (3, len(SEEDS), 12))
"""Of each run, what it measured."""


def rows(v: np.ndarray) -> list[ScalarRow]:
    def network(step: int, phase: str, quantity: str, value: float) -> ScalarRow:
        return ScalarRow(step, phase, None, 0, quantity, float(value))

    return [
        network(500, "flatness", "relative_flatness", 99.0), network(STEPS, "flatness", "relative_flatness", v[0]),
        network(STEPS, "flatness-2", "relative_flatness", 98.0), network(STEPS, "flatness", "loss_rise@0.1", v[1]),
        network(STEPS, "flatness", "hessian_eigenvalue@1", v[2]), network(STEPS, "flatness", "hessian_trace_se", 3.0),
        ScalarRow(STEPS, "flatness", "fc", 0, "relative_flatness", float(v[3])),
        *(network(STEPS, "robustness", f"noisy_loss@{x}", value) for x, value in (("0", v[4]), ("0.2", v[5]))),
        network(STEPS, "ensemble", "ensemble_kl_geometric", v[6]),
        network(STEPS, "ensemble", "ensemble_kl_geometric_bias", 0.1 * v[0]),
        network(STEPS, "ensemble", "ensemble_kl_arithmetic", 2.0),
        *(ScalarRow(STEPS, "ablation", layer, 0, name, float(value))
          for layer, observed in (("act1", v[7]), ("act2", v[8]))
          for name, value in (("ablation_interaction", observed), ("ablation_interaction_null", v[3]),
                              ("ablation_interaction_null_sd", 0.1 * v[4]), ("ablated_loss@0.5", v[5]),
                              ("ablated_loss_se@0.5", 1.0))),
        *(network(step, "gradient_direction", f"gradient_direction_variance_masks_{masks}", value)
          for step, own in ((0, 9.0), (50, v[9]), (100, v[10]), (900, 7.0))
          for masks, value in (("on", own), ("off", own / 2))),
        network(STEPS, "eval", "accuracy@5", v[11]),
    ]  # fmt: skip


def write(path: Path, condition: str, seed: int, written: list[ScalarRow]) -> Path:
    sites: list[dict[str, Any]] = [{"layer": "fc", "call": 0, "kind": "weight", "type": "Linear", "shape": [3, 3]}]
    sites += [{"layer": name, "call": 0, "kind": "activation", "type": "GAAF" if condition == "GAAF" else "Tanh",
               "activation": None, "shape": []} for name in ("act1", "act2")]  # fmt: skip
    if condition == "Dropout":
        sites.append({"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "rate": 0.5, "shape": []})
    order = [[[site["layer"], 0]] for site in sites]
    writer = RunWriter(path, {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": sites,
                              "order": order, "activations": {}, "steps": STEPS})  # fmt: skip
    writer.add_scalars(written)
    writer.close("completed")
    return path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("active")
    return dd.compare(
        {name: [write(folder / f"{c}-{seed}", name, seed, rows(VALUES[c, seed])) for seed in SEEDS]
         for c, name in enumerate(CONDITIONS)}, on_unreadable="ignore")  # fmt: skip


def effect(comparison, measure, condition="Dropout", layer=None):
    table = comparison.table
    at = table["layer"].isna() if layer is None else table["layer"] == layer
    (found,) = table[(table["measure"] == measure) & (table["condition"] == condition) & at].itertuples()
    return found


def test_the_last_measurement_of_the_network_is_a_measure(comparison):
    v = VALUES
    for measure, scale, expected in (
        ("relative_flatness", "log ratio", np.log(v[1, :, 0]) - np.log(v[0, :, 0])),
        ("loss_rise@0.1", "difference", v[1, :, 1] - v[0, :, 1]),
        ("hessian_eigenvalue@1", "difference", v[1, :, 2] - v[0, :, 2]),
        ("noisy_loss@0.2", "difference", v[1, :, 5] - v[0, :, 5]),
        ("noisy_loss_rise@0.2", "difference", (v[1, :, 5] - v[1, :, 4]) - (v[0, :, 5] - v[0, :, 4])),
    ):
        found = effect(comparison, measure)
        assert (found.scale, found.n, found.paired) == (scale, len(SEEDS), True)
        assert found.effect == pytest.approx(expected.mean()), measure
    assert effect(comparison, "noisy_loss@0.2").unit == "loss units"
    measures = set(comparison.table["measure"])
    assert "hessian_trace_se" not in measures
    assert not {
        one for one in measures if one.startswith(("final:", "best:", "epochs_to_best:")) and "accuracy@5" not in one
    }
    # a user's own number that is called like a member of a family is none
    assert {"final:accuracy@5", "best:accuracy@5"} <= measures
    assert not comparison.problems or not any("flatness" in one for one in comparison.problems)


def test_that_of_layers_too(comparison):
    v = VALUES
    assert effect(comparison, "relative_flatness", layer="fc").effect == pytest.approx(
        (np.log(v[1, :, 3]) - np.log(v[0, :, 3])).mean()
    )
    for layer, place in (("act1", 7), ("act2", 8)):
        found = effect(comparison, "ablation_interaction", layer=layer)
        assert found.effect == pytest.approx((v[1, :, place] - v[0, :, place]).mean())


def test_the_network_is_none_of_its_layers_among_which_p_is_adjusted(comparison):
    for layer in (None, "fc"):
        found = effect(comparison, "relative_flatness", layer=layer)
        assert found.p_holm == found.p


def test_what_a_network_does_not_have_is_missing_with_the_reason(comparison):
    for measure in ("relative_flatness", "hessian_eigenvalue@1"):
        found = effect(comparison, measure, "GAAF")
        assert np.isnan(found.effect)
        assert BY_GAAF in found.note
    assert np.isfinite(effect(comparison, "loss_rise@0.1", "GAAF").effect)
    for name in ("ensemble_kl_geometric", "ensemble_kl_geometric_corrected"):
        kl = comparison.measured[comparison.measured["measure"] == name]
        assert kl.groupby("condition")["value"].count().to_dict() == {"Dropout": 4, "GAAF": 0, "No dropout": 0}
        assert set(kl.loc[kl["condition"] == "GAAF", "note"]) == {NO_MASK}


def test_what_few_masks_add_to_a_divergence_is_taken_off(comparison):
    kl = comparison.measured[comparison.measured["measure"] == "ensemble_kl_geometric_corrected"]
    own = kl[kl["condition"] == "Dropout"]["value"]
    np.testing.assert_allclose(own, VALUES[1, :, 6] - 0.1 * VALUES[1, :, 0])
    # of a divergence whose bias was not recorded there is none that could be corrected
    lost = comparison.measured[comparison.measured["measure"] == "ensemble_kl_arithmetic_corrected"]
    assert lost["value"].isna().all()
    assert set(lost[lost["condition"] == "Dropout"]["note"]) == {NO_BIAS}


def test_the_interaction_stands_beside_that_of_groups_drawn_by_lot(comparison):
    v = VALUES
    for layer, place in (("act1", 7), ("act2", 8)):
        apart = v[:, :, place] - v[:, :, 3]
        expected = {"ablation_interaction": v[1, :, place] - v[0, :, place],
                    "ablation_dependence": np.abs(apart[1]) - np.abs(apart[0]),
                    "ablation_dependence_squared": (apart[1]**2 - (0.1 * v[1, :, 4])**2) - (apart[0]**2 - (0.1 * v[0, :, 4])**2)}  # fmt: skip
        for measure, values in expected.items():
            assert effect(comparison, measure, layer=layer).effect == pytest.approx(values.mean()), measure
        found = effect(comparison, "ablation_interaction", layer=layer)
        assert (found.null, found.baseline_null) == pytest.approx((v[1, :, 3].mean(), v[0, :, 3].mean()))
    measures = set(comparison.table["measure"])
    assert "ablated_loss@0.5" in measures
    # what only says how sure another number is has no effect of its own
    assert not any("_se" in one or one.startswith("ablation_interaction_null") for one in measures)


def test_the_direction_is_that_of_training(comparison):
    series = comparison.series[comparison.series["measure"] == "gradient_direction_variance"]
    for c, condition in enumerate(CONDITIONS):
        own = series[(series["condition"] == condition) & (series["step"] == 50)]
        # a network without dropout has no masks that could be on
        expected = VALUES[c, :, 9] if condition == "Dropout" else VALUES[c, :, 9] / 2
        np.testing.assert_allclose(own["value"], expected)
    found = comparison.claims(claims="k").parts
    early = VALUES[:, :, 9:11].mean(axis=2)
    part = found[(found["condition"] == "Dropout") & (found["part"] == "less variance of direction")].iloc[0]
    assert part["effect"] == pytest.approx((early[1] - early[0] / 2).mean())


def test_all_claims_that_were_recorded_are_asked(comparison):
    found = comparison.claims()
    assert [*dict.fromkeys(found.table["claim"])] == list("abcdefghjk")
    assert [one.claim for one in found.unrecorded] == ["i", "l"]
    numbers = found.parts[found.parts["condition"] == "Dropout"].set_index("part")["effect"]
    v = VALUES
    assert numbers["geometric mean"] == pytest.approx((v[1, :, 6] - 0.1 * v[1, :, 0]).mean())
    assert numbers["lower loss rise with input noise of 0.2"] == pytest.approx(
        effect(comparison, "noisy_loss_rise@0.2").effect
    )
    apart = np.abs(v[:, :, 7:9] - v[:, :, 3, None])
    assert numbers["less dependence on particular nodes"] == pytest.approx((apart[1] - apart[0]).mean())


def test_the_terms_of_the_gradient_flow_are_those_of_the_decomposition(tmp_path):
    runs = flow_runs(tmp_path, every=2)
    found = dd.compare(runs, on_unreadable="ignore").table.set_index(["layer", "measure"])
    table = flow_decomposition.table(runs)
    assert len(table) > 9
    for row in table.itertuples():
        one = found.loc[(row.layer, FLOW_TERMS[row.term])]
        assert (one["effect"], one["low"], one["high"]) == pytest.approx((row.effect, row.low, row.high))
        assert (one["scale"], one["n"]) == ("log ratio", row.n)
    # of what no network has there is no measure
    assert "flow_other_paths" not in found.index.get_level_values("measure")


def test_a_run_that_ends_early_is_left_out_of_the_terms(tmp_path):
    for condition in ("A", "B"):
        for seed in range(3):
            steps = 20 if (condition, seed) == ("B", 0) else 40
            made = readings(["act1", "act2"], steps=steps, seed=seed + 10 * (condition == "B"))
            write_flow(tmp_path / f"{condition}-{seed}", made, ["act1", "act2"], condition=condition, seed=seed)
    file = tmp_path / "B-0" / "run.json"
    write_meta(file, json.loads(file.read_text()) | {"state": "failed"})
    found = dd.compare({name: str(tmp_path / f"{name}-*") for name in "AB"}, baseline="A", on_unreadable="ignore")
    slope = found.table[(found.table["measure"] == "flow_slope") & (found.table["layer"] == "act1")].iloc[0]
    assert slope["n"] == 2
    assert "at step 20 it has not reached step 40" in slope["note"]


def test_a_chain_that_leads_nowhere_has_no_part_of_the_slope(tmp_path):
    runs = flow_runs(tmp_path)
    for run in runs:
        described = json.loads((run.path / "run.json").read_text())
        for place in described["chain"]:
            if (place["kind"], place["layer"]) == ("node", "act2"):
                place |= {"next": None, "why": "what lies above is not known"}
        write_meta((run.path / "run.json"), described)
    table = dd.compare(dd.load([run.path for run in runs]), on_unreadable="ignore").table.set_index(
        ["layer", "measure"]
    )
    # the slopes of two layers are known, and that of the third is not, so that no part is said of their product
    lost = table.loc[("act1", "flow_slope")]
    assert np.isnan(lost["effect"])
    assert "what lies above is not known" in lost["note"]
    assert np.isfinite(table.loc[("act1", "flow_total"), "effect"])
    assert np.isfinite(table.loc[("act3", "flow_slope"), "effect"])


def test_members_of_a_family_are_measured_like_the_family():
    assert measure_of("noisy_loss@0.1").unit == "loss units"
    assert measure_of("noisy_loss_rise@0.1").quantity == "noisy_loss@0.1"
    assert measure_of("accuracy@5").unit == "as recorded"


def test_what_was_measured_is_none_of_the_scores_that_were_logged(comparison, tmp_path):
    assert learning.quantities(comparison.runs) == ["accuracy@5"]
    page = dd.report(comparison, tmp_path / "page.html").read_text()
    table = page[page.index("How well each condition does") :]
    heads = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", table[: table.index("</thead>")])
    assert any("accuracy@5" in head for head in heads)
    assert not any("loss" in head or "flatness" in head for head in heads)
    # the claims of which nothing was recorded say what they take
    assert 'Record probes="paper".' in html.unescape(re.sub(r"<[^>]+>", "", page))


def test_what_a_measurement_has_not_is_missing_with_the_reason_that_the_run_gives(tmp_path):
    x, y = torch.randn(32, 4), torch.randint(0, 3, (32,))
    runs = {}
    for name, rate in (("No dropout", 0.0), ("Dropout", 0.5)):
        for seed in range(2):
            model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(rate), nn.Linear(6, 3))
            path = tmp_path / f"{name}-{seed}"
            with dd.Recorder(model, path, config={"condition": name, "seed": seed}) as rec:
                for _ in range(2):
                    loss = nn.functional.cross_entropy(model(x), y)
                    loss.backward()
                    rec.step(loss=loss)
                rec.measure("gradient_direction", x, nn.functional.cross_entropy, y, batches=4)
            runs.setdefault(name, []).append(path)
    missing = json.loads((runs["No dropout"][0] / "run.json").read_text())["missing"]
    # the noise of so few batches may hide the gradient, which is told beside it
    (told,) = (one for one in missing if ["gradient_direction_variance_masks_on", None] in one["of"])
    assert told["phase"] == "gradient_direction"
    assert ["gradient_direction_variance_masks_on", None] in told["of"]
    found = dd.compare(runs, on_unreadable="ignore")
    assert told["why"] in effect(found, "gradient_direction_variance_masks_on").note
    assert np.isfinite(effect(found, "gradient_direction_variance_masks_off").effect)
