"""Runs of schema 1 and 2 read together: the same call of a function is one row, under its name of today."""

from __future__ import annotations

from pathlib import Path

import pytest

import dropdiag as dd
from dropdiag.analysis import gradient_flow, saturation, select
from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store.folder import resume_step
from dropdiag.store.naming import Guide, former, names_beside
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.versions import CALLED, STEPS, WEIGHTS, flow, share, write_run

FROZEN = Path(__file__).parents[1] / "frozen" / "recorded"
TODAY = [f"{name}:relu" for name in WEIGHTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    for seed in range(3):
        write_run(folder / f"old-s{seed}", schema=1, condition="Old", seed=seed)
        write_run(folder / f"new-s{seed}", condition="New", seed=seed, level=2.0)
    return folder


def mixed(folder):
    return load({"Old": str(folder / "old-*"), "New": str(folder / "new-*")})


def test_a_run_of_schema_1_alone_reads_as_before(folder):
    run = load(folder / "old-s0")
    assert run.order == {}
    assert set(run.select("net_grad_abs_mean")[["layer", "call"]].itertuples(index=False, name=None)) == {
        (CALLED, call) for call in range(3)
    }
    assert run.histogram("net_value", CALLED, call=2).n == 400
    assert load([folder / "old-s0", folder / "old-s1"]).histograms("net_value")["layer"].unique().tolist() == [CALLED]


def test_scalars_of_both_stand_under_the_new_name(folder):
    runs = mixed(folder)
    rows = runs.select("net_grad_abs_mean", layer=["c2:relu"], steps=5)
    assert rows["run"].tolist() == [*(f"old-s{seed}" for seed in range(3)), *(f"new-s{seed}" for seed in range(3))]
    assert rows["call"].tolist() == [0] * 6
    assert rows["value"].to_numpy() == pytest.approx([flow(1, 5)] * 3 + [flow(1, 5, 2.0)] * 3, rel=0.1)
    # each run's own numbers, whatever they are called
    alone = load(folder / "old-s1").select("net_grad_abs_mean", layer=CALLED, steps=5).query("call == 1")
    assert rows["value"][1] == alone["value"].item()
    assert set(runs.scalars["layer"].unique()) == set(TODAY)


def test_histograms_and_layers_of_both_stand_under_the_new_name(folder):
    runs = mixed(folder)
    found = runs.histograms("net_value")
    assert found[found["run"] == "old-s2"]["layer"].tolist() == TODAY
    old = {place: load(folder / "old-s2").histogram("net_value", CALLED, call=place) for place in range(3)}
    kept = dict(zip(TODAY, found[found["run"] == "old-s2"]["histogram"], strict=True))
    assert all(kept[name] == old[place] for place, name in enumerate(TODAY))
    listed = runs.layers.query("run == 'old-s0' and kind == 'activation'")
    assert listed[["layer", "call"]].to_numpy().tolist() == [[name, 0] for name in TODAY]
    assert [row.layer for row in runs[0].coverage()] == TODAY
    assert saturation.share(runs).query("layer == 'fc1:relu'")["share"].notna().all()  # |phi'| is found by the new name


def test_blocks_of_runs_with_the_same_keys_stay_joined(folder):
    blocks = list(mixed(folder).blocks("net_grad_abs_mean"))
    assert sum(len(block.positions) for block in blocks) == 6
    assert max(block.matrix.shape[0] for block in blocks) >= 3


def test_tables_figures_and_comparisons_profit(folder):
    runs = mixed(folder)
    table = gradient_flow.table(runs)
    assert table["layer"].tolist() == TODAY * 2
    found = dd.compare(runs, baseline="Old", on_unreadable="ignore")
    assert found.problems == ("no run holds 'node_correlation'; record it with a probe (or step/log) that writes it.",)
    assert found.unmatched.empty
    rows = found.table[found.table["measure"] == "saturation_share"]
    assert rows["layer"].tolist() == TODAY
    assert rows["baseline_value"].to_numpy() == pytest.approx([share(place) for place in range(3)], rel=0.1)
    assert rows["effect"].to_numpy() == pytest.approx([share(place) for place in range(3)], rel=0.1)
    assert [ax.get_title() for ax in dd.plots.saturation(runs).axes] == TODAY


def test_an_old_name_finds_the_new_sites_with_a_word(folder):
    runs = mixed(folder)
    with pytest.warns(DropdiagWarning, match=r"'\(model\):relu' is the name that an earlier version gave to 'c1:relu'"):
        table = gradient_flow.table(runs, layers=[CALLED])
    assert table["layer"].tolist() == TODAY * 2
    with pytest.warns(DropdiagWarning, match="earlier version"):
        assert select.histograms(load(folder / "new-s0"), "net_value", layers=[CALLED])["layer"].tolist() == TODAY
    with pytest.warns(DropdiagWarning, match="earlier version"):
        assert set(load(folder / "new-s0").select(layer=CALLED)["layer"]) == set(TODAY)
    with pytest.warns(DropdiagWarning, match="earlier version"):
        assert dd.compare(runs, baseline="Old", layers=[CALLED], on_unreadable="ignore").layers == tuple(TODAY)


def test_the_guide_of_the_same_network_goes_before_another():
    rows = [{"layer": "a", "call": 0, "kind": "weight"}, {"layer": CALLED, "call": 0, "kind": "activation"}]
    other = Guide({(CALLED, 0): ("enc:relu", 0)}, {}, frozenset({"enc"}))
    same = Guide({(CALLED, 0): ("a:relu", 0)}, {}, frozenset({"a"}))
    assert names_beside({"layers": rows}, [other, same]).sites == {(CALLED, 0): ("a:relu", 0)}
    assert names_beside({"layers": rows}, [other]).sites == {(CALLED, 0): ("enc:relu", 0)}


def test_names_that_shift_do_not_collide():
    # today's `block:relu` is what was the third call of it; its first call has a name of its own now
    rows = [{"layer": "block:relu", "call": 0, "kind": "activation"}]
    calls = [{"layer": "block:relu", "call": call} for call in range(3)]
    guide = Guide({("block:relu", 0): ("c1:relu", 0), ("block:relu", 2): ("block:relu", 0)}, {}, frozenset())
    sites = names_beside({"layers": rows, "coverage": calls}, [guide]).sites
    assert sites == {("block:relu", 0): ("c1:relu", 0), ("block:relu", 2): ("block:relu", 0)}
    # a name that another site of the run keeps is not given to it
    kept = Guide({("block:relu", 0): ("block:relu", 1)}, {}, frozenset())
    assert names_beside({"layers": rows, "coverage": calls}, [kept]).sites == {}


def test_aliases_and_calls_in_order():
    row = {"layer": "c1:relu", "call": 0, "kind": "activation", "formerly": [[CALLED, 1], [CALLED, 4]]}
    assert former({"layers": [row]}) == {(CALLED, 1): ("c1:relu", 0), (CALLED, 4): ("c1:relu", 1)}
    own = {"layers": [{"layer": "head", "call": 0, "kind": "weight"}]}
    assert names_beside(own, [Guide({}, {"head": "embedding"}, frozenset())]).sites == {("head", 0): ("embedding", 0)}


def test_a_frozen_run_stands_beside_a_new_one(tmp_path):
    names = ("conv1", "conv2")
    layers = [{"layer": name, "call": 0, "kind": "weight"} for name in (*names, "head")]
    layers += [{"layer": f"{name}:relu", "call": 0, "kind": "activation", "formerly": [[CALLED, place]]}
               for place, name in enumerate(names)]  # fmt: skip
    writer = RunWriter(tmp_path / "new", {"config": {"condition": "New"}, "layers": layers, "activations": {}})
    writer.add_scalars([ScalarRow(1, "train", f"{name}:relu", 0, "net_grad_abs_mean", 1.0) for name in names])
    writer.close("completed")
    alone = load(FROZEN / "cnn").select("net_grad_abs_mean")
    both = load({"Old": str(FROZEN / "cnn"), "New": str(tmp_path / "new")}).select("net_grad_abs_mean", condition="Old")
    assert alone["layer"].unique().tolist() == [CALLED]
    assert both["layer"].tolist() == [f"{names[call]}:relu" for call in alone["call"]]
    assert both["value"].tolist() == alone["value"].tolist()


def test_a_histogram_is_found_by_its_former_name_and_call(folder):
    run = load(folder / "new-s0")
    with pytest.warns(DropdiagWarning, match="call 1, is what an earlier version called 'c2:relu', call 0"):
        assert run.histogram("net_value", CALLED, call=1) == run.histogram("net_value", "c2:relu")


def test_a_run_that_would_hold_a_layer_under_two_names_is_not_resumed(folder):
    with pytest.raises(RunError, match=r"named calls of functions otherwise \('\(model\):relu'\).*in a new run"):
        resume_step(folder / "old-s0", resume=True)
    assert resume_step(folder / "new-s0", resume=True) == STEPS
    assert resume_step(FROZEN / "resumed", resume=True) > 0  # of modules alone: their names are the same
