"""The random identifier of a run."""

import json
import random
import shutil

import numpy as np
import torch

import dropdiag as dd
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.networks import mlp, train

META = {"config": {}, "steps": 0, "versions": {}, "layers": [], "activations": {}}


def states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def test_each_run_has_its_own_whatever_is_seeded_and_no_random_state_is_touched(tmp_path):
    found = set()
    for name in "ab":
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(0)
        before = states()
        RunWriter(tmp_path / name, META).close("completed")
        assert states() == before
        found.add(dd.load(tmp_path / name).id)
    assert len(found) == 2
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in found)


def test_it_is_kept_when_a_run_goes_on_and_in_copies(tmp_path):
    model, path = mlp(), tmp_path / "run"
    with dd.Recorder(model, path) as rec:
        train(model, 2, rec)
    first = dd.load(path).id
    shutil.copytree(path, tmp_path / "copy")
    with dd.Recorder(model, path, resume=True) as rec:
        train(model, 2, rec)
    assert json.loads((path / "run.json").read_bytes())["id"] == first
    assert dd.load(path).id == dd.load(tmp_path / "copy").id == first is not None


def test_a_run_that_began_without_one_has_none_and_goes_on_without(tmp_path):
    model, path = mlp(), tmp_path / "run"
    with dd.Recorder(model, path) as rec:
        train(model, 2, rec)
    meta = json.loads((path / "run.json").read_bytes())
    del meta["id"]
    write_meta((path / "run.json"), meta)
    assert dd.load(path).id is None
    with dd.Recorder(model, path, resume=True) as rec:
        train(model, 1, rec)
    assert dd.load(path).id is None
