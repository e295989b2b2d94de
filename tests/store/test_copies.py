"""Copies of a run are no replicates, whatever they are called and whatever was written into them."""

import json
import shutil
import warnings

import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.store.catalog import Catalog
from dropdiag.store.copies import counted_once
from dropdiag.store.reader import load, open_runs
from tests import synthetic
from tests.described import write_meta
from tests.store.test_run_folder import write as write_bare


def write(path, seed=0, condition="Dropout", of=None):
    """Write a small run; ``of``: the seed whose numbers it has."""
    made = synthetic.content(condition, seed if of is None else of, steps=4, size=20)
    return synthetic.write(path, made, condition, seed)


def copied(source, target, old=False, **config):
    """Copy a run folder, and say another condition or seed in the copy."""
    shutil.copytree(source, target)
    change(target, old, **config)
    return target


def change(path, old=False, **config):
    """Rewrite a run's config; an old run has no identifier."""
    meta = json.loads((path / "run.json").read_text())
    meta["config"] |= config
    if old:
        del meta["id"]
    write_meta((path / "run.json"), meta)


@pytest.mark.parametrize("old", [False, True], ids=["identifier", "content"])
def test_a_copy_counts_once_whatever_its_seed_says(tmp_path, old):
    write(tmp_path / "a-0", seed=0)
    if old:
        change(tmp_path / "a-0", old=True)
    copied(tmp_path / "a-0", tmp_path / "a-1", seed=1)
    copied(tmp_path / "a-0", tmp_path / "a-2", seed=2)
    write(tmp_path / "a-3", seed=3)
    with pytest.warns(DropdiagWarning, match="a-[12] is a copy of .*a-0 .*: they are counted once") as caught:
        runs = load([str(tmp_path / "a-*")])
    assert [run.name for run in runs] == runs.labels()
    assert len(runs) == 2
    assert len(caught) == 2
    found = open_runs({"A": str(tmp_path / "a-*")}, on_error="collect")
    assert [run.name for run in found.runs] == ["a-0", "a-3"]
    why = "byte by byte" if old else "one identifier"
    assert all(why in problem for problem in found.problems)
    assert len(found.problems) == 2


def test_runs_with_identifiers_of_their_own_are_not_compared_by_content(tmp_path):
    write(tmp_path / "a-0", seed=0)
    write(tmp_path / "a-1", seed=1, of=0)
    assert len(load([str(tmp_path / "a-*")])) == 2


def test_three_runs_under_nine_seeds_are_three(tmp_path):
    for seed in range(3):
        write(tmp_path / f"a-{seed}", seed=seed)
        for again in (1, 2):
            copied(tmp_path / f"a-{seed}", tmp_path / f"a-{seed + 3 * again}", seed=seed + 3 * again)
    runs, problems = open_runs([str(tmp_path / "a-*")], on_error="collect")
    assert [run.seed for run in runs] == [0, 1, 2]
    assert len(problems) == 6


def test_of_a_run_and_a_copy_that_was_made_half_way_the_run_counts(tmp_path):
    write(tmp_path / "run", seed=0)
    copied(tmp_path / "run", tmp_path / "early", seed=0)
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    write_meta((tmp_path / "run" / "run.json"), meta | {"steps": 4})
    write_meta((tmp_path / "early" / "run.json"), meta | {"steps": 2})
    with pytest.warns(DropdiagWarning, match="early is a copy of .*run "):
        assert [run.name for run in load([tmp_path / "early", tmp_path / "run"])] == ["run"]


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("old", [False, True], ids=["identifier", "content"])
def test_a_copy_under_another_condition_is_an_error(tmp_path, on_error, old):
    write(tmp_path / "a", seed=0)
    if old:
        change(tmp_path / "a", old=True)
    copied(tmp_path / "a", tmp_path / "b", condition="No dropout")
    for where in ([tmp_path / "a", tmp_path / "b"], {"X": tmp_path / "a", "Y": tmp_path / "b"}):
        with pytest.raises(ArgumentError, match="b is a copy of .*a .*given as '.*' and as '.*'; .*leave one out"):
            open_runs(where, on_error=on_error)
    with pytest.raises(ArgumentError, match="is a copy of"):
        dd.compare([tmp_path / "a", tmp_path / "b"])


def test_copies_whose_folders_alone_name_a_condition_count_once(tmp_path):
    write_bare(tmp_path / "a", condition=None)
    copied(tmp_path / "a", tmp_path / "b")
    with pytest.warns(DropdiagWarning, match="counted once"):
        assert load([tmp_path / "a", tmp_path / "b"]).conditions == ["a"]


def test_open_runs_and_one_run_given_twice(tmp_path):
    write(tmp_path / "a", seed=0)
    copied(tmp_path / "a", tmp_path / "b")
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(open_runs(b).runs) == [b]
        assert [run.name for run in open_runs([a, load(tmp_path / "a")]).runs] == ["a"]
    with pytest.warns(DropdiagWarning, match="counted once"):
        assert list(open_runs([a, b]).runs) == [a]
    with pytest.raises(ArgumentError, match="a is given as 'A' and as 'B'"):
        open_runs([a.under("A"), a.under("B")])


def test_runs_that_hold_nothing_yet_are_no_copies(tmp_path):
    for name in ("a", "b"):
        write_bare(tmp_path / name, steps=0)
        change(tmp_path / name, old=True)
    assert len(load([tmp_path / "a", tmp_path / "b"])) == 2


def test_files_of_one_size_are_told_apart_by_what_is_in_them(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
        change(tmp_path / name, old=True)
    (file,) = (tmp_path / "b" / "rank-0").glob("scalars-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert counted_once([load(tmp_path / "a"), load(tmp_path / "b")]).problems == []


def test_a_catalog_names_copies_after_the_choice(tmp_path):
    write(tmp_path / "x" / "a", seed=0)
    copied(tmp_path / "x" / "a", tmp_path / "backup" / "a", seed=7)
    catalog = Catalog(tmp_path)
    assert catalog.table["path"].tolist() == ["backup/a", "x/a"]
    assert [run.seed for run in catalog.runs({"A": "x/*"})] == [0]
    with pytest.warns(DropdiagWarning, match="counted once"):
        assert len(catalog.runs()) == 1
    for nothing in ({}, {"A": []}, []):
        with pytest.raises(ArgumentError, match="conditions= is empty"):
            catalog.runs(nothing)


def test_compare_says_so(tmp_path):
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            write(tmp_path / f"{condition}-{seed}", seed=seed, condition=condition)
    copied(tmp_path / "Dropout-0", tmp_path / "Dropout-2", seed=2)
    found = dd.compare(str(tmp_path / "Drop*"), str(tmp_path / "No*"), on_unreadable="ignore")
    assert len(found.runs) == 4
    assert any("Dropout-2 is a copy of" in problem for problem in found.problems)
