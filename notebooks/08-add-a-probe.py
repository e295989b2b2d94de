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
# # A quantity of your own
#
# Does the gradient reach *all* nodes and samples, or a few of them? Nothing in dropdiag says so, so let us add it: a
# **probe**, a test against something that it did not compute itself, and a figure. Whatever shows or compares numbers
# then shows and compares this one, too: tables, intervals, plots, report, export. It takes about half a minute on one
# core.
#
# ## What a probe is
#
# *Signal → sketch → values.* A probe says which tensor it is fed with, opens a **sketch** for each site, and reads
# named values from it. A sketch is a summary of fixed size that takes in batch after batch (`update`), and another
# sketch of its kind (`merge`): so that micro-batches and ranks come out as if all had been one batch. That is why it
# keeps sums, and no means.
#
# Evenness of the gradient, over samples and nodes of a layer:
#
# $$e = \frac{\left(\overline{|g|}\right)^2}{\overline{g^2}}, \qquad g = \partial L/\partial z$$
#
# is 1 where all get the same, $2/\pi \approx 0.64$ for a normal distribution, and near 0 where a few get nearly all.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images
from dropdiag.probes.base import Counted, Probe, Signal
from dropdiag.store.schema import Quantity


class Sums:
    """Number of values, sum of absolute values, sum of squares; in double precision."""

    def __init__(self):
        self.n, self.absolute, self.squares = 0, 0.0, 0.0

    def update(self, values):
        values = values.detach().double()  # new tensors: the gradient itself is never changed
        self.n += values.numel()
        self.absolute += values.abs().sum()
        self.squares += values.square().sum()

    def merge(self, other):
        self.n += other.n
        self.absolute += other.absolute
        self.squares += other.squares


class Evenness(Probe):
    """Evenness of dL/dz over samples and nodes."""

    name = "evenness"
    signal = Signal.NET_GRAD
    quantities = (Quantity("net_grad_evenness", "scalar", "1", r"evenness of $\partial L/\partial z$"),)

    def sketch(self, site):
        return Sums()

    def values(self, sketch):
        even = (sketch.absolute / sketch.n) ** 2 / (sketch.squares / sketch.n) if sketch.n else None
        return [("net_grad_evenness", Counted(even, sketch.n))]


# %% [markdown]
# `Quantity` carries name, unit and label, and goes with the run: whoever reads it later needs no code of yours.
# `Counted` says of how many values a number is, for runs of several ranks. Signals are listed in
# `dropdiag.probes.base.Signal`: weights, their gradients, net values, node values, and more.
#
# ## A test that can fail
#
# A number is worth nothing until it was held against one from elsewhere. Here the gradient of one layer is caught by a
# hook of PyTorch's own, and numpy computes the evenness. Two micro-batches make one step: that tests what is merged as
# well.

# %%
folder = Path(tempfile.mkdtemp())


class Network(nn.Module):
    def __init__(self, rate, widths=(784, 128, 128)):
        super().__init__()
        self.fc1, self.act1, self.drop1 = nn.Linear(widths[0], widths[1]), nn.Tanh(), nn.Dropout(rate)
        self.fc2, self.act2, self.drop2 = nn.Linear(widths[1], widths[2]), nn.Tanh(), nn.Dropout(rate)
        self.out = nn.Linear(widths[2], 10)

    def forward(self, images):
        hidden = self.drop1(self.act1(self.fc1(images)))
        return self.out(self.drop2(self.act2(self.fc2(hidden))))


torch.manual_seed(0)
model, caught = Network(0.5, widths=(20, 30, 40)), []
model.act2.register_full_backward_hook(lambda _module, into, _out: caught.append(into[0].numpy().copy()))
with dd.Recorder(model, folder / "test", probes=[Evenness()], every=1) as rec:
    for rows in (8, 24):
        (F.cross_entropy(model(torch.randn(rows, 20)), torch.randint(10, (rows,))) * rows / 32).backward()
    rec.step()

g = np.concatenate([one.astype(np.float64).ravel() for one in caught])
expected = np.abs(g).mean() ** 2 / (g**2).mean()
recorded = dd.load(folder / "test").scalars.query("quantity == 'net_grad_evenness' and layer == 'act2'")["value"].item()
assert g.size == 32 * 40
assert np.isclose(recorded, expected, rtol=1e-6), (recorded, expected)
print(f"recorded {recorded:.6f}, by numpy {expected:.6f}")

# %% [markdown]
# ## Use it
#
# It stands among `probes` by its name once it is in dropdiag, or as it is:

# %%
data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images[:2000], data.test_images[:1000]))
y, y_test = data.train_labels[:2000], data.test_labels[:1000]


def train(condition, rate, seed, epochs=6):
    torch.manual_seed(seed)
    model, order = Network(rate), torch.Generator().manual_seed(seed)
    opt = torch.optim.Adam(model.parameters())
    config = {"condition": condition, "seed": seed}
    with dd.Recorder(
        model, folder / f"{condition}-s{seed}", probes=["paper", Evenness()], every=5, config=config
    ) as rec:
        for _ in range(epochs):
            for batch in torch.randperm(len(x), generator=order)[:1984].view(-1, 64):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                opt.zero_grad()
                loss.backward()
                opt.step()
                rec.step(loss=loss)
            model.eval()
            with rec.evaluation(), torch.no_grad():
                rec.log(accuracy=(model(x_test).argmax(1) == y_test).float().mean())
            model.train()


for seed in range(3):
    train("No dropout", 0.0, seed)
    train("Dropout", 0.5, seed)

runs = dd.load({name: f"{folder}/{name}-s*" for name in ("No dropout", "Dropout")})
layers = {"act1": "layer 1", "act2": "layer 2"}
dd.plots.scalar(runs, "net_grad_evenness", layers=layers)

# %% [markdown]
# And beside the baseline, over seeds:

# %%
table = dd.compare(runs).table
shown = ["measure", "layer", "effect", "low", "high", "value", "baseline_value", "n", "p_attainable"]
table.loc[table["quantity"] == "net_grad_evenness", shown].round(3)

# %% [markdown]
# ## How it misleads
#
# Say it in the docstring, before somebody else finds out. A mask sets its share of the gradients to 0, so that evenness
# falls by the factor $1 - p$ *without anything having been learned*: half of it at a rate of 0.5. What is left after
# that factor is what is of interest. Each of your quantities has such a trap; think of what it would be if nothing
# happened.
#
# ## A figure of your own
#
# Figures of one panel draw into axes that you give, and every number is in a frame: here the evenness of each layer,
# the factor $1 - p$ taken out, beside the accuracy.

# %%
frame = runs.scalars.query("quantity == 'net_grad_evenness' and phase == 'train'").copy()
frame["without masks"] = frame["value"] / frame["condition"].map({"No dropout": 1.0, "Dropout": 0.5})
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
colours = {"No dropout": "#0072b2", "Dropout": "#d55e00"}
for (condition, layer), rows in frame.groupby(["condition", "layer"], sort=False):
    means, line = rows.groupby("step")["without masks"].mean(), "-" if layer == "act1" else ":"
    left.plot(means.index, means, line, color=colours[condition], label=f"{condition}, {layers[layer]}")
left.set(xlabel="training step", ylabel=r"evenness / $(1 - p)$", ylim=(0, None))
left.legend(fontsize="small", frameon=False)
_ = dd.plots.scalar(runs, "accuracy", ax=right)

# %% [markdown]
# Lines are means over three seeds: no band, no verdict. `compare` has the intervals, of what was recorded.
#
# ## Into dropdiag
#
# A probe that others may want goes into `dropdiag/probes/`, with its line in `presets.py` and its test; how to add a
# figure, a claim, a kind of dropout or a command is in the same place, [CONTRIBUTING.md](../CONTRIBUTING.md), whose
# recipes are run by the tests.
