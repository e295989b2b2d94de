"""The benchmarks run: small, and without a look at what they measure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parents[2] / "benchmarks"

SMALL = ["--models", "mlp", "--rounds", "2", "--block", "1", "--threads", "1", "--evaluation"]
RUNS = {
    "overhead": [*SMALL, "--monitors", "empty hooks", "dropdiag paper / 1", "dropdiag full / 1"],
    "parts_of_a_step": ["--rounds", "2", "--threads", "1"],
    "histogram": ["--sizes", "1000"],
    "sites": ["--layers", "3", "30", "--rounds", "1"],
    "store": ["--steps", "4", "--monitors", "dropdiag paper / 1", "--runs", "12", "--repetitions", "1"],
}
PRINTED = {
    "overhead": ["dropdiag paper / 1", "recorded"],
    "parts_of_a_step": ["empty hooks", "without dropouts"],
    "histogram": ["update", "KDE"],
    "sites": ["scheduled step", "coverage"],
    "store": ["MB / 1,000 steps", "read back", "12 runs"],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_prints_its_table(name, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / f"{name}.py"), *RUNS[name]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for words in PRINTED[name]:
        assert words in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: this takes minutes")
def test_without_a_gpu_that_benchmark_says_so():
    done = subprocess.run([sys.executable, str(HERE / "gpu.py")], capture_output=True, text=True, check=True)
    assert "nothing was measured on one" in done.stdout
