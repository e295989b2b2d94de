"""Record the small runs of one schema: ``PYTHONPATH=THAT_VERSION python tests/frozen/schemas/make.py SCHEMA OUT``.

It is run with the last version of each schema, which is why it keeps to what all of them have. Each run was written by
the real Recorder, and ``expected.json`` beside them holds every row as the Recorder handed it to its writer: no reader
had a part in it. Never run it again for a schema that is released: what its version wrote then is what must be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.store.schema import SCHEMA_VERSION
from dropdiag.store.writer import RunWriter

ROWS: list[list[Any]] = []


def note() -> None:
    """Note each row that the writer is given."""
    real = RunWriter.add

    def add(self: Any, scalars: Any, histograms: Any, states: Any, taken_from: Any = None) -> None:
        for kind, rows in (("scalars", scalars), ("histograms", histograms)):
            ROWS.extend([kind, self.rank, *row[:5], as_text(row)] for row in rows)
        real(self, scalars, histograms, states, taken_from)

    RunWriter.add = add


def as_text(row: Any) -> str:
    if not hasattr(row, "bins"):
        return "nan" if row.value is None or np.isnan(row.value) else float(row.value).hex()
    content = np.asarray(row.bins, "<u2").tobytes() + np.asarray(row.counts, "<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def train(path: Path, steps: range, *, end: str = "closed", seed: int = 0, **options: Any) -> None:
    torch.manual_seed(steps.start)  # the same network on every rank
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.25), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    config = {"condition": "Dropout", "seed": 7}
    recorder = dd.Recorder(model, path, every=1, config=config, **options)
    torch.manual_seed(100 * steps.start + seed)
    for step in steps:
        loss = F.cross_entropy(model(torch.randn(6, 3)), torch.arange(6) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step(loss=loss)
        if step % 2 == 0:
            model.eval()
            with recorder.evaluation():
                model(torch.randn(9, 3))
            model.train()
            session = recorder._session
            session.queue.flush()
            session.writer.drain()
    if end == "killed":
        save(path.with_suffix(".json"))
        os._exit(9)
    recorder.close()


def completed(path: Path) -> None:
    train(path, range(1, 5))


def killed(path: Path) -> None:
    train(path, range(1, 5), end="killed")


def resumed(path: Path) -> None:
    train(path, range(1, 5))
    ROWS[:] = [row for row in ROWS if row[2] <= 3]  # those of step 4 are hidden by the second session
    train(path, range(4, 7), resume=3)


def ranks(path: Path) -> None:
    """Record on two ranks, each a process; the rows of each are saved under its number."""
    pids = []
    for rank in range(2):
        if not (pid := os.fork()):
            store = dist.FileStore(f"{path}.store", 2)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
            train(path, range(1, 5), averaged_over=1, seed=rank)
            save(path.parent / f"ranks-{rank}.json")
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    for rank in range(2):
        file = path.parent / f"ranks-{rank}.json"
        ROWS.extend(json.loads(file.read_text()))
        file.unlink()
    Path(f"{path}.store").unlink()


LIVES: dict[str, Callable[[Path], None]] = {
    "completed": completed,
    "killed": killed,
    "resumed": resumed,
    "ranks": ranks,
}


def main(schema: int, out: Path) -> None:
    if schema != SCHEMA_VERSION:
        raise SystemExit(f"this version writes schema {SCHEMA_VERSION}, not {schema}")
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    socket.gethostname = lambda: "host"  # a machine's own name is nobody's business
    note()
    for name, live in LIVES.items():
        if name == "ranks" and schema == 1:
            continue  # which knew one process alone
        pid = os.fork()
        if not pid:
            live(out / name)
            save(out / f"{name}.json")
            os._exit(0)
        os.waitpid(pid, 0)
        if not (out / f"{name}.json").exists():
            raise SystemExit(f"{name} could not be recorded")


def save(file: Path) -> None:
    lines = ",\n ".join(json.dumps(row) for row in sorted(ROWS, key=repr))
    file.write_text(f"[\n {lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).absolute())
