"""Forked children, workers and threads beside a recorded training: the run is its parent's alone."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd
from dropdiag.errors import RunError
from tests.faults.children import assert_nothing_twice, in_child, steps_with
from tests.networks import mlp, train

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:training waited for the disk"),
]


@pytest.fixture
def recorded(tmp_path):
    """A model with an open Recorder, two steps recorded; at the end four are, and the run is checked."""
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1, flush_every=0) as rec:
        train(model, 2, rec)
        yield model, rec
        train(model, 2, rec)
    assert steps_with(rec.path, "loss") == [1, 2, 3, 4]
    assert_nothing_twice(rec.path)
    assert json.loads((rec.path / "run.json").read_text())["state"] == "completed"


def content(path):
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_child_that_leaves_the_block_gets_its_own_exit(tmp_path, recorded):
    _, rec = recorded
    rec.flush()
    before = content(rec.path)

    def leaves():
        with rec:  # raises: it is the parent's
            pass

    def raises_in_the_block():
        try:
            rec.__exit__(None, None, None)  # as at the end of `with rec`
            rec.close()
            sys.exit(7)
        finally:
            rec.__exit__(*sys.exc_info())

    def fails_in_the_block():
        try:
            raise KeyError("the child's own")
        finally:
            rec.__exit__(*sys.exc_info())

    assert in_child(raises_in_the_block, tmp_path).status == 7
    assert 'KeyError: "the child\'s own"' in in_child(fails_in_the_block, tmp_path, "fails").printed
    assert "forked while its parent recorded" in in_child(leaves, tmp_path, "leaves").printed
    assert content(rec.path) == before


def test_a_child_records_nothing_by_what_it_does_to_the_model(tmp_path, recorded):
    model, rec = recorded
    rec.flush()
    before = content(rec.path)

    def act():
        train(model, 3)
        model.eval()(torch.ones(2, 12))
        with pytest.raises(RunError, match="forked while its parent recorded"):
            rec.step()
        with pytest.raises(RunError, match="forked"):
            rec.flush()
        del rec.__dict__["_session"]
        gc.collect()
        from dropdiag.recording.watching import open_runs

        open_runs._process_ends()  # as atexit does
        return "done"

    ended = in_child(act, tmp_path)
    assert ended.result == "done", ended.printed
    assert content(rec.path) == before


def test_a_child_of_the_middle_of_a_pass_or_an_evaluation_is_alone_too(tmp_path, recorded):
    model, rec = recorded
    ended = []

    def fork(*_):
        if not ended:
            ended.append(in_child(lambda: bool(train(mlp(), 1)), tmp_path))

    handle = model[1].register_forward_hook(fork)
    with rec.evaluation():
        model.eval()(torch.ones(4, 12))
        ended.append(in_child(lambda: model(torch.ones(4, 12)).shape[0], tmp_path, "inside"))
    model.train()
    handle.remove()
    assert ended[0].status == 0, ended[0].printed
    assert ended[1].result == 4, ended[1].printed


def test_a_child_may_record_a_run_of_its_own(tmp_path, recorded):
    model, _ = recorded

    def act():
        with dd.Recorder(model, tmp_path / "own", every=1) as own:
            train(model, 2, own)
        return steps_with(tmp_path / "own", "loss")

    ended = in_child(act, tmp_path)
    assert ended.result == [1, 2], ended.printed


def _square(number):
    return number * number


def test_pools_and_programs_beside_a_recorded_training(recorded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_square, range(4)) == [0, 1, 4, 9]
    done = subprocess.run(
        [sys.executable, "-c", "print('hello')"], capture_output=True, text=True, check=True, preexec_fn=lambda: None
    )
    assert done.stdout == "hello\n"


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_loader(recorded, how):
    model, rec = recorded
    data = TensorDataset(torch.randn(8, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = DataLoader(data, 4, num_workers=1, persistent_workers=True, multiprocessing_context=how)
        with rec.evaluation(how), torch.no_grad():
            model.eval()
            for _ in range(2):
                for (x,) in loader:
                    model(x)
        model.train()
        del loader
    rec.flush()
    found = dd.load(rec.path).scalars.query("phase == @how")
    assert set(found["quantity"]) >= {"evaluation_seconds"}
    assert len(dd.load(rec.path).histograms("node_correlation", "all", phase=how)) > 0


def test_forward_passes_in_several_threads_leave_a_run_that_can_be_read(recorded):
    model, _ = recorded
    copies, failed = [mlp(k) for k in range(3)], []

    def forward(network):
        try:
            for _ in range(5):
                network(torch.randn(4, 12))
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=forward, args=(network,)) for network in (*copies, model)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
