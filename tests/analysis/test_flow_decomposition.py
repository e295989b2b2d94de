from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag.analysis import flow_decomposition as decomposition
from dropdiag.analysis.seeds import t_interval
from dropdiag.errors import ArgumentError, BaselineError, NotRecordedError
from dropdiag.store.reader import Runs, load
from tests.flows import ABOVE, BELOW, INPUT_PATH, NET, NODE, OUTPUT, PATH, flow_runs, readings, write_flow

DROPPED = ["act1", "drop1", "act2", "drop2", "act3"]


@pytest.fixture(scope="module", params=[1, 5])
def runs(request, tmp_path_factory) -> Runs:
    return flow_runs(tmp_path_factory.mktemp("flow"), every=request.param)


@pytest.fixture(scope="module")
def raw(runs) -> pd.Series:
    """Mean of each reading of each run over the steps at which the output was read, straight from the rows."""
    rows = runs.scalars
    scheduled = rows[rows["quantity"] == OUTPUT].groupby("run", observed=True)["step"].unique()
    kept = pd.concat([part[part["step"].isin(scheduled[run])] for run, part in rows.groupby("run", observed=True)])
    return kept.groupby(["run", "quantity", "layer"], observed=True)["value"].mean()


def of(table: pd.DataFrame, layer: str, term: str) -> pd.Series:
    return table[(table["layer"] == layer) & (table["term"] == term)].iloc[0]


def flows(runs: Runs, **options) -> pd.DataFrame:
    """Return the effects on gradient flow that `compare` finds."""
    table = dd.compare(runs, on_unreadable="ignore", **options).table
    return table[table["measure"] == "gradient_flow"]


def paired(raw: pd.Series, dropped, plain) -> tuple[float, float, float]:
    """Mean over seeds and t interval of the difference of two logarithms, each a function of a run's means."""
    return t_interval(
        [dropped(np.log(raw[f"dropout-s{s}"])) - plain(np.log(raw[f"no-dropout-s{s}"])) for s in range(3)]
    )


def test_terms_are_ratios_of_means_of_neighbours(runs, raw) -> None:
    table = decomposition.table(runs)
    slopes = {layer: lambda m, at=layer: m[NET, at] - m[NODE, at] for layer in ("act1", "act2", "act3")}

    def transport(m):  # from act3 to act2, with a dropout on the way or without
        into = m[ABOVE, "drop2"] - m[NET, "act3"] + m[NODE, "act2"] - m[BELOW, "drop2"] if (ABOVE, "drop2") in m else (
            m[NODE, "act2"] - m[NET, "act3"])  # fmt: skip
        return into + m[NODE, "act3"] - m[OUTPUT, "(output)"]

    def slope(m):
        return slopes["act2"](m) + slopes["act3"](m)

    def error(m):
        return m[OUTPUT, "(output)"]

    def mask(m):
        return m[BELOW, "drop2"] - m[ABOVE, "drop2"] if (ABOVE, "drop2") in m else 0.0

    for term, one in (("transport", transport), ("slope", slope), ("output error", error), ("mask", mask)):
        row = of(table, "act2", term)
        np.testing.assert_allclose(row[["effect", "low", "high"]].astype(float), paired(raw, one, one), rtol=1e-10)
    assert (table["n"] == 3).all()
    assert set(table["baseline"]) == {"No dropout"}
    assert not table["why"].any()


def test_terms_add_up_to_the_effect_of_compare_over_the_same_steps(runs) -> None:
    table = decomposition.table(runs)
    for per in ("kind", "layer"):
        found = decomposition.table(runs, per=per)
        sums = found[found["term"] != "total"].groupby("layer")["effect"].sum()
        for layer, total in sums.items():
            assert total == pytest.approx(of(found, layer, "total")["effect"], abs=1e-12)
    same = flows(runs, steps=decomposition.steps(runs))
    every = flows(runs)
    assert list(same["layer"]) == ["act1", "act2", "act3"]
    for row in same.itertuples():
        ours = of(table, row.layer, "total")
        assert tuple(ours[["effect", "low", "high"]]) == pytest.approx((row.effect, row.low, row.high), abs=1e-12)
        assert (ours["n"], ours["paired"]) == (row.n, row.paired)
        assert "asked for" in row.note
    for row in every.itertuples():
        assert of(table, row.layer, "total")["every_step"] == pytest.approx(row.effect, abs=1e-12)


def test_steps_may_be_given_to_compare_for_all_runs_at_once(tmp_path) -> None:
    runs = flow_runs(tmp_path)
    rows = runs.scalars
    kept = rows[(rows["quantity"] == NET) & rows["step"].isin([3, 9])].groupby(["run", "layer"], observed=True)["value"]
    logs = np.log(kept.mean())
    found = flows(runs, steps=[9, 3]).set_index("layer")["effect"]
    for layer in ("act1", "act2", "act3"):
        expected = np.mean([logs[f"dropout-s{s}", layer] - logs[f"no-dropout-s{s}", layer] for s in range(3)])
        assert found[layer] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ArgumentError, match="steps must be training steps, such as range"):
        dd.compare(runs, steps="all")


def test_each_term_by_itself_is_named_after_what_it_is(runs) -> None:
    table = decomposition.table(runs, per="layer", layers=["act2"])
    assert list(zip(table["term"], table["name"], strict=True)) == [
        ("output error", "(output)"), ("transport", "fc4"), ("slope", "act3"), ("transport", "fc3, batch norm"),
        ("mask", "drop2"), ("slope", "act2"), ("total", ""),
    ]  # fmt: skip


def test_the_product_of_a_runs_factors_is_its_gradient_flow(runs, raw) -> None:
    frame = decomposition.per_run(runs)
    for (run, layer), part in frame.groupby(["run", "layer"]):
        assert part["flow"].iloc[-1] == pytest.approx(raw[run, NET, layer], rel=1e-10)
        np.testing.assert_allclose(part["factor"].cumprod(), part["flow"])
    terms = frame[(frame["run"] == "dropout-s0") & (frame["layer"] == "act2")]["term"]
    assert list(terms) == ["output error", "transport", "slope", "transport", "mask", "transport", "slope"]


def one(folder, condition: str, made, order, seed=0, **options):
    return write_flow(folder / f"{condition}-{seed}", made, order, condition=condition, seed=seed, **options)


@pytest.mark.parametrize(
    ("changed", "term"),
    [
        ({OUTPUT: None}, "output error"),
        ({ABOVE: "drop2", BELOW: "drop2", NODE: "act2"}, "transport"),
        ({BELOW: "drop1", NODE: "act1"}, "mask"),
        ({NET: "act2"}, "slope"),
    ],
)
def test_where_one_thing_is_changed_its_term_alone_moves(tmp_path, changed, term) -> None:
    """Everything below the change doubles too, as the gradient that arrives there does."""
    chain = [(OUTPUT, "(output)"), (NODE, "act3"), (NET, "act3"), (ABOVE, "drop2"), (BELOW, "drop2"), (NODE, "act2"),
             (NET, "act2"), (ABOVE, "drop1"), (BELOW, "drop1"), (NODE, "act1"), (NET, "act1")]  # fmt: skip
    made = readings(["act1", "act2", "act3"], ["drop1", "drop2"], steps=6, seed=1)
    place = next(i for i, (quantity, layer) in enumerate(chain) if changed.get(quantity, "-") in (layer, None))
    doubled = {key: values * (2.0 if chain.index(key) >= place else 1.0) for key, values in made.items()}
    runs = load({"as it was": one(tmp_path, "base", made, DROPPED), "doubled": one(tmp_path, "more", doubled, DROPPED)})
    table = decomposition.table(runs, layers=["act1"], baseline="as it was").set_index("term")["effect"]
    for name, effect in table.items():
        assert effect == pytest.approx(np.log(2.0) if name in (term, "total") else 0.0, abs=1e-12)


def test_other_paths_are_what_the_whole_gradient_has_beside_the_path(tmp_path) -> None:
    acts = ["act1", "act2"]
    plain, branched = (readings(acts, ["drop1"], steps=8, seed=seed) for seed in (3, 4))
    branched[PATH, "act1"] = 0.5 * branched[NODE, "act1"]
    branched[INPUT_PATH, "drop1"] = 0.25 * branched[BELOW, "drop1"]
    order = ["act1", "drop1", "act2"]
    runs = load({"base": one(tmp_path, "base", plain, order), "skip": one(tmp_path, "skip", branched, order)})
    table = decomposition.table(runs, layers=["act1"])
    assert of(table, "act1", "other paths")["effect"] == pytest.approx(np.log(8.0), abs=1e-12)
    m = {key: np.log(values.mean()) for key, values in branched.items()}
    b = {key: np.log(values.mean()) for key, values in plain.items()}
    mask = (m[INPUT_PATH, "drop1"] - m[ABOVE, "drop1"]) - (b[BELOW, "drop1"] - b[ABOVE, "drop1"])
    assert of(table, "act1", "mask")["effect"] == pytest.approx(mask, abs=1e-12)
    total = np.log(branched[NET, "act1"].mean() / plain[NET, "act1"].mean())
    assert of(table, "act1", "total")["effect"] == pytest.approx(total, abs=1e-12)
    assert table.loc[table["term"] != "total", "effect"].sum() == pytest.approx(total, abs=1e-12)


def test_a_missing_reading_has_its_reason_and_leaves_the_total(tmp_path) -> None:
    acts, paths = ["act1", "act2"], {"a": [], "b": []}
    for seed in (0, 1):
        for condition, found in paths.items():
            made = readings(acts, steps=6, seed=seed + 10 * (condition == "b"))
            made[OUTPUT, "(output)"][:] = np.nan
            found.append(one(tmp_path, condition, made, acts, seed))
    table = decomposition.table(load(paths), baseline="a")
    row = of(table, "act1", "output error")
    assert np.isnan(row["effect"])
    assert row["why"] == "the gradient of the output of '(output)' has no value"
    assert np.isnan(of(table, "act1", "transport")["effect"])
    assert np.isfinite(table.loc[table["term"].isin(["slope", "total"]), ["effect", "low", "high"]]).all().all()


def test_steps_at_which_a_reading_is_missing_count_for_none(tmp_path) -> None:
    acts = ["act1", "act2"]
    a, b = (readings(acts, steps=6, seed=seed) for seed in (0, 1))
    b[NODE, "act1"][2] = np.nan
    runs = load({"a": one(tmp_path, "a", a, acts), "b": one(tmp_path, "b", b, acts)})
    table = decomposition.table(runs, baseline="a", layers=["act2"])
    kept = [0, 1, 3, 4, 5]
    expected = np.log(b[NET, "act2"][kept].mean() / a[NET, "act2"].mean())
    assert of(table, "act2", "total")["effect"] == pytest.approx(expected, abs=1e-12)
    assert set(table["steps"]) == {5.5}
    assert {len(steps) for steps in decomposition.steps(runs).values()} == {5, 6}
    same = flows(runs, baseline="a", steps=decomposition.steps(runs))
    assert same.set_index("layer")["effect"]["act2"] == pytest.approx(expected, abs=1e-12)


def test_runs_that_end_early_or_diverge_are_left_out_by_the_rules_of_compare(tmp_path) -> None:
    acts, paths = ["act1", "act2"], {"a": [], "b": []}
    for seed in range(4):
        for condition, found in paths.items():
            made = readings(acts, steps=30, seed=seed + 10 * (condition == "b"))
            if (condition, seed) == ("b", 0):
                made[NET, "act1"][5:] = np.nan
            found.append(one(tmp_path, condition, made, acts, seed))
    runs = load(paths)
    table = decomposition.table(runs, baseline="a")
    assert set(table["n"]) == {3}
    assert "b-0: 25 of 30 gradients are not finite" in table["note"].iloc[0]
    theirs = flows(runs, baseline="a").set_index("layer")
    assert of(table, "act1", "total")["effect"] == pytest.approx(theirs.loc["act1", "effect"], abs=1e-12)


def test_a_run_of_which_all_readings_are_lost_has_diverged_as_well(tmp_path) -> None:
    acts, paths = ["act1", "act2"], {"a": [], "b": []}
    for seed in range(4):
        for condition, found in paths.items():
            made = readings(acts, steps=30, seed=seed + 10 * (condition == "b"))
            if condition == "b" and seed < 2:
                for values in made.values():
                    values[20 * seed :] = np.nan  # of seed 0 from the first step on
            found.append(one(tmp_path, condition, made, acts, seed))
    runs = load(paths)
    table = decomposition.table(runs, baseline="a")
    assert set(table["n"]) == set(table["n_baseline"]) == {2}
    assert "b-0: 30 of 30 gradients are not finite; b-1: 10 of 30 gradients are not finite" in table["note"].iloc[0]
    theirs = dd.compare(runs, on_unreadable="ignore", baseline="a").table.set_index(["measure", "layer"])
    for measure, term in (("gradient_flow", "total"), ("flow_transport", "transport")):
        expected = of(table, "act1", term)["effect"]
        assert theirs.loc[(measure, "act1"), "effect"] == pytest.approx(expected, abs=1e-12)


def test_a_layer_that_does_not_run_at_a_step_has_not_diverged(tmp_path) -> None:
    acts, paths = ["act1", "act2"], {"a": [], "b": []}
    for seed in range(2):
        for condition, found in paths.items():
            made = readings(acts, steps=30, seed=seed + 10 * (condition == "b"))
            if condition == "b":
                made[NET, "act1"], made[NODE, "act1"] = made[NET, "act1"][:20], made[NODE, "act1"][:20]
            found.append(one(tmp_path, condition, made, acts, seed))
    table = decomposition.table(load(paths), baseline="a")
    assert set(table["n"]) == {2}
    assert "finite" not in table["note"].iloc[0]
    assert set(table["steps"]) == {25.0}


def test_without_a_row_of_the_path_all_of_the_gradient_came_by_it(tmp_path) -> None:
    acts = ["act1", "act2"]
    plain, branched = (readings(acts, steps=8, seed=seed) for seed in (3, 4))
    branched[PATH, "act1"] = 0.5 * branched[NODE, "act1"][:5]
    runs = load({"base": one(tmp_path, "base", plain, acts), "skip": one(tmp_path, "skip", branched, acts)})
    table = decomposition.table(runs, layers=["act1"], baseline="base")
    assert set(table["steps"]) == {8.0}
    node = branched[NODE, "act1"]
    expected = np.log(node.sum() / (0.5 * node[:5].sum() + node[5:].sum()))
    assert of(table, "act1", "other paths")["effect"] == pytest.approx(expected, abs=1e-12)
    branched[PATH, "act1"] = np.append(branched[PATH, "act1"], [np.nan] * 3)  # rows without a value
    runs = load({"base": one(tmp_path, "base2", plain, acts), "skip": one(tmp_path, "skip2", branched, acts)})
    table = decomposition.table(runs, layers=["act1"], baseline="base")
    assert set(table["steps"]) == {6.5}
    assert of(table, "act1", "other paths")["effect"] == pytest.approx(np.log(2.0), abs=1e-12)


def test_layers_of_other_names_stand_beside_those_of_their_place(tmp_path) -> None:
    plain = readings(["net.1", "net.3"], steps=5, seed=0)
    dropped = readings(["net.1", "net.4"], ["net.2"], steps=5, seed=1)
    runs = load({"No dropout": one(tmp_path, "No dropout", plain, ["net.1", "net.3"]),
                 "Dropout": one(tmp_path, "Dropout", dropped, ["net.1", "net.2", "net.4"])})  # fmt: skip
    table = decomposition.table(runs)
    assert list(table["layer"].unique()) == ["net.1", "net.3"]
    total = np.log(dropped[NET, "net.4"].mean() / plain[NET, "net.3"].mean())
    assert of(table, "net.3", "total")["effect"] == pytest.approx(total, abs=1e-12)
    mask = np.log(dropped[BELOW, "net.2"].mean() / dropped[ABOVE, "net.2"].mean())
    assert of(table, "net.1", "mask")["effect"] == pytest.approx(mask, abs=1e-12)


def test_executed_in_another_order_is_a_row_without_a_number(tmp_path) -> None:
    made = readings(["act1", "act2"], steps=5, seed=0)
    runs = load({"a": one(tmp_path, "a", made, ["act1", "act2"]), "b": one(tmp_path, "b", made, ["act2", "act1"])})
    table = decomposition.table(runs, baseline="a")
    assert table["effect"].isna().all()
    assert set(table["why"]) == {"the runs executed their layers in different orders"}


def test_over_training_each_bin_is_a_table_of_its_own(runs) -> None:
    frame = decomposition.over_training(runs, bins=4)
    sums = frame[frame["term"] != "total"].groupby(["layer", "step"])["effect"].sum()
    totals = frame[frame["term"] == "total"].set_index(["layer", "step"])["effect"]
    pd.testing.assert_series_equal(sums, totals.sort_index(), check_names=False, rtol=1e-9)
    steps = sorted(frame["step"].unique())
    assert len(steps) == 4
    rows = runs.scalars
    every = 1 if (rows["step"] % 5 > 0)[rows["quantity"] == OUTPUT].any() else 5
    window = [step for step in range(1, 11) if step % every == 0]
    kept = rows[(rows["quantity"] == NET) & rows["step"].isin(window)]
    logs = np.log(kept.groupby(["run", "layer"], observed=True)["value"].mean())
    expected = np.mean([logs[f"dropout-s{s}", "act1"] - logs[f"no-dropout-s{s}", "act1"] for s in range(3)])
    assert totals["act1", steps[0]] == pytest.approx(expected, abs=1e-12)
    assert steps[0] == np.mean(window)


def test_runs_without_the_decomposition_say_how_to_record_it(tmp_path) -> None:
    made = {key: values for key, values in readings(["act1"], steps=4, seed=0).items() if key[0] == NET}
    runs = load({"a": one(tmp_path, "a", made, ["act1"]), "b": one(tmp_path, "b", made, ["act1"])})
    with pytest.raises(NotRecordedError, match="no run holds the decomposition of the gradient flow; record it with"):
        decomposition.table(runs, baseline="a")


def test_wrong_questions_are_refused(runs) -> None:
    with pytest.raises(ArgumentError, match="per must be one of 'kind', 'layer', got 'site'"):
        decomposition.table(runs, per="site")
    with pytest.raises(ArgumentError, match="no layer 'act9'"):
        decomposition.table(runs, layers=["act9"])
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        decomposition.table(runs, alpha=1.0)
    with pytest.raises(NotRecordedError, match="no condition beside 'No dropout' to compare"):
        decomposition.table(runs, conditions=["No dropout"])
    unclear = Runs([run.under(name) for run, name in zip(runs, "xxxyyy", strict=True)])
    with pytest.raises(BaselineError, match="which is the baseline"):
        decomposition.table(unclear)
