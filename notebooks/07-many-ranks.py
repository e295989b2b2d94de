# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Many ranks, one run
#
# A training on several GPUs or machines is several processes, the *ranks*. Each opens the Recorder with the same path,
# and they record **one** run together: every rank what it sees, merged when the run is read. Here are two processes on
# this machine, without any GPU (gloo); with `torchrun` and NCCL the script would be the same. It takes about half a
# minute.
#
# ## A script
#
# Processes start from a file, so the training is written into one. What concerns ranks is marked by `# ranks:`; what
# concerns dropdiag is the same three lines as ever.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import dropdiag as dd
from dropdiag.analysis import gradient_flow, saturation

folder = Path(tempfile.mkdtemp())
script = folder / "train.py"
script.write_text("""
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

rank, world, rate, path = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
# ranks: under torchrun, init_process_group("nccl") alone
store = dist.FileStore(path + ".store", world)
dist.init_process_group("gloo", store=store, rank=rank, world_size=world)

data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images, data.test_images))
y, y_test = data.train_labels, data.test_labels

torch.manual_seed(0)
layers = [nn.Linear(784, 256), nn.Tanh(), nn.Dropout(rate), nn.Linear(256, 128), nn.Tanh(), nn.Dropout(rate)]
model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(128, 10)))  # ranks: gradients are averaged
torch.manual_seed(rank)  # ranks: masks of its own for each
opt = torch.optim.SGD(model.parameters(), lr=0.1)
order = torch.Generator().manual_seed(0)  # ranks: one order for all

with dd.Recorder(model, path, every=10, config={"seed": 0, "rate": rate}) as rec:  # ranks: the same path on each
    for batch in torch.randperm(len(x), generator=order)[:9984].view(-1, 128):
        part = batch[rank::world]  # ranks: each its share of the batch
        loss = F.cross_entropy(model(x[part]), y[part])
        opt.zero_grad()
        loss.backward()
        opt.step()
        rec.step(loss=loss)
    model.eval()
    with rec.evaluation(), torch.no_grad():
        mine = slice(rank, None, world)  # ranks: each its share of the held-out digits
        rec.log(accuracy=(model(x_test[mine]).argmax(1) == y_test[mine]).float().mean())

dist.destroy_process_group()
""")


def start(name, world, rate=0.0):
    """Start so many ranks, and wait until all are done."""
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(world), str(rate), str(folder / name)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    for rank, process in enumerate(ranks):
        said, _ = process.communicate()
        print(f"{name}, rank {rank}: ended with {process.returncode} {said}".strip())
    return dd.load(folder / name)


# %% [markdown]
# Two trainings: one process with batches of 128, and two ranks with 64 each of the same batches.

# %%
alone = start("one process", world=1)
together = start("two ranks", world=2)

# %% [markdown]
# ## One run
#
# The folder of the second holds what both ranks wrote, `rank-0/` and `rank-1/`. Loaded, it is one run as any other;
# `ranks` has each by itself, and what the loss of a step was on either:

# %%
print(sorted(path.name for path in (folder / "two ranks").iterdir() if path.is_dir()))
print(f"{len(together.ranks)} of {together.ranks.world_size} ranks")
together.ranks.spread("loss", steps=(1, 3))

# %% [markdown]
# A rank is no replicate: the ranks of a run share weights, and count once in every comparison. Their spread is that of
# batches, not of trainings.
#
# ## The same numbers as on one process
#
# The loss of a rank is a mean over *its* half of the batch, so that what it calls the gradient is twice that of the
# whole step. The Recorder knows what DistributedDataParallel averages over, and divides by it. Without dropout the two
# trainings are the same but for rounding, and so must be what was measured:

# %%
both = dd.load({"one process": folder / "one process", "two ranks": folder / "two ranks"})
flow = gradient_flow.table(both, baseline="one process")
print(f"largest relative difference: {(flow['ratio'] - 1).abs().max():.0e}")
flow[["condition", "layer", "mean", "ratio"]]

# %%
saturation.table(both)[["condition", "layer", "left", "right", "share"]]

# %% [markdown]
# Histograms are counts, and add up exactly: those of two ranks are those of the whole batch. Held-out digits were
# shared among the ranks as well. Node correlation merges by its covariances:

# %%
dd.plots.correlation(both)

# %% [markdown]
# The curves lie on each other where nothing went wrong.
#
# ## With dropout
#
# Each rank draws masks of its own. What they drop is merged as well:

# %%
dropout = start("two ranks, dropout", world=2, rate=0.5)
dd.analysis.dropouts.table(dropout)[["layer", "type", "rate_last", "dropped_share", "noise_to_signal"]]

# %% [markdown]
# With one seed for all ranks, all would draw the same masks, each for its own half: the dropped share looks as it
# should, and the noise of the two halves no longer averages out in the gradient. So seed by rank *after* the model is
# built.
#
# ## What to know
#
# - No hook and no `step()` talks to the other ranks: a rank without a Recorder keeps nobody waiting, and one that dies
#   leaves the others recording. What it had flushed is read, and the run says that it is missing.
# - `ranks="zero"` lets rank 0 alone record what it sees: its share of each batch.
# - Where you average gradients yourself, `averaged_over=` says over how many ranks.
# - The folder must be one that all machines see.
#
# FSDP, tensor parallel, pipelines, what is tested and what it costs: [docs/distributed.md](../docs/distributed.md).
