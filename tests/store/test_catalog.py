"""A catalog says what the run folders say, bit for bit, and never what they said before."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import gradient_flow, learning, saturation
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store import cataloguing
from dropdiag.store.catalog import Catalog
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.synthetic import content, write

CONDITIONS = {"Base": "base-*", "Drop": ["drop-*"]}


def make(folder, seeds=(0, 1, 2), steps=20):
    for name in ("base", "drop"):
        for seed in seeds:
            made = content("Dropout", seed, steps=steps, size=50)
            write(folder / f"{name}-{seed}", made, "Dropout", seed)
    return {"Base": str(folder / "base-*"), "Drop": str(folder / "drop-*")}


def add_rows(path, step=99, after=20, value=7.0):
    meta = {**load(path).meta, "steps": 20, "disabled_probes": [], "warnings": []}
    (path / "run.json").write_text(json.dumps(meta))
    writer = RunWriter(path, meta, resume_from=after)
    writer.add_scalars([ScalarRow(step, "train", None, 0, "loss", value)])
    writer.close("completed")


def files(root):
    return {p.name for p in (root / ".catalog").iterdir()}


@pytest.fixture
def root(tmp_path):
    make(tmp_path)
    Catalog(tmp_path).update()
    return tmp_path


def test_it_holds_what_the_folders_hold_bit_for_bit(tmp_path):
    where = make(tmp_path)
    result = Catalog(tmp_path).update()
    assert (result.read, result.kept, result.removed, result.unreadable) == (6, 0, 0, {})
    folders, kept = load(where), Catalog(tmp_path).runs(CONDITIONS)
    assert all(run.kept is not None for run in kept)
    pd.testing.assert_frame_equal(kept.scalars, folders.scalars, check_exact=True)
    pd.testing.assert_frame_equal(kept[1:5].scalars, folders[1:5].scalars, check_exact=True)
    pd.testing.assert_frame_equal(kept[3].scalars, folders[3].scalars, check_exact=True)
    assert kept.layers.equals(folders.layers)
    for quantity in ("weight", "net_value"):
        assert kept.histograms(quantity).equals(folders.histograms(quantity))


@pytest.mark.parametrize(
    "asked",
    [
        {"quantity": "net_grad_abs_mean"},
        {"quantity": ["loss", "accuracy"]},
        {"quantity": "loss", "steps": (3, 7)},
        {"steps": 20, "phase": "eval"},
        {"layer": ["layer1.activation"], "steps": (None, 4)},
        {"layer": [None], "condition": "Drop"},
        {"quantity": "nothing"},
    ],
)
def test_filters_give_the_rows_that_a_filtered_frame_has(tmp_path, asked):
    folders = load(make(tmp_path))
    Catalog(tmp_path).update()
    frame = folders.scalars
    first, last = asked["steps"] if isinstance(asked.get("steps"), tuple) else (asked.get("steps"),) * 2
    for name in ("quantity", "phase", "condition"):
        if name in asked:
            frame = frame[frame[name].isin([asked[name]] if isinstance(asked[name], str) else asked[name])]
    if "layer" in asked:
        frame = frame[frame["layer"].isna() if asked["layer"] == [None] else frame["layer"].isin(asked["layer"])]
    frame = frame if first is None else frame[frame["step"] >= first]
    frame = frame if last is None else frame[frame["step"] <= last]
    for runs in (folders, load(make_paths(folders)), Catalog(tmp_path).runs(CONDITIONS)):
        pd.testing.assert_frame_equal(runs.select(**asked), frame.reset_index(drop=True), check_exact=True)


def make_paths(runs):
    return {name: [run.path for run in runs if run.condition == name] for name in runs.conditions}


def test_the_analyses_of_both_agree(tmp_path, monkeypatch):
    folders = load(make(tmp_path))
    monkeypatch.setattr(cataloguing, "PART_ROWS", 500)  # several parts: runs come in batches
    Catalog(tmp_path).update()
    kept = Catalog(tmp_path).runs(CONDITIONS)
    assert len({run.kept.part for run in kept}) > 1
    for ask in (
        gradient_flow.table,
        gradient_flow.curves,
        saturation.table,
        learning.curves,
        learning.best,
        lambda runs: gradient_flow.curves(runs, bins=4, layers=["layer2.activation"], conditions=["Drop"]),
    ):
        pd.testing.assert_frame_equal(ask(kept), ask(folders), rtol=1e-12)


def test_an_update_reads_what_is_new_or_changed_alone(root):
    before = files(root)
    assert Catalog(root).update()[:3] == (0, 6, 0)
    assert files(root) == before
    write(root / "deep" / "base-9", content("GAAF", 9, steps=20, size=50), "GAAF", 9)
    add_rows(root / "base-1")
    shutil.rmtree(root / "drop-2")
    assert Catalog(root).update()[:3] == (2, 4, 1)
    runs = Catalog(root).runs()
    assert runs.scalars.equals(load([run.path for run in runs]).scalars)
    assert [run.name for run in runs] == ["base-0", "base-1", "base-2", "base-9", "drop-0", "drop-1"]


def test_what_changed_since_is_read_from_its_folder_and_said(root):
    add_rows(root / "base-1")
    write(root / "base-7", content("Dropout", 7, steps=20, size=50), "Dropout", 7)
    shutil.rmtree(root / "drop-0")
    with pytest.warns(DropdiagWarning) as said:
        runs = Catalog(root).runs(CONDITIONS)
    texts = [str(w.message) for w in said]
    assert any("base-1, base-7 are new or have changed since the catalog was made" in text for text in texts)
    assert any("drop-0 of the catalog are gone" in text for text in texts)
    folders = load({"Base": str(root / "base-*"), "Drop": str(root / "drop-*")})
    assert runs.scalars.equals(folders.scalars)
    assert (runs.scalars["step"] == 99).sum() == 1


def test_a_rewrite_of_the_same_size_and_time_is_seen(root):
    path = root / "base-0" / "run.json"
    stat = path.stat()
    other = path.with_suffix(".new")
    other.write_text(path.read_text().replace('"seed": 0', '"seed": 5'))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    with pytest.warns(DropdiagWarning, match="base-0 are new or have changed"):
        assert Catalog(root).runs()[0].seed == 5


def test_torn_segments_are_named_and_runs_that_are_none_left_out(tmp_path):
    make(tmp_path)
    torn = next((tmp_path / "base-0" / "rank-0").glob("scalars-*"))
    torn.write_bytes(torn.read_bytes()[:200])
    (tmp_path / "drop-0" / "run.json").write_text("{")
    with pytest.warns(DropdiagWarning) as said:
        result = Catalog(tmp_path).update()
    assert list(result.unreadable) == ["drop-0"]
    assert len(result.problems) == 1
    assert any("drop-0/run.json cannot be read" in str(w.message) for w in said)
    with pytest.warns(DropdiagWarning) as said:
        runs = Catalog(tmp_path).runs()
    assert any(f"{torn.name} cannot be read" in str(w.message) for w in said)
    assert len(runs) == 5
    assert "base-0" not in set(runs.scalars["run"])


def test_a_deleted_or_torn_part_is_read_from_the_folders_and_made_anew(root):
    runs = Catalog(root).runs(CONDITIONS)
    expected = runs.scalars
    for part in (root / ".catalog").glob("scalars-*"):
        part.write_bytes(b"torn")
    with pytest.warns(DropdiagWarning, match="cannot be read: .*its runs are read from their folders"):
        assert Catalog(root).runs(CONDITIONS).scalars.equals(expected)
    shutil.rmtree(root / ".catalog")
    with pytest.raises(RunError, match="has no catalog yet; make it with"):
        Catalog(root).runs()
    assert Catalog(root).update().read == 6
    assert Catalog(root).runs(CONDITIONS).scalars.equals(expected)


def test_readers_of_an_older_index_find_its_parts(root):
    runs = Catalog(root).runs(CONDITIONS)
    add_rows(root / "base-1")
    Catalog(root).update()  # rewrites the small part
    assert (runs.select("loss")["step"] == 99).sum() == 0
    old = [p for p in (root / ".catalog").glob("scalars-*") if p == runs[0].kept.part]
    os.utime(old[0], (1, 1))
    Catalog(root).update()
    assert not old[0].exists()


def test_a_catalog_that_is_a_link_or_a_file_is_refused_and_nothing_behind_it_is_removed(tmp_path):
    (root := tmp_path / "runs").mkdir()
    make(root, seeds=(0,))
    (others := tmp_path / "others").mkdir()
    for name in ("scalars-" + 32 * "0" + ".parquet", "draft.tmp"):
        (others / name).write_bytes(b"theirs")
        os.utime(others / name, (1, 1))
    (root / ".catalog").symlink_to(others)
    with pytest.raises(RunError, match=r"\.catalog is a link, .*move it away"):
        Catalog(root).update()
    assert len(list(others.iterdir())) == 2
    (root / ".catalog").unlink()
    (root / ".catalog").write_bytes(b"a file")
    with pytest.raises(RunError, match=r"\.catalog is no folder"):
        Catalog(root).update()


def test_only_files_of_a_catalogs_own_names_are_removed(root):
    folder = root / ".catalog"
    theirs = ["notes.tmp", "scalars-mine.parquet", "scalars-" + 32 * "0" + ".parquet.bak", "index-old.tmp"]
    ours = ["scalars-" + 32 * "0" + ".parquet", "scalars-" + 32 * "a" + ".tmp", "index-" + 32 * "1" + ".tmp"]
    for name in (*theirs, *ours):
        (folder / name).write_bytes(b"old")
        os.utime(folder / name, (1, 1))
    (folder / ("scalars-" + 32 * "b" + ".tmp")).mkdir()
    os.utime(folder / ("scalars-" + 32 * "b" + ".tmp"), (1, 1))
    Catalog(root).update()
    assert {*theirs, "scalars-" + 32 * "b" + ".tmp"} <= files(root)
    assert not files(root) & set(ours)


def test_a_condition_of_0_is_not_lost(tmp_path):
    for rate in (0, 0.5):
        write(tmp_path / f"rate-{rate}", content("Dropout", 0, steps=5, size=20), rate, 0)
    Catalog(tmp_path).update()
    assert sorted(Catalog(tmp_path).runs().conditions) == ["0", "0.5"]
    assert Catalog(tmp_path).runs({0: "rate-0", "half": "rate-0.5"}).conditions == ["0", "half"]


def test_two_updates_at_one_time_leave_a_whole_catalog(root, monkeypatch):
    add_rows(root / "base-1")
    real = cataloguing.write_index

    def overtaken(where, entries):
        monkeypatch.setattr(cataloguing, "write_index", real)
        Catalog(root).update()  # another one begins later and ends first
        real(where, entries)

    monkeypatch.setattr(cataloguing, "write_index", overtaken)
    Catalog(root).update()
    runs = Catalog(root).runs()
    assert runs.scalars.equals(load([run.path for run in runs]).scalars)


def test_a_kill_before_the_index_changes_nothing(root, monkeypatch):
    before = Catalog(root).runs().scalars
    write(root / "base-8", content("Dropout", 8, steps=20, size=50), "Dropout", 8)
    with monkeypatch.context() as patch:
        patch.setattr(cataloguing, "write_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Catalog(root).update()
    shutil.rmtree(root / "base-8")
    assert Catalog(root).runs().scalars.equals(before)


def test_conditions_from_the_config_and_some_of_the_runs(root):
    catalog = Catalog(root)
    assert catalog.runs("seed").conditions == ["seed=0", "seed=1", "seed=2"]
    assert [run.seed for run in catalog.runs(where={"seed": [0, 2]})] == [0, 2, 0, 2]
    assert catalog.table["path"].tolist() == ["base-0", "base-1", "base-2", "drop-0", "drop-1", "drop-2"]
    assert catalog.table["seed"].dtype == "Int64"
    with pytest.raises(ArgumentError, match="no run's config has 'lr'; there are 'condition', 'seed'"):
        catalog.runs("lr")
    with pytest.raises(ArgumentError, match="base-0 is given as 'A' and as 'B'"):
        catalog.runs({"A": "base-*", "B": "*-0"})
    with pytest.raises(RunError, match="no run of the catalog matches 'x-\\*'"):
        catalog.runs({"A": "x-*"})
    with pytest.raises(RunError, match="is left with where="):
        catalog.runs(where={"seed": 77})


def test_what_is_no_folder_of_runs_is_refused(root):
    with pytest.raises(RunError, match="is no folder"):
        Catalog(root / "nothing")
    with pytest.raises(RunError, match="is a run itself; give the folder above"):
        Catalog(root / "base-0")


def test_a_resumed_run_hides_what_was_recorded_anew(tmp_path):
    write(tmp_path / "run", content("Dropout", 0, steps=20, size=50), "Dropout", 0)
    add_rows(tmp_path / "run", step=11, after=10, value=-1.0)
    Catalog(tmp_path).update()
    loss = Catalog(tmp_path).runs().select("loss")
    assert loss["step"].tolist() == list(range(1, 12))
    assert loss["value"].iloc[-1] == -1.0
    assert np.isfinite(loss["value"]).all()
