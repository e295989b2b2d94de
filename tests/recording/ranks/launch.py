"""Start the processes of a job, and wait for their ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LIMIT = 300
"""Seconds after which a job is taken for hung: it is bounded by that alone, and no test waits so long."""


def environment():
    """Return an environment in which this checkout is imported, one thread a process."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def torchrun(world, module, *arguments):
    """Run a module on so many ranks, as users do; raise with what it said if any rank fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", "-m", module]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def ranks(world, module, folder, *arguments):
    """Run a module on so many ranks that nobody watches over; return how each of them ended, and what it said."""
    store = folder / f"store-{len(list(folder.glob('store-*')))}"
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder), *map(str, arguments)], cwd=ROOT, text=True,
            env={**environment(), "RANK": str(rank), "WORLD_SIZE": str(world), "STORE": str(store)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(world)
    ]  # fmt: skip
    return [(process.communicate(timeout=LIMIT)[0], process.returncode) for process in started]
