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
# # Your network
#
# A Recorder works on the model you have: modules and called functions, convolutions, attention, several dropouts of
# several kinds. Here are a CNN and a small vision transformer, and three questions to put to a first run of any
# network: *what was seen of it, what do its dropouts do, which layers are worth looking at?* It takes about half a
# minute on one core.

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

data = load_images("mnist")
x, x_test = (images.view(-1, 1, 28, 28) / 255 for images in (data.train_images[:2000], data.test_images[:500]))
y, y_test = data.train_labels[:2000], data.test_labels[:500]
folder = Path(tempfile.mkdtemp())


def train(model, name, epochs=4):
    order = torch.Generator().manual_seed(0)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with dd.Recorder(model, folder / name, probes="full", every=10) as rec:
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
    return rec


# %% [markdown]
# ## A CNN
#
# With batch norm, ReLU as a function, dropout of whole channels between convolutions and of single nodes before the
# output.


# %%
class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.channels = nn.Dropout2d(0.2)
        self.fc, self.out = nn.Linear(32 * 7 * 7, 64), nn.Linear(64, 10)

    def forward(self, images):
        hidden = F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2)
        hidden = F.max_pool2d(F.relu(self.norm2(self.conv2(self.channels(hidden)))), 2)
        hidden = F.dropout(F.relu(self.fc(hidden.flatten(1))), 0.5, self.training)
        return self.out(hidden)


torch.manual_seed(0)
train(CNN(), "cnn").coverage()

# %% [markdown]
# **Coverage is the first thing to read**: every place of the model, whether it was recorded, how often, and if not,
# why. A called function has the name of the convolution or Linear before it (`conv1:relu`, `fc:dropout`). *sampled* is
# the share of values that entered histograms, where not all did. *nodes* says which dimension counts nodes, and from
# where that is known: channels of a convolution, with all positions as samples; features of a Linear. Where it is
# wrong, `node_axis={"conv1:*": 1}` corrects it. *chain* says how the gradient's way was followed from the output down.
#
# Nothing is left out silently: what stands under *skipped* is all that was not recorded, with its reason.
#
# ### What do the dropouts do?
#
# The rate of each, the share of units that masks really dropped, and the noise beside the signal: the variance that
# masks give to a node, over the variance that the data give it, averaged over nodes. Above 1 the masks vary a node more
# than the digits do.

# %%
cnn = dd.load(folder / "cnn")
dd.plots.dropouts(cnn)

# %% [markdown]
# How it misleads: behind a ReLU most units are 0 already. They are not counted as dropped, so that the share is that of
# units on which the mask did anything. And noise is not harm: how much of it reaches the output is another question
# ([04-why](04-why.ipynb), the ensemble).
#
# ### Which layers?
#
# All of them, in the order in which they run, or those that `layers=` names; a dict also gives them titles. For ReLU
# the saturation area is the whole left side, where a node is off.

# %%
titles = {"conv1:relu": "first convolution", "conv2:relu": "second", "fc:relu": "fully connected"}
dd.plots.saturation(cnn, layers=titles, limits=(-5, 8))

# %% [markdown]
# The spikes are the black of the images: all of it gives one net value to each channel. A curve of a convolution is
# over positions as well as images.
#
# A node that is off for some digits does its work; one that is off for all of them is dead, for these digits at least:
# the fewer there are, the more nodes look dead. The health of a run tells them apart, and has how far the last recorded
# step moved the weights, and how far all steps together, beside their size:

# %%
dd.plots.health(cnn)

# %% [markdown]
# ## A transformer
#
# A digit is cut into 16 patches, which are tokens. `nn.TransformerEncoderLayer` has dropouts in its attention and
# behind each of its two parts, and the Recorder finds them all.


# %%
class Transformer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.positions = nn.Parameter(torch.randn(16, width) / 10)
        block = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.1, activation="gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.blocks(tokens).mean(1))


torch.manual_seed(0)
model = Transformer()
rec = train(model, "transformer")
for row in rec.coverage():
    if row.kind in ("activation", "dropout"):
        print(f"{row.layer}: {row.type}, nodes: {row.nodes}", *filter(None, [row.dropout]), sep="; ")

# %% [markdown]
# The dropouts of a model, before anything is trained, by the names that they can be changed by:

# %%
dd.interventions.list(model)

# %% [markdown]
# `dd.interventions.set(model, {"blocks.*": 0.3})` sets rates of the model that is built already, `off` and `schedule`
# likewise, `insert` puts a dropout where there is none, and all of them can be undone:
# [docs/interventions.md](../docs/interventions.md).

# %%
transformer = dd.load(folder / "transformer")
short = {row.layer: row.layer.removeprefix("blocks.layers.") for row in rec.coverage() if row.kind == "dropout"}
dd.plots.dropouts(transformer, layers=short)

# %% [markdown]
# Inside attention the kernel draws the mask itself: its rate is known, and what it drops is not. Such a number is
# missing, and not 0.
#
# ### Gradient flow by depth

# %%
dd.plots.gradient_flow(transformer)

# %% [markdown]
# A single run has no ratio and no interval: it shows what there is. To say that a rate *does* something takes
# conditions and seeds ([01-ten-minutes](01-ten-minutes.ipynb)).
#
# ## What else your training may need
#
# | you have | write |
# |---|---|
# | gradient accumulation | `rec.step()` once an optimiser step, not once a micro-batch |
# | mixed precision | `dd.Recorder(..., scaler=scaler)`; autocast needs nothing |
# | padded tokens | `with rec.padding(mask):` around the forward pass |
# | `torch.compile` | modules are recorded inside the graph; called functions are not, as coverage then says |
# | many layers | `include="blocks.*"`, `exclude=...`, or `probes="light"` |
# | a long training | `every=dd.log_spaced(...)`, or `budget=0.02` for two per cent of the time |
# | an activation function of your own | `dd.register_activation(...)` |
#
# [docs/limitations.md](../docs/limitations.md) has the whole table of what is not seen.
