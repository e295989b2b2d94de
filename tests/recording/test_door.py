"""What a Recorder writes can be read again: what could not is refused before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.store import limits
from dropdiag.store.door import writing
from dropdiag.store.folder import read_meta
from dropdiag.store.writer import RunWriter
from tests.networks import mlp, train


def circle():
    made = {}
    made["itself"] = made
    return made


def nested(depth):
    made = 0
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize(("config", "why"), [
    ({"name": "\ud800"}, "half of a character"),
    ({"\udcff": 1}, "half of a character"),
    ({"text": "x" * (limits.STRING + 1)}, "1,048,577 characters"),
    ({"x" * 5000: 1}, "a text of 5,000 characters"),
    ({"deep": nested(63)}, "more than 64 deep"),
    ({"deep": nested(5000)}, "more than 64 deep"),
    ({"deep": circle()}, "more than 64 deep"),
    ({"many": [0] * 300_000}, "config is too large"),
    ({"large": 10**5000}, "config"),
])  # fmt: skip
def test_a_config_that_could_not_be_read_again_is_refused(tmp_path, config, why):
    with pytest.raises(ArgumentError, match=why):
        dd.Recorder(mlp(), tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_what_is_odd_and_can_be_read_again_is_taken(tmp_path):
    config = {
        "text": "x" * 100_000,
        "nul": "\0",
        "emoji": "😀",
        "seed": 2**128,
        "deep": nested(60),
        "": [],
        "big": 10**4000,
    }
    with dd.Recorder(mlp(), tmp_path / "run", config=config):
        pass
    assert read_meta(tmp_path / "run")["config"] == config


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a\ud800"])
def test_names_that_could_not_be_read_again_are_refused(tmp_path, name):
    model = nn.Sequential()
    model.add_module(name, nn.Linear(3, 3))
    model.add_module("act", nn.Tanh())
    with pytest.raises(ArgumentError, match=r"layers\[0\]\.layer"):
        dd.Recorder(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with dd.Recorder(mlp(), tmp_path / "good") as rec:
        with pytest.raises(ArgumentError, match="the name of an evaluation"):
            rec.evaluation(name).__enter__()
        with pytest.raises(ArgumentError, match="the name of a number"):
            rec.step(**{name: 1.0})


def test_a_folder_whose_name_is_no_utf_8_can_be_recorded_into(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    model = mlp()
    with dd.Recorder(model, path) as rec:
        train(model, 2, rec)
    assert read_meta(path)["name"] == "run-\\xff"
    assert len(dd.load(path).select("loss")) == 2


def test_whatever_comes_up_while_recording_the_run_can_be_read(tmp_path):
    writer = RunWriter(tmp_path / "run", {"config": {}})
    long = "x" * 100_000
    writer.meta["warnings"] = ["a\ud800\0" + long, *(f"{i} {long}" for i in range(200))]
    writer.meta["disabled_probes"] = [{"probe": "p", "layer": str(i), "cause": long} for i in range(5000)]
    writer.meta["missing"] = [{"phase": "eval", "why": f"{i} {long}", "of": [["q", None]]} for i in range(500)]
    writer.close("failed", "\udcff" + long)
    meta = read_meta(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").stat().st_size < limits.RUN_JSON_BYTES
    assert meta["error"].startswith("\\xff")
    assert meta["error"].endswith("(cut: it has 100,004 characters)")
    told = [text for text in meta["warnings"] if "run.json has no room for" in text]
    kept = {name: len(meta[name]) for name in ("disabled_probes", "missing")}
    assert any(text.startswith(f"{5000 - kept['disabled_probes']:,} more probes were disabled") for text in told)
    assert any(text.startswith(f"{500 - kept['missing']:,} more measurements") for text in told)
    assert any("more warnings were given" in text for text in told)


def test_a_network_of_30_000_sites_passes_with_room():
    layers = [{"layer": f"encoder.layers.{i}.some_block.attention.projection", "call": 0, "kind": "weight", "type": "Linear",
               "activation": None, "shape": [4096, 4096], "functional": False, "aliases": [], "skipped": None}
              for i in range(30_000)]  # fmt: skip
    meta = {"format": "dropdiag-run", "schema": 3, "name": "run", "created": "2026-11-26T10:00:00+00:00", "ended": None,
            "state": "running", "error": None, "config": {}, "steps": 0, "versions": {}, "probes": [],
            "disabled_probes": [], "warnings": [], "layers": layers, "activations": {},
            "sessions": [{"started": "2026-11-26T10:00:00+00:00", "from_step": 0, "first_segment": 1}]}  # fmt: skip
    content = json.dumps(meta).encode()
    writing.check_new(content, resumed=False)
    assert len(content) < limits.RUN_JSON_BYTES_AT_FIRST
