"""The parts of the GPU's page, driven on the CPU at a small size: they find what is planted, and run."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gpu  # noqa: E402 - a script: its modules are found beside it
from models import CASES, Loop  # noqa: E402
from on_device import costs, graphs, histograms, page, skipped, waits  # noqa: E402
from on_device.setting import Setting  # noqa: E402
from peers import make  # noqa: E402

SMALL = Setting("cpu", tiny=True, rounds=2, seconds=0.1, block=1)


class Waiting:
    """A monitor that reads the loss at every step, and is warned of it as torch would on a GPU."""

    def attach(self, model, folder):
        self.steps = 0

    def step(self, loss):
        self.steps += 1
        assert np.isfinite(loss.item())
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    def close(self):
        pass


@dataclass(frozen=True)
class Only(Setting):
    """The small setting with one network and a few monitors."""

    kind: str = ""
    names: tuple[str, ...] = ("bare",)

    def networks(self):
        return [replace(network, monitors=self.names) for network in super().networks() if self.kind in network.title]


def only(kind, *names):
    return Only(**vars(SMALL), kind=kind, names=names)


def loop_with(monitor, tmp_path):
    return Loop(CASES["mlp"], monitor, tmp_path / "run")


def test_a_monitor_that_reads_the_loss_is_found_by_the_profiler_and_by_its_warnings(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = loop_with(Waiting(), tmp_path)
        seen = waits.seen_in_steps(loop, SMALL)
        (line,) = waits.told_of(loop, SMALL)
    assert seen["aten::item"] == SMALL.steps
    assert line.startswith("called a synchronizing CUDA operation (test_gpu.py:")
    assert line.endswith(f", {SMALL.steps} times")


def test_a_bare_step_reads_nothing(tmp_path):
    loop = loop_with(make("bare"), tmp_path)
    assert not waits.seen_in_steps(loop, SMALL)
    assert waits.told_of(loop, SMALL) == []


def event(name, start, end):
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))


def test_calls_of_cuda_that_recording_adds_are_wrong_and_numbers_of_the_host_are_not():
    bare = Counter({"cudaStreamSynchronize": 2})
    recorded = Counter({"cudaStreamSynchronize": 2, "cudaEventSynchronize": 3, "aten::item": 40})
    assert waits.added(bare, recorded) == ["3 of cudaEventSynchronize"]


def test_calls_outside_of_steps_are_not_counted():
    steps = [event(waits.STEP, 10, 20), event(waits.STEP, 30, 40)]
    calls = [event("cudaDeviceSynchronize", at, at + 1) for at in (5, 12, 25, 33, 39, 41)]
    assert waits.inside([*steps, *calls, event("aten::add", 13, 14)]) == {"cudaDeviceSynchronize": 3}


@pytest.mark.parametrize("kind", ["MLP", "eager"])
def test_costs_and_memory_have_a_row_for_each_monitor(kind):
    setting = only(kind, "bare", "bare again", "dropdiag paper / 1")
    for section in (costs.overhead(setting), costs.memory(setting)):
        assert "| bare |" in str(section)
        assert "dropdiag paper / 1" in str(section)


def test_the_histogram_part_finds_wrong_counts_and_a_way_that_fails():
    def wrong(x, counts):
        counts[3] += x.numel()

    def broken(x, counts):
        raise RuntimeError("out of resource: shared memory")

    x, told = torch.randn(1000), []
    ways = {"right": histograms.add_counts, "wrong": wrong, "broken": broken}
    (line,) = histograms.differences("normal", x, ways, told)
    assert line.startswith("wrong, normal:")
    assert list(ways) == ["right", "wrong"]
    assert "out of resource" in told[0]


def test_the_histogram_part_runs():
    section = histograms.histograms(SMALL)
    assert section.problems == []
    assert "share of bandwidth" in str(section)


KERNELS = """
import torch
from on_device import histograms, triton_bins
x = torch.randn(40_003, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 40_003)
x = torch.cat([x, torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])])
ways = {"shared": triton_bins.in_shared_memory, "tables": triton_bins.in_own_tables}
told = []
for values in (x, x.bfloat16(), x[:5]):
    assert histograms.differences("any", values, ways, told) == [], told
assert not told, told
"""


def test_tritons_kernels_count_as_numpy_does_in_its_interpreter():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *sys.path])}
    subprocess.run([sys.executable, "-c", KERNELS], env=environment, check=True)


def test_what_is_told_of_graphs_has_the_steps_that_were_recorded():
    section = graphs.graphs(SMALL)
    assert section.problems == []
    assert "at 8 of 8 steps (1, 2, 3, 4, 5, 6, 7, 8)" in str(section)


def test_the_tests_that_need_a_gpu_are_found_by_their_mark():
    assert {"tests/recording/test_devices.py", "tests/gaaf/test_activation.py"} <= set(skipped.marked())


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def failing(setting):
        raise RuntimeError("no room")

    monkeypatch.setattr(gpu, "PARTS", {"failing": failing, "whole": lambda setting: page.Section("Whole", ["fine"])})
    written = tmp_path / "new" / "gpu.md"
    command = ["gpu.py", "--device", "cpu", "--tiny", "--page", str(written)]
    monkeypatch.setattr(sys, "argv", command)
    assert gpu.main() == 1
    text = written.read_text()
    assert "this part failed: RuntimeError('no room')" in text
    assert "## Whole\n\nfine" in text
    assert text.strip() == capsys.readouterr().out.replace("\n\n\n", "\n\n").strip()
