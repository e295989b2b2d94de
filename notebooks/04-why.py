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
# # Why, and what else dropout is said to do
#
# [01-ten-minutes](01-ten-minutes.ipynb) shows *that* dropout changes the gradient flow. This notebook asks where that
# comes from, and puts what is said of dropout elsewhere to the test: that it averages over an ensemble, that it finds
# flatter minima, that it keeps nodes from co-adapting. It takes about half a minute on one core.
#
# Some of it is recorded along the training, the rest by **measurements**: `rec.measure(name, batch, ...)` sends passes
# of its own through the model and leaves weights, buffers and random numbers as they were, so that the training is the
# same with and without. Each is also a function, `dd.measure.ensemble(model, batch)`, that needs no Recorder.

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images[:2000], data.test_images[:1000]))
y, y_test = data.train_labels[:2000], data.test_labels[:1000]
folder = Path(tempfile.mkdtemp())


class Network(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.fc1, self.act1, self.drop1 = nn.Linear(784, 128), nn.Tanh(), nn.Dropout(rate)
        self.fc2, self.act2, self.drop2 = nn.Linear(128, 128), nn.Tanh(), nn.Dropout(rate)
        self.out = nn.Linear(128, 10)

    def forward(self, images):
        hidden = self.drop1(self.act1(self.fc1(images)))
        return self.out(self.drop2(self.act2(self.fc2(hidden))))


def train(condition, rate, seed, epochs=8):
    torch.manual_seed(seed)
    model, order = Network(rate), torch.Generator().manual_seed(seed)
    opt = torch.optim.Adam(model.parameters())
    few, held_out = (x[:256], y[:256]), (x_test[:500], y_test[:500])
    config = {"condition": condition, "seed": seed}
    with dd.Recorder(model, folder / f"{condition}-s{seed}", every=5, config=config) as rec:
        for _ in range(epochs):
            for batch in torch.randperm(len(x), generator=order)[:1984].view(-1, 64):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                opt.zero_grad()
                loss.backward()
                opt.step()
                rec.step(loss=loss)
            model.eval()
            with rec.evaluation(), torch.no_grad():
                logits = model(x_test)
                rec.log(accuracy=(logits.argmax(1) == y_test).float().mean(), loss=F.cross_entropy(logits, y_test))
            model.train()
        masks = {"drop1": 0.5, "drop2": 0.5}  # those of the other condition, for a network that has none
        rec.measure("masks_by_weights", few, F.cross_entropy, masks=16, like=None if rate else masks)
        rec.measure("flatness", few, F.cross_entropy, k=1)
        rec.measure("robustness", held_out, F.cross_entropy)
        rec.measure("ablation", few, F.cross_entropy, permutations=8, orders=4)
        if rate:
            rec.measure("ensemble", *held_out, masks=32)


for seed in range(3):
    train("No dropout", 0.0, seed)
    train("Dropout", 0.5, seed)

runs = dd.load({name: f"{folder}/{name}-s*" for name in ("No dropout", "Dropout")})
claims = dd.compare(runs).claims()
layers = {"act1": "layer 1", "act2": "layer 2"}

# %%
dd.plots.learning(runs)

# %% [markdown]
# ## The budget of the gradient
#
# The gradient flow of a layer is a product, from the output down: how large the **error** at the output is, what the
# weights above make of it (**transport**), what **masks** do to a gradient that passes them, and the **slope** of the
# activation functions. So a ratio of two conditions is a product of four ratios, and their logarithms add up to the
# whole. The paper's explanation of why dropout makes more gradient is the slope.

# %%
dd.plots.flow_decomposition(runs, layers=layers)

# %%
shown = ["layer", "term", "effect", "low", "high", "n"]
table = dd.analysis.flow_decomposition.table(runs)
table[table["condition"] == "Dropout"][[name for name in shown if name in table]].round(2)

# %% [markdown]
# Bars to the right of 1 raise the gradient flow, those to the left lower it. How it misleads: the parts are ratios of
# *means*, in the order of the chain. They say where the gradient differs, not what would happen if one part alone were
# changed. And a mean over training is mostly of its beginning, where gradients are large; over training it looks like
# this:

# %%
dd.plots.flow_decomposition(runs, layers=layers, over="training")

# %% [markdown]
# The verdict on "it is the slope" (claim i), in the family of all claims that these runs can answer:

# %%
claims.only("i")

# %% [markdown]
# ## Masks, or the weights they led to?
#
# Is it the masks of that very step that make the gradient larger, or what the network has become by training with them?
# The same digits pass through both conditions' weights, each with masks and without: four cells, two effects, and their
# interaction.

# %%
dd.plots.masks_by_weights(runs, layers=layers)

# %% [markdown]
# An effect of the weights may be no more than that one network has learned these digits better than the other. Look at
# the same loss as well:

# %%
dd.plots.gradient_flow(runs, layers=layers, against="loss")

# %% [markdown]
# The ratio stands only where the runs of both conditions have been. The loss of training is under masks: at the same
# loss on this axis, the network with dropout is the better one.
#
# ## An ensemble?
#
# Dropout trains a different thinned network at every step; that halving the weights computes their average is the
# common explanation of why it works. *Weight-scaled* is the network as it is used; beside it the geometric and the
# arithmetic mean over 32 drawn thinned networks, on held-out digits.

# %%
dd.plots.ensemble(runs)

# %% [markdown]
# The divergence (KL) is that of the weight-scaled network from those means. 32 masks overstate it; the hollow mark is
# by how much. Claim (h) asks whether it is below a margin too small to matter:

# %%
claims.only("h")

# %% [markdown]
# ## Flatter minima?
#
# How fast does the loss rise around the weights? Along random directions that are as long as each node's weights, and
# by the curvature. All is without masks, on 256 training digits.

# %%
dd.plots.flatness(runs)

# %% [markdown]
# How it misleads: near a loss of zero everything is flat. The largest eigenvalue depends on the scale of the weights,
# relative flatness does not, and so they may disagree; claim (g) is judged by what rescaling cannot change.

# %%
claims.only("g")

# %% [markdown]
# ## Less co-adaptation?
#
# That depends on the definition, so here are two side by side. *Interaction*: when two groups of nodes that vary
# together are both set to their means, is the loss more (above 0: they stood in for each other) or less (below 0: each
# needed the other) than the sum of what each costs alone? The grey stroke is that of groups drawn by lot.
# *Correlation*: do nodes vary alike? Below: accuracy as more and more nodes are taken out, in four random orders.

# %%
dd.plots.ablation(runs, layers=layers)

# %%
claims.only("j")

# %% [markdown]
# That nodes can be spared is not that they are independent. Read the sign, and the stroke, before saying "less".
#
# ## What to conclude
#
# Three seeds, eight epochs, 2,000 digits: most of these verdicts are provisional or open, and *undecided* says nothing
# against a claim. Which of them hold of the paper's network after a whole training is in
# [docs/reproduction.md](../docs/reproduction.md); formula, cost and pitfalls of each measurement are in
# [docs/measure.md](../docs/measure.md). How many seeds a claim takes is in [docs/claims.md](../docs/claims.md).
