"""Two processes with each trainer record one run, whose numbers are those of one process with the same global batch."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

import dropdiag as dd
from tests.integrations.trainers.two_ranks import BATCH, OPTIONS, STEPS, data, network, sgd
from tests.recording.ranks.launch import torchrun

LIBRARIES = ("accelerate", "transformers", "lightning", "ignite")
pytestmark = [
    pytest.mark.skipif(not all(map(find_spec, LIBRARIES)), reason=f"{', '.join(LIBRARIES)} are not all installed"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
    pytest.mark.skipif(sys.platform != "linux", reason="gloo's processes are started as on Linux"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(2, "tests.integrations.trainers.two_ranks", folder, *LIBRARIES)
    model = network()
    optimizer = sgd(model)
    x, y = data()
    with dd.Recorder(model, folder / "plain", **OPTIONS) as rec:
        for step in range(STEPS):
            part = slice(step * 2 * BATCH, (step + 1) * 2 * BATCH)
            loss = F.cross_entropy(model(x[part]), y[part])
            loss.backward()
            optimizer.step()
            rec.step(loss=loss)
            optimizer.zero_grad()
    return folder


@pytest.mark.parametrize("name", ["accelerate", "transformers", "lightning", "lightning-2", "ignite"])
def test_two_ranks_record_one_run(trained, name):
    run, alone = dd.load(trained / name), dd.load(trained / "plain")
    assert [rank.meta["ranks"]["rank"] for rank in run.ranks] == [0, 1]
    assert run.meta["state"] == "completed"
    assert run.meta["warnings"] == []
    prefix = "net." if name == "transformers" else ""
    for layer in ("1", "3"):
        for step in range(1, STEPS + 1):
            assert run.histogram("net_value", prefix + layer, step, "train").n == 2 * BATCH * (
                16 if layer == "1" else 8
            )
        flows = [r.select("net_grad_abs_mean", layer=n)["value"] for r, n in ((run, prefix + layer), (alone, layer))]
        assert flows[0].tolist() == pytest.approx(flows[1].tolist(), rel=1e-5)
    losses = [r.select("loss", phase="train")["value"].tolist() for r in (run, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    if name != "accelerate":
        assert run.select("node_correlation_samples", phase="eval")["value"].tolist() == [20.0, 20.0]
