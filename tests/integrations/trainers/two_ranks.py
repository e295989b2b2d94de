"""What each of two ranks runs: a training by each of the trainers, with the line that a user writes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import dropdiag as dd

STEPS, BATCH = 2, 10
OPTIONS = {"every": 1, "config": {"condition": "ranks", "seed": 0}}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def data(number=STEPS * BATCH * 2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 12, generator=generator), torch.randint(3, (number,), generator=generator)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def part(*tensors):
    """This rank's share of each batch, in order: Lightning itself would shuffle."""
    dataset = TensorDataset(*tensors)
    return DataLoader(dataset, BATCH, sampler=DistributedSampler(dataset, shuffle=False))


def transformers(folder):
    from tests.zoo import importable_torchvision  # noqa: F401

    from transformers import Trainer, TrainingArguments  # isort: skip

    x, y = data()
    examples = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(folder / "output"), use_cpu=True, ddp_backend="gloo", per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH, num_train_epochs=1, eval_strategy="epoch", save_strategy="no",
        max_grad_norm=0.0, report_to="none", disable_tqdm=True, train_sampling_strategy="sequential",
    )  # fmt: skip
    model = Net()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    one = dd.integrations.transformers.Recorder(folder / "transformers", **OPTIONS)
    Trainer(
        model, arguments, train_dataset=examples, eval_dataset=examples[:20], optimizers=(optimizer, schedule),
        callbacks=[one],
    ).train()  # fmt: skip


def accelerate(folder):
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), network()
    model, optimizer, loader = accelerator.prepare(model, sgd(model), DataLoader(TensorDataset(*data()), BATCH))
    with dd.integrations.accelerate.Recorder(accelerator, model, folder / "accelerate", **OPTIONS) as rec:
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            rec.step(loss=loss)
            optimizer.zero_grad()


def lightning(folder):
    from tests.zoo import importable_torchvision  # noqa: F401

    import lightning as L  # isort: skip

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, number):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, number):
            self.net(batch[0])

        def configure_optimizers(self):
            return sgd(self)

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    # two fits: the second run's name is chosen by rank 0, and the others follow
    one = dd.integrations.lightning.Recorder(folder / "lightning", **OPTIONS)
    for _ in range(2):
        trainer = L.Trainer(
            strategy="ddp", accelerator="cpu", devices=2, max_epochs=1, callbacks=[one], use_distributed_sampler=False,
            **quiet,
        )  # fmt: skip
        trainer.fit(Module(), part(*data()), part(*(tensor[:20] for tensor in data())))
    assert one.path == folder / "lightning-2"


def ignite(folder):
    import ignite.distributed as idist
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer

    model = idist.auto_model(network())
    trainer = create_supervised_trainer(model, sgd(model), F.cross_entropy)
    evaluator = create_supervised_evaluator(model)
    held_out = part(*(tensor[:20] for tensor in data()))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(held_out))
    dd.integrations.ignite.Recorder(folder / "ignite", **OPTIONS).attach(trainer, model, evaluator)
    trainer.run(part(*data()))


TRAINERS = {"accelerate": accelerate, "transformers": transformers, "lightning": lightning, "ignite": ignite}


def main(folder, names):
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for name in names:
        TRAINERS[name](folder)
        dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
