"""Trainers that spread a model over ranks themselves, with the few lines that a user writes to record in them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd
from tests.recording.ranks.job import Watch
from tests.recording.ranks.networks import Mlp, data, network

STEPS, BATCH = 3, 8


def dataset(world):
    x, y = data(Mlp.shape, STEPS * BATCH * world, 0, torch.float32)
    return TensorDataset(x, y)


def accelerate(path):
    """Train in a loop of one's own, with Accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = network("mlp", torch.float32)
    loader = DataLoader(dataset(dist.get_world_size()), BATCH)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    watch, steps = Watch(model, lambda: True), []
    with dd.Recorder(model, path, every=1, probes="full") as rec:
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            rec.step(loss=loss)
            steps.append(watch.seen)
            watch.seen = []
    return steps


def lightning(path):
    """Train with Lightning's strategy "ddp", and a callback."""
    from tests.zoo import importable_torchvision  # noqa: F401 - before Lightning, which imports it where it is there

    import lightning as L  # isort: skip - as everybody calls it

    steps = []

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network("mlp", torch.float32)

        def training_step(self, batch, number):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Record(L.Callback):
        def on_train_start(self, trainer, module):
            self.watch = Watch(module.net, lambda: True)
            self.rec = dd.Recorder(module.net, path, every=1, probes="full")

        def on_train_batch_end(self, trainer, module, outputs, batch, number):
            self.rec.step(loss=outputs["loss"])
            steps.append(self.watch.seen)
            self.watch.seen = []

        def on_train_end(self, trainer, module):
            self.rec.close()

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    devices = dist.get_world_size()
    trainer = L.Trainer(strategy="ddp", accelerator="cpu", devices=devices, max_epochs=1, callbacks=[Record()], **quiet)
    trainer.fit(Module(), DataLoader(dataset(dist.get_world_size()), BATCH))
    return steps


TRAINERS = {"accelerate": accelerate, "lightning": lightning}


def main(folder, names):
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for name in names:
        steps = TRAINERS[name](folder / name)
        torch.save({"steps": steps}, folder / f"{name}-bare-{dist.get_rank()}.pt")
        dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
