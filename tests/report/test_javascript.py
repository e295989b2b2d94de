"""The report's scripts by node's own test runner, as they are and without a browser; skipped where there is no node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dropdiag.analysis import gradient_flow
from dropdiag.report.binary import safe_json
from dropdiag.report.data import gather
from dropdiag.report.series import BINS
from tests.report.folders import transformer
from tests.report.stand_in import comparison

NODE = shutil.which("node")
TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
OLDEST = 18  # has node:test, and DecompressionStream


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page's data as Python packs it, with numbers that are worked out from the runs another way."""
    if NODE is None:
        pytest.skip("no node on this machine: `apt-get install nodejs` makes the scripts' tests run")
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        pytest.skip(f"node {version.strip()} is older than {OLDEST}: the scripts' tests need its test runner")
    runs = transformer(tmp_path_factory.mktemp("deep"), layers=2, steps=8, seeds=2, size=300)
    content = gather(comparison(runs))
    low, high = content.figures["sections"]["weights"]["density"]["edges"][1]
    step, layer = 5, "encoder.layers.1.mlp.fc"
    histograms = [run.histogram("weight", layer, step=step) for run in runs if run.condition == runs.conditions[1]]
    flow = gradient_flow.curves(runs, bins=BINS)
    first = (flow["condition"] == runs.conditions[0]) & (flow["layer"] == "encoder.layers.0.mlp.act")
    expected = {
        "step": step, "mean": np.mean([h.density(np.linspace(low, high, 73)) for h in histograms], axis=0).tolist(),
        "sd": float(np.mean([h.std() for h in histograms])), "flow": flow.loc[first, "value"].tolist(),
    }  # fmt: skip
    file = tmp_path_factory.mktemp("page") / "page.json"
    meta = json.loads(safe_json(content.figures))
    file.write_text(json.dumps({"meta": meta, "numbers": content.blob.text(), "expected": expected}))
    return file


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name.split(".")[0])
def test_the_scripts(page, file):
    done = subprocess.run(
        [NODE, "--test", str(file)],
        check=False,
        env={"DROPDIAG_PAGE": str(page)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n# fail 0" in done.stdout or "ℹ fail 0" in done.stdout
    assert "\n# skipped 0" in done.stdout or "ℹ skipped 0" in done.stdout
