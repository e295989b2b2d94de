"""Cost of recording on several ranks, of what they write, and of reading it as one run.

The ranks of a job train the MLP under DistributedDataParallel, blocks of bare and of recorded steps by turns, all at
the same time; printed is the median of the ratios of each recorded block to the bare one beside it, on rank
0. Then what one rank writes; and how long a run of many ranks takes to read, each a copy of one that was recorded (as
ranks record the same quantities at the same steps), by the number of ranks: of a process each, loading included and
importing not.

    python benchmarks/ranks.py [--ranks 1 2 4] [--rounds 30] [--read 1 8 64 256]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from models import mlp
from timing import machine
from torch import nn
from torch.nn import functional as F

import dropdiag as dd

BLOCK, BATCH, STEPS = 20, 128, 200
ASK = """
import sys, time
import dropdiag as dd, pandas, pyarrow.parquet
begun = time.perf_counter()
run = dd.load(sys.argv[1])
flow = run.select("net_grad_abs_mean")
curves = time.perf_counter() - begun
begun = time.perf_counter()
run.histograms("net_value", step="all", phase="train")
histograms = time.perf_counter() - begun
begun = time.perf_counter()
run.histograms("node_correlation")
print(curves, histograms, time.perf_counter() - begun)
"""


class Trainer:
    """A network under DistributedDataParallel, and a block of its steps."""

    def __init__(self, path: Path | None, every: int) -> None:
        torch.manual_seed(0)
        self.model = nn.parallel.DistributedDataParallel(mlp())
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.recorder = None if path is None else dd.Recorder(self.model, path, every=every, config={"seed": 0})
        self.x, self.y = torch.randn(BATCH, 784), torch.randint(0, 10, (BATCH,))

    def block(self, steps: int = BLOCK) -> float:
        """Train, and return the seconds."""
        begun = time.perf_counter()
        for _ in range(steps):
            loss = F.cross_entropy(self.model(self.x), self.y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.recorder is not None:
                self.recorder.step(loss=loss)
        return time.perf_counter() - begun


def train(folder: Path, rounds: int) -> None:
    """Run as one rank: time blocks by turns, then write a run to be read."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    trainers = {"bare": Trainer(None, 1), "every step": Trainer(folder / "every", 1),
                "every 10th": Trainer(folder / "tenth", 10)}  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(rounds + 1):
        for name, trainer in trainers.items():
            dist.barrier()
            seconds = trainer.block()
            if number:  # the first round warms up
                times[name].append(seconds)
    for trainer in trainers.values():
        if trainer.recorder is not None:
            trainer.recorder.close()
    written = Trainer(folder / "written", 10)
    written.block(STEPS)
    written.model.eval()
    assert written.recorder is not None
    with written.recorder.evaluation(), torch.no_grad():
        for _ in range(16):
            written.model(torch.randn(BATCH, 784))
    written.recorder.close()
    if dist.get_rank() == 0:
        (folder / "times.json").write_text(json.dumps(times))
    dist.barrier()
    dist.destroy_process_group()


def launched(ranks: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Start the ranks of a job; return the times."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--job", str(folder), "--rounds", str(rounds)], check=True, env=environment, capture_output=True
    )
    found: dict[str, list[float]] = json.loads((folder / "times.json").read_text())
    return found


def overhead(numbers: list[int], rounds: int, folder: Path) -> Path:
    """Print what recording costs by the number of ranks, and return a run of two."""
    print(f"{'ranks':>6}{'bare, ms a step':>18}{'every step':>12}{'every 10th':>12}")
    for ranks in numbers:
        here = folder / str(ranks)
        here.mkdir()
        times = launched(ranks, rounds, here)
        bare = times["bare"]
        ratio = {
            name: statistics.median(a / b for a, b in zip(times[name], bare, strict=True))
            for name in ("every step", "every 10th")
        }
        print(
            f"{ranks:>6}{1e3 * statistics.median(bare) / BLOCK:>18.2f}{ratio['every step']:>12.3f}"
            f"{ratio['every 10th']:>12.3f}"
        )
    return folder / str(next(n for n in numbers if n > 1)) / "written"


def copied(run: Path, ranks: int, folder: Path) -> Path:
    """Make a run of so many ranks of one that two recorded."""
    made = folder / f"of-{ranks}"
    shutil.copytree(run / "rank-0", made / "rank-0")
    meta = json.loads((run / "run.json").read_text())
    _of_world(meta, ranks)
    (made / "run.json").write_text(json.dumps(meta))
    for rank in range(1, ranks):
        shutil.copytree(run / "rank-1", made / f"rank-{rank}")
        told = json.loads((run / "rank-1" / "rank.json").read_text())
        _of_world(told, ranks)
        told["ranks"]["rank"] = rank
        (made / f"rank-{rank}" / "rank.json").write_text(json.dumps(told))
    return made


def _of_world(meta: dict, ranks: int) -> None:
    meta["ranks"]["world_size"] = ranks
    for session in meta["sessions"]:
        session["world_size"] = ranks


def reading(run: Path, numbers: list[int], folder: Path) -> None:
    """Print what a rank writes, and how long a run takes to read by the number of ranks."""
    for rank in (0, 1):
        files = [path for path in (run / f"rank-{rank}").iterdir() if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        print(f"\nrank {rank}: {len(files)} files, {size:.2f} MB for {STEPS} steps and an evaluation", end="")
    print(f"\n\n{'ranks':>6}{'files':>8}{'MB':>9}{'curves, s':>12}{'histograms, s':>15}{'correlation, s':>16}")
    for ranks in numbers:
        made = copied(run, ranks, folder)
        files = [path for path in made.rglob("*") if path.is_file()]
        asked = [sys.executable, "-c", ASK, str(made)]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        curves, histograms, correlation = map(float, done.stdout.split())
        size = sum(path.stat().st_size for path in files) / 1e6
        print(f"{ranks:>6}{len(files):>8}{size:>9.1f}{curves:>12.2f}{histograms:>15.2f}{correlation:>16.2f}")
        shutil.rmtree(made)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--read", type=int, nargs="*", default=[2, 8, 64, 256])
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is not None:
        train(arguments.job, arguments.rounds)
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        run = overhead(arguments.ranks, arguments.rounds, Path(folder))
        reading(run, arguments.read, Path(folder))


if __name__ == "__main__":
    main()
