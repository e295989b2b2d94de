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
# # dropdiag in ten minutes
#
# What does dropout do inside a network? Do nodes become less alike, does more gradient flow, are activation functions
# driven into saturation? A `Recorder` measures it in the training loop you already have, and the rest of dropdiag reads
# what it recorded: here a small network on a sample of MNIST, trained with and without dropout, from the loop to a
# report. You need to know PyTorch and nothing else; it takes about half a minute on one core.

# %% [markdown]
# ## Data, and a network
#
# 10,000 training and 2,000 test digits come with dropdiag. Nothing about the network is made for dropdiag: it is a
# plain `nn.Module` that calls `torch.tanh` and uses one dropout twice.

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images, data.test_images))
y, y_test = data.train_labels, data.test_labels
folder = Path(tempfile.mkdtemp())  # where the runs go; take a folder of yours to keep them
print(data.describe())


# %%
class Network(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(784, 256), nn.Linear(256, 128), nn.Linear(128, 10)
        self.drop = nn.Dropout(rate)

    def forward(self, images):
        first = self.drop(torch.tanh(self.fc1(images)))
        second = self.drop(torch.tanh(self.fc2(first)))
        return self.out(second)


# %% [markdown]
# ## The loop, with three lines more
#
# - `with dd.Recorder(model, path, ...)` watches the model for as long as the block lasts. `config` is kept with the
#   run; its keys `condition` and `seed` say later which runs belong together.
# - `rec.step(...)` says that one training step is over: after `backward()`, and before the next `zero_grad()`.
# - `with rec.evaluation()` marks held-out data. The model must be in evaluation mode there, as it should be anyway.
#
# `every=20` takes histograms at every 20th step; gradient flow is taken at each. Losses, weights and random numbers are
# bit for bit those of the same loop without the Recorder.


# %%
def train(condition, rate, seed, epochs=3):
    torch.manual_seed(seed)
    model = Network(rate)
    opt = torch.optim.Adam(model.parameters())
    config = {"condition": condition, "seed": seed}
    with dd.Recorder(model, folder / f"{condition}-s{seed}", every=20, config=config) as rec:
        for _ in range(epochs):
            for batch in torch.randperm(len(x))[:9984].view(-1, 128):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                opt.zero_grad()
                loss.backward()
                opt.step()
                rec.step(loss=loss)
            model.eval()
            with rec.evaluation(), torch.no_grad():
                accuracy = (model(x_test).argmax(1) == y_test).float().mean()
                rec.log(accuracy=accuracy)
            model.train()
    print(f"{condition}, seed {seed}: accuracy {accuracy:.4f}")
    return rec


for seed in range(3):
    train("No dropout", 0.0, seed)
    last = train("Dropout", 0.5, seed)

# %% [markdown]
# Two conditions, the same three seeds in each. A single pair of runs would not do: two trainings of *one* network
# differ as well, and only several seeds show by how much. The seed is the unit of all that follows; a million weights
# are not.
#
# What was seen of the model, and what not? The coverage of a run is where to look first, with any new model:

# %%
last.coverage()

# %% [markdown]
# A called function has the name of the layer before it: `fc1:tanh` is the tanh behind `fc1`. *fired* is how often a
# place was recorded, *skipped* why it was not; [03-your-network](03-your-network.ipynb) explains the rest.
#
# ## Read the runs
#
# A run is a folder of Parquet files. `dd.load` opens one, several, or a dict of conditions; all it gives are pandas
# frames and histograms, and nothing of it needs torch.

# %%
runs = dd.load({name: f"{folder}/{name}-s*" for name in ("No dropout", "Dropout")})
runs

# %%
runs.scalars.query("quantity == 'net_grad_abs_mean'").tail(3)

# %% [markdown]
# ## Look at them
#
# **Did they learn?** First of all: a network that has not learned has nothing to show. Lines are means over seeds,
# bands one standard deviation.

# %%
dd.plots.learning(runs)

# %% [markdown]
# The training loss with dropout is taken under masks, so it is that of a thinned network and higher for that reason
# alone. The accuracy on held-out data is without masks.
#
# **Gradient flow**: the mean of $|\partial L/\partial z|$, over the samples and nodes of a layer. $z$ is the *net
# value*, what goes into the activation function. Above: over training; below: the mean over all steps, and its ratio to
# the baseline.

# %%
dd.plots.gradient_flow(runs)

# %% [markdown]
# How it misleads: a network that fits its data less well has larger errors, and so more gradient everywhere. More
# gradient flow is not by itself faster learning; [04-why](04-why.ipynb) takes the ratio apart. It also falls with the
# batch size, since the loss is a mean: compare at the same batch size.
#
# **Saturation**: where are the net values of held-out digits? Shaded is the area in which the slope of tanh is a tenth
# of its greatest or less; the numbers are the shares of net values to its left and right.

# %%
dd.plots.saturation(runs)

# %% [markdown]
# **Node correlation**: Pearson's $r$ of every pair of nodes in a layer, on held-out data. The grey band is what nodes
# that have nothing to do with each other would show with so few samples.

# %%
dd.plots.correlation(runs)

# %% [markdown]
# **Weights**, at the end of training:

# %%
dd.plots.weights(runs)

# %% [markdown]
# ## Compare, with a verdict
#
# Pictures convince too easily. `dd.compare` sets the conditions side by side over seeds: an effect, its 95 % interval,
# a p. Runs of the same seed are a pair. Here are the gradient flow (its effect is a *log ratio*: 0 is no change, 0.69
# twice as much) and the saturation share (a difference):

# %%
comparison = dd.compare(runs)
shown = ["measure", "layer", "effect", "low", "high", "n", "p", "p_attainable"]
comparison.table.query("measure in ['gradient_flow', 'saturation_share']")[shown].round(3)

# %% [markdown]
# `p_attainable` is the least p that so many pairs can give at all: with three pairs it is 0.25, whatever comes out. All
# that is left is to assume that effects scatter normally over seeds, and a verdict that rests on that is called
# *provisional*.
#
# The claims of the paper that dropdiag was made for are put to your runs as tests that can fail, all of one call as one
# family, so that asking more questions does not make it easier to get a yes:

# %%
comparison

# %% [markdown]
# *Undecided* is no evidence for the contrary: so few seeds, or what was recorded, cannot tell. And a verdict is about
# what was trained here, three epochs of a small network: it says how to look, not what dropout does to yours. Claims
# that speak of GAAF wait for a condition with it ([06-gaaf](06-gaaf.ipynb)), those that take passes of their own for a
# measurement ([04-why](04-why.ipynb)).
#
# ## One page for others
#
# Verdicts, effects, interactive figures and tables in one HTML file that opens in any browser:

# %%
page = dd.report(runs, folder / "report.html")
print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# In a terminal: `dropdiag show RUN`, `dropdiag compare "No dropout=runs/No*" "Dropout=runs/Drop*" --out report.html`.
#
# ## Where next
#
# | you want | notebook |
# |---|---|
# | the paper's figures, and what each claims | [02-the-paper](02-the-paper.ipynb) |
# | your CNN or transformer | [03-your-network](03-your-network.ipynb) |
# | why there is more gradient, and what else dropout does | [04-why](04-why.ipynb) |
# | whether to use dropout, and at which rate | [05-which-rate](05-which-rate.ipynb) |
# | GAAF, the paper's activation function | [06-gaaf](06-gaaf.ipynb) |
# | several processes or GPUs | [07-many-ranks](07-many-ranks.ipynb) |
# | a quantity of your own | [08-add-a-probe](08-add-a-probe.ipynb) |
