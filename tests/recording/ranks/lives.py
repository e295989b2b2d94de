"""How the Recorders of several ranks begin and end: what each rank does, by the name of the life."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError, RunError
from dropdiag.recording.ranks import group


def model_of(rank):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def steps(recorder, model, n, rank):
    generator = torch.Generator().manual_seed(10 + rank)
    for _ in range(n):
        loss = model(torch.randn(5, 4, generator=generator)).square().mean()
        loss.backward()
        recorder.step(loss=loss)


def told(action):
    """Return the error that an action ends in, as text."""
    try:
        action()
    except (ArgumentError, RunError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def together(folder, rank, world):
    """One run after the other, by all ranks; names that rank 0 chooses; other paths; errors."""
    found = {}
    model = model_of(rank)
    torch.manual_seed(rank)
    options = {"every": 1, "averaged_over": 1}
    for _ in range(2):
        config = {"condition": "Dropout", "seed": 3}
        with dd.Recorder(model, folder / "auto", name="auto", config=config, **options) as rec:
            steps(rec, model, 2, rank)
        found.setdefault("auto", []).append(rec.path.name)
    group.GRACE_SECONDS = 0.1  # rank 0 never opens the other's path: nothing but time can tell
    with dd.Recorder(model, folder / f"own-{rank}", **options) as rec:
        steps(rec, model, 1, rank)
    dist.barrier()
    # a path of two ranks, neither of which is the first: here, one that is taken
    where = folder / ("new" if rank == 0 else "own-1")
    found["shared"] = told(lambda: dd.Recorder(model, where, **options).close())
    group.GRACE_SECONDS = 60.0
    if rank == 0:
        dd.Recorder(model, folder / "by-itself", **options).close()
    with dd.Recorder(model, folder / "after", **options) as rec:
        steps(rec, model, 1, rank)
    with dd.Recorder(model, folder / "zero", ranks="zero", **options) as rec:
        with rec.padding(torch.ones(5, 1, dtype=torch.bool)):
            steps(rec, model, 3, rank)
        model.eval()
        with rec.evaluation("test"):
            model(torch.randn(3, 4))
        model.train()
        rec.log(accuracy=0.5)
        found["zero"] = [rec.completed, len(rec.coverage())]
    with dd.Recorder(model, folder / "repeated", **options) as rec:
        data = torch.utils.data.TensorDataset(torch.randn(7, 4))
        held_out = torch.utils.data.DataLoader(
            data, 2, sampler=torch.utils.data.DistributedSampler(data, shuffle=False)
        )
        model.eval()
        with warnings.catch_warnings(record=True) as caught, rec.evaluation("test"):
            for (x,) in held_out:
                model(x)
        model.train()
        found["repeated"] = [str(w.message) for w in caught]
    for name, held_out in (("same", torch.arange(48.0).view(12, 4).sin()), ("parts", torch.randn(12, 4))):
        with dd.Recorder(model, folder / name, **options) as rec:
            model.eval()
            with rec.evaluation("test"):
                model(held_out)
            model.train()
    found["closed"] = told(rec.step)
    found["taken"] = told(lambda: dd.Recorder(model, folder / "zero", **options))
    found["budget"] = told(lambda: dd.Recorder(model, folder / "budget", budget=0.1, **options))
    found["ranks"] = told(lambda: dd.Recorder(model, folder / "ranks", ranks=[0, 1]))
    with dd.Recorder(model, folder / "silent", every=1) as rec:  # averaged by nothing that is known
        steps(rec, model, 1, rank)
    if rank == 1:  # rank 0 never opens this one
        group.WAIT_SECONDS = 1.0
        found["alone"] = told(lambda: dd.Recorder(model, folder / "alone", **options))
    (folder / f"told-{rank}.json").write_text(json.dumps(found))


def killed(folder, rank, world):
    """The last rank is killed after its third step; the others go on."""
    model = model_of(rank)
    with dd.Recorder(model, folder / "run", every=1, averaged_over=1, config={"condition": "c", "seed": 0}) as rec:
        steps(rec, model, 3, rank)
        if rank == world - 1:
            rec._session.queue.flush()
            rec._session.writer.drain()
            os.kill(os.getpid(), signal.SIGKILL)
        steps(rec, model, 2, rank)


def resumed(folder, rank, world):
    """Fewer ranks go on from the second step."""
    model = model_of(rank)
    with dd.Recorder(model, folder / "run", every=1, averaged_over=1, resume=2) as rec:
        assert rec.completed == 2
        steps(rec, model, 2, rank + 20)


class Losses:
    """A sink that keeps losses."""

    def __init__(self):
        self.calls, self.losses, self.ranks = [], {}, None

    def open(self, meta):
        self.calls.append("open")
        self.ranks = meta["ranks"]["world_size"]

    def scalars(self, rows):
        self.losses.update({row.step: row.value for row in rows if row.quantity == "loss"})

    def histograms(self, rows):
        pass

    def close(self, state):
        self.calls.append(state)


def sent(folder, rank, world):
    """Each rank gives its Recorder a sink: where all record, and where rank 0 alone does."""
    found = {}
    for recorded in ("all", "zero"):
        model, sink = model_of(rank), Losses()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with dd.Recorder(model, folder / recorded, averaged_over=1, ranks=recorded, to=sink) as rec:
                steps(rec, model, 3, rank)
        said = [str(one.message) for one in caught if "sinks are sent" in str(one.message)]
        found[recorded] = {"calls": sink.calls, "losses": sink.losses, "ranks": sink.ranks, "said": said}
        dist.barrier()
    (folder / f"told-{rank}.json").write_text(json.dumps(found))


LIVES = {"together": together, "killed": killed, "resumed": resumed, "sent": sent}


def main(folder, name):
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.FileStore(os.environ["STORE"], world)
    store.set_timeout(timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.set_num_threads(1)
    LIVES[name](folder, rank, world)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
