"""A layer that one run lacks changes neither the averages nor the slopes of the others."""

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.analysis.claims.claims import claims
from tests.analysis.claims.numbers import measured
from tests.analysis.compare.scenes import Scene, content
from tests.synthetic import write

SHARES = Scene(share=0.1, slope=0.1), Scene(share=0.2, slope=0.2)


def parts(folder, lacking, *, layers=3):
    """Compare five seeds, of which some lack a layer's net values: ``lacking`` is condition, seed, layer."""
    for salt, (condition, scene) in enumerate(zip(("plain", "treated"), SHARES, strict=True)):
        for seed in range(5):
            made = content(scene, seed, salt)
            for name in [f"layer{i}.activation" for c, s, i in lacking if (c, s) == (condition, seed)]:
                made.net_value[name] = np.empty(0)
            write(folder / f"{condition}-{seed}", made, condition, seed)
    found = dd.compare({name: str(folder / f"{name}-*") for name in ("plain", "treated")}, on_unreadable="ignore")
    claims = found.claims(claims="d").parts.set_index("part")
    return claims.loc["more saturated"], claims.loc["more so in higher layers"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return parts(tmp_path_factory.mktemp("whole"), [])


@pytest.mark.parametrize("lacking", [("treated", 3, 1), ("treated", 3, 3), ("plain", 0, 2)])
def test_the_run_is_left_out_and_named_and_the_effects_of_the_others_stay(tmp_path, whole, lacking):
    share, slope = parts(tmp_path, [lacking])
    condition, seed, _ = lacking
    for found, before in zip((share, slope), whole, strict=True):
        assert found["effect"] == pytest.approx(before["effect"], abs=0.01)
        assert (found["n"], found["n_baseline"]) == (4, 4)  # its partner goes with it
        assert f"{condition}-{seed} left out of what is taken over layers" in found["reason"]


def test_a_layer_that_most_runs_of_a_side_lack_is_left_out_and_the_slope_keeps_its_places(tmp_path, whole):
    share, slope = parts(tmp_path, [("treated", seed, 2) for seed in (0, 1, 2)])
    assert (share["n"], slope["n"]) == (5, 5)
    assert "without layer2.activation, which most runs lack" in share["reason"]
    # from the first to the third layer there are two steps
    assert slope["effect"] == pytest.approx(whole[1]["effect"], abs=0.01)


OWN = ("weight_w1_from_start", "excess_net_variance", "far_gradient_probability")


def gaps(lacking):
    """Compare two conditions of three seeds; ``lacking`` is seed -> layer that it lacks in a condition."""
    rng = np.random.default_rng(0)
    told = {}
    for condition, places in zip(("No dropout", "Dropout"), lacking, strict=True):
        told[condition] = {}
        for seed in range(3):
            values = {name: 0.2 + 0.01 * rng.normal(size=3) for name in ("saturation_share", "gradient_flow", *OWN)}
            if seed in places:
                for of_layers in values.values():
                    of_layers[places[seed]] = np.nan
            told[condition][seed] = values
    return claims(measured(told), claims="acd")


@pytest.mark.parametrize("lacking", [
    ({}, {0: 0, 1: 1, 2: 2}), ({0: 0, 1: 1, 2: 2}, {}), ({0: 2, 1: 0, 2: 1}, {0: 0, 1: 1, 2: 2}), ({0: 0}, {1: 1, 2: 2}),
])  # fmt: skip
def test_where_no_run_or_pair_has_all_layers_nothing_is_judged_and_the_reason_says_why(lacking):
    found = gaps(lacking)
    parts = found.parts.set_index("part")
    for part in ("more gradient", "more saturated"):
        assert parts.loc[part, "verdict"] == "not recorded"
        assert "left out of what is taken over layers, for a layer is missing there" in parts.loc[part, "reason"]
    for part in ("variance transferred upward", "no gradient far out"):
        whole = 3 - len(lacking[1])
        assert parts.loc[part, "n"] == whole
        assert ("is not judged: Dropout-0, Dropout-1, Dropout-2 left" in parts.loc[part, "reason"]) == (whole == 0)
    # each layer is shown with what there is of it, and nothing is decided
    share = found.layers[found.layers["part"] == "more saturated"]
    assert len(share) == 3
    assert set(share["verdict"]) == {"undecided"}


ALIKE = ("weight_shape_distance", "weight_scale_distance")


@pytest.mark.parametrize("lacking", [{("treated", seed) for seed in range(3)}, {("treated", 1)}])
def test_layers_are_as_alike_as_those_that_all_conditions_have(tmp_path, lacking):
    """One network recorded twice, once without its last layer: it is not more alike for that."""
    scene, runs = Scene(normal=0.2, apart=0.6, widths=0.5), {}
    for condition in ("plain", "treated"):
        for seed in range(3):
            made = content(scene, seed)
            made.weight["layer3.linear"] = made.weight["layer3.linear"] + (condition == "treated") * 1e-3 * seed
            if (condition, seed) in lacking:
                for part in (made.weight, made.net_value, made.node_correlation, made.gradient_flow):
                    del part[next(name for name in part if name.startswith("layer3"))]
            write(tmp_path / f"{condition}-{seed}", made, condition, seed)
            runs[condition, seed] = made.weight
    table = dd.compare([str(tmp_path / "*")], baseline="plain", on_unreadable="ignore").table
    known = 2 if len(lacking) == 3 else 3
    expected = np.mean(
        [_apart_in_scale(runs["plain", seed], known) for seed in range(3) if known == 2 or seed != 1], axis=0
    )
    for measure in ALIKE:
        rows = table[table["measure"] == measure]
        assert rows["layer"].tolist() == [f"layer{i + 1}.linear" for i in range(known)]
        assert rows["n"].tolist() == [3 if known == 2 else 2] * known
        np.testing.assert_allclose(rows["effect"], 0.0, atol=1e-3)
        why = "treated-1: a layer is missing, to which the other runs have a distance"
        assert rows["note"].str.contains(why).tolist() == ([True, True, False] if known == 3 else [False, False])
    np.testing.assert_allclose(rows["baseline_value"], expected, rtol=0.01)


def _apart_in_scale(weights, known):
    logs = np.log([values.std() for values in list(weights.values())[:known]])
    return np.abs(logs[:, None] - logs).sum(axis=1) / (known - 1)
