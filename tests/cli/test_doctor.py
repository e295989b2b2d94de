"""The doctor finds what is wrong, and only that."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest
import torch

import dropdiag
from dropdiag.cli.outputs import OUTPUTS
from dropdiag.experiments.doctor import checks, machine, training

from .conftest import call

NAMES = [
    "training is bit for bit what it is without a Recorder", "losses are recorded", "weights are counted as numpy counts them",
    "net values are counted as numpy counts them", "gradient flow is the mean that numpy has",
]  # fmt: skip


def test_all_is_well_here(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    code, out, err = call("doctor", "--json")
    found = json.loads(out)
    assert (code, err, found["ok"]) == (0, "", True)
    assert not list(tmp_path.glob("dropdiag*")), "nothing of it is left"
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["dropdiag"] in (dropdiag.__version__, None)
    assert found["devices"][0]["device"] == "cpu"
    for device in found["devices"]:
        assert [(one["name"], one["ok"]) for one in device["checks"]] == [(name, True) for name in NAMES]
    assert {one["detail"] for one in found["devices"][0]["checks"][1:4]} == {
        "10 of 10", "3 of 3 histograms, every count", "20 of 20 histograms, every count",
    }  # fmt: skip
    code, out, err = call("doctor", columns=200)
    assert (code, err) == (0, "")
    assert out.endswith("all is well\n")
    assert out.count("\n  ok     ") == len(NAMES) * len(found["devices"])


def test_without_torch_it_says_so_and_all_else(monkeypatch):
    # as where a library that torch is linked to is missing
    monkeypatch.setitem(sys.modules, "dropdiag.experiments.doctor.checks", None)
    code, out, err = call("doctor", "--json")
    found = json.loads(out)
    ((check,),) = [device["checks"] for device in found["devices"]]
    assert (code, err, found["ok"], check["ok"]) == (1, "", False, False)
    assert check["name"] == "torch, and what else is needed, can be imported"
    assert check["detail"].startswith("ModuleNotFoundError: ")
    assert found["versions"]["numpy"]
    msgspec.convert(found, OUTPUTS["doctor"], strict=True)
    assert "wrong  torch, and what else is needed" in call("doctor", columns=200)[1]


def failed():
    return [one.name for one in checks.tested("cpu") if not one.ok]


def test_a_training_that_is_changed_is_found(monkeypatch):
    class Careless(training.Recorder):
        def step(self, *args, **named):
            super().step(*args, **named)
            torch.rand(1)

    monkeypatch.setattr(training, "Recorder", Careless)
    assert NAMES[0] in failed()


def test_counts_that_are_wrong_are_found(monkeypatch):
    trained, numbers = training.bare("cpu")
    numbers.weights["0"][0, 0] += 1.0
    monkeypatch.setattr(checks, "bare", lambda device: (trained, numbers))
    assert failed() == [NAMES[2]]


def test_a_gradient_flow_that_is_off_is_found(monkeypatch):
    trained, numbers = training.bare("cpu")
    numbers.net_gradients["1", 3][:] *= 1.001
    monkeypatch.setattr(checks, "bare", lambda device: (trained, numbers))
    assert failed() == [NAMES[4]]


def test_what_does_not_work_at_all_is_a_check_and_the_code_is_1(monkeypatch):
    def broken(device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(checks, "bare", broken)
    code, out, _ = call("doctor", columns=200)
    assert code == 1
    assert "wrong  the self-test runs to its end (RuntimeError: no kernel image is available)" in out
    assert out.endswith("something is not as it should be\n")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ModuleNotFoundError("No module named"), "it was not built: no compiler was there when dropdiag was installed"),
        (
            ImportError("GLIBC_2.99 not found"),
            "it cannot be loaded: GLIBC_2.99 not found. The same numbers come from torch",
        ),
    ],
)
def test_why_the_compiled_loops_are_not_in_use(monkeypatch, error, why):
    def import_module(name):
        raise error

    monkeypatch.setattr(machine, "import_module", import_module)
    found = machine.native()
    assert not found["in_use"]
    assert found["why"].startswith(why)


def test_the_loops_are_in_use_where_they_were_built():
    from dropdiag.sketches import native

    assert machine.native()["in_use"] == (native.loops is not None)


def test_a_compiler_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.compiler()["found"] is None
