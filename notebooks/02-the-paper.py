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
# # The paper's figures, and a verdict on each claim
#
# Hahn and Choi, *Gradient Acceleration in Activation Functions* ([arXiv:1806.09783](https://arxiv.org/abs/1806.09783)),
# say that dropout does not keep nodes from being alike, that it makes about five times more gradient flow, and that it
# drives net values into the saturation area of the activation function; GAAF is their activation function that is to do
# the same without any randomness. These are their Figures 1 to 7, in their order, each with the verdict on its claim.
#
# **This is a small version**, of half a minute: half as many nodes in each layer, 2,000 digits, eight epochs, three
# seeds. `dropdiag reproduce` trains the whole one, and [docs/reproduction.md](../docs/reproduction.md) has what came
# out. Where the two differ, believe that one: several of these effects grow, or turn round, with the length of
# training.

# %%
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.mnist.network import build

data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images[:2000], data.test_images[:1000]))
y, y_test = data.train_labels[:2000], data.test_labels[:1000]
folder = Path(tempfile.mkdtemp())
build("Dropout", seed=0, widths=(784, 256, 128, 128, 10))

# %% [markdown]
# Initial weights are the same in the three conditions of a seed, and so is the order of the batches: it comes from a
# generator of its own, since dropout draws random numbers too. At the end `rec.net_variance` passes held-out digits
# through the network under 32 masks. A network without dropout is asked what masks of rate 0.5 *would* do to it.


# %%
def train(condition, seed, epochs=8):
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    model = build(condition, seed, rate=0.5, widths=(784, 256, 128, 128, 10))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    config = {"condition": condition, "seed": seed}
    with dd.Recorder(model, folder / f"{condition}-s{seed}", every=50, config=config) as rec:
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
        rec.net_variance(x_test[:128], masks=32, p=None if condition == "Dropout" else 0.5)


conditions = ["No dropout", "Dropout", "GAAF"]
for seed in range(3):
    for condition in conditions:
        train(condition, seed)

runs = dd.load({condition: f"{folder}/{condition}-s*" for condition in conditions})
layers = {f"layer{i}.activation": f"layer {i}" for i in (1, 2, 3)}  # which, and what to call them
weights = {f"layer{i}.linear": f"layer {i}" for i in (1, 2, 3)}

# %% [markdown]
# All verdicts below are of one family: at most one time in twenty is any of them wrong by chance, however many there
# are. That is what makes three seeds so few. `claims.only("a")` shows one claim as it stands in that family. A hollow
# dot is a *provisional* verdict: three pairs cannot reach 0.05 by relabelling seeds, so it rests on Student's t.

# %%
claims = dd.compare(runs).claims()
print(claims.headline)

# %% [markdown]
# ## Figure 1: weights
#
# *Claim (a): with dropout the layers' weights look Gaussian, and alike.* The initial weights are uniform: where
# training has hardly touched a layer, its plateau is what is left of that.

# %%
dd.plots.weights(runs, layers=weights)

# %%
claims.only("a")

# %% [markdown]
# The parts may point different ways, which one glance at the curves does not show: a layer can come closer to a normal
# and less like the next one.
#
# ## Figure 2: node correlation
#
# *Claim (b): dropout does not lower the correlation between nodes; its distribution is wider.* Measured without masks:
# a mask of rate 0.5 halves $r$ by itself, and says nothing about what the nodes have learned.

# %%
dd.plots.correlation(runs, layers=layers)

# %%
claims.only("b")

# %% [markdown]
# That nodes vary alike is one meaning of *co-adaptation*, and not the only one: [04-why](04-why.ipynb) has the others.
#
# ## Figure 3: gradient flow
#
# *Claim (c): about five times more gradient flows.* The published factor stands beside the measured one and has no part
# in the verdict, which asks for more alone.

# %%
dd.plots.gradient_flow(runs, layers=layers)

# %%
claims.only("c")

# %% [markdown]
# The factor is a mean over *this* training. Without dropout the gradient falls as the data are learned; so the longer
# one looks, the larger the factor. It is no constant of dropout, and comparing it with the paper's takes the same
# length of training.
#
# ## Figure 4: the net variance
#
# The paper's mechanism: under masks a net value $z$ scatters. A node in the saturation area is taken out of it by some
# masks, and gets gradient then. The first panel has that variance, with a cross where the closed form $\frac{p}{1-p}
# \sum w^2 x^2$ says it should be for the masks right before a layer. Then, for each layer: in grey the saturated means,
# in colour where masks take these same nodes; and the share of masks that take a node out, by how far in it lies.

# %%
dd.plots.net_variance(runs, layers=layers)

# %% [markdown]
# No dropout and GAAF have no masks in training: theirs are put behind the activations for this measurement. Masks of
# lower layers change the inputs of higher ones as well, which is why the measured variance may exceed the closed form
# there.
#
# Is that where the extra gradient comes from? Claim (i) asks how much of it the slope $\varphi'$ makes:

# %%
claims.only("i")

# %% [markdown]
# ## Figure 5: net values and saturation
#
# *Claim (d): dropout drives net values into the saturation area, more so in higher layers.*

# %%
dd.plots.saturation(runs, layers=layers)

# %%
claims.only("d")

# %% [markdown]
# Look at the sizes as well as at the verdict: where hardly anything is saturated at all, as early in training, a
# difference can be beyond doubt and of no consequence.
#
# ## Figure 6: GAAF
#
# A saw-tooth $g$ with slope 1 and next to no height, times a shape $s$: the value of the activation function stays, its
# derivative becomes $\varphi' + s$. So there is gradient where $s$ is, for every node and without chance.

# %%
dd.plots.gaaf()

# %% [markdown]
# *Claim (e): what it does to gradient flow and saturation resembles what dropout does.* It is tested as an equivalence:
# within a factor of 1.5, and within 0.1 of the saturation share, in every layer.

# %%
claims.only("e")

# %% [markdown]
# ## Figure 7: accuracy and epochs
#
# *Claim (f): GAAF needs fewer epochs than dropout, and both are more accurate than the plain network.*

# %%
dd.plots.learning(runs)

# %%
claims.only("f")

# %% [markdown]
# Curves that still rise at the last epoch have no best epoch yet; and the best of eight evaluations on the data that
# are then reported on is too good. For an answer: more seeds, train until nothing improves, and choose on validation
# data ([05-which-rate](05-which-rate.ipynb)).
