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
# # GAAF: gradient without chance
#
# Dropout's masks take saturated nodes to where there is gradient, now and then. A *gradient acceleration in activation
# function* (GAAF, Hahn and Choi, [arXiv:1806.09783](https://arxiv.org/abs/1806.09783)) gives them gradient at every
# step, and leaves the value of the activation function as it was. Here: what it is, how it gets into a model that you
# have, what it does in training, and how its shape is fitted to a dropout rate. It takes about half a minute on one
# core.
#
# $$\varphi_{new}(z) = \varphi(z) + g(z)\,s(z), \qquad g(z) = \frac{zK - \lfloor zK \rfloor - 0.5}{K}$$
#
# $g$ is a saw-tooth, at most $1/(2K)$ high and with slope 1, so that the derivative becomes $\varphi'(z) + s(z)$: the
# shape $s$ says where gradient is added.

# %%
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

dd.plots.gaaf()

# %% [markdown]
# ## Value and derivative
#
# `dd.GAAF` is an `nn.Module`. Far out, where the slope of tanh is next to nothing, it has a derivative; the values
# differ by at most 5e-5.


# %%
def slope(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


z = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
accelerated = dd.GAAF("tanh")
pd.DataFrame(
    {
        "z": z,
        "difference in value": (accelerated(z) - torch.tanh(z)).detach(),
        "slope of tanh": slope(torch.tanh, z),
        "slope of GAAF": slope(accelerated, z),
    }
).round(6)

# %% [markdown]
# ## In a model that you have
#
# `dd.gaaf.replace` exchanges the activation functions of a built model, modules as well as called functions, and gives
# back what undoes it. The weights are the same before and after; so is the `state_dict`.


# %%
def network():
    hidden = [nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(128, 10))


model = network()
replaced = dd.gaaf.replace(model)
print(model)
replaced.restore()
print(model[1])

# %% [markdown]
# ## What it does in training
#
# A larger derivative is also a larger *step*. Whoever compares GAAF with the plain network at the same learning rate
# cannot tell the two apart; so there is a third condition here, the plain network at three times the learning rate.

# %%
data = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (data.train_images[:2000], data.test_images[:1000]))
y, y_test = data.train_labels[:2000], data.test_labels[:1000]
folder = Path(tempfile.mkdtemp())


def train(condition, seed, lr, *, gaaf=False, epochs=8):
    torch.manual_seed(seed)
    model = network()
    if gaaf:
        dd.gaaf.replace(model)
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    with dd.Recorder(model, folder / f"{condition}-s{seed}", every=20, config={"seed": seed, "lr": lr}) as rec:
        for _ in range(epochs):
            for batch in torch.randperm(len(x))[:1984].view(-1, 64):
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
    train("Plain", seed, 0.1)
    train("GAAF", seed, 0.1, gaaf=True)
    train("Plain, larger steps", seed, 0.3)

runs = dd.load({name: f"{folder}/{name}-s*" for name in ("Plain", "GAAF", "Plain, larger steps")})
layers = {"1": "layer 1", "3": "layer 2"}
dd.plots.learning(runs)

# %%
dd.plots.gradient_flow(runs, layers=layers, baseline="Plain")

# %%
dd.plots.saturation(runs, layers=layers)

# %% [markdown]
# The saturation area is that of the base function, tanh, in all conditions: that is where GAAF's own derivative was
# made to differ.
#
# In numbers, over seeds, beside the plain network. An effect on the gradient flow is a log ratio, the others are
# differences:

# %%
table = dd.compare(runs, baseline="Plain").table
shown = table["measure"].isin(["gradient_flow", "saturation_share", "best:accuracy"])
table.loc[shown, ["condition", "measure", "layer", "effect", "low", "high", "n", "p_attainable"]].round(3)

# %% [markdown]
# What to conclude: an interval that holds 0 leaves it open, and with three pairs of seeds no p can be below 0.25, so
# that even the others rest on the assumption of normal scatter. If GAAF and larger steps do the same here, then this
# training is no evidence for GAAF. It takes more seeds, and the best learning rate *of each*:
# [05-which-rate](05-which-rate.ipynb) shows how to sweep one.
#
# ## A shape for a dropout rate
#
# How much gradient would dropout of rate $p$ give to saturated nodes? That depends on the net variance, and so on layer
# and weights. `dd.gaaf.fit` measures it under masks, and gives each GAAF the height and width that add as much, as far
# out:

# %%
torch.manual_seed(0)
model = network()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(6):
    for batch in torch.randperm(len(x))[:1984].view(-1, 64):
        opt.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        opt.step()

dd.gaaf.replace(model)
fits = {rate: dd.gaaf.fit(model, x[:256], p=rate, apply=False).table for rate in (0.1, 0.3, 0.5)}
fitted = pd.concat(fits, names=["rate"]).reset_index(level="rate")
fitted[["rate", "layer", "height", "width", "net_variance", "saturated", "dropout_gain", "gaaf_gain"]].round(4)

# %% [markdown]
# A higher rate has more net variance, and so more to imitate. *dropout_gain* is what masks add to the mean derivative
# of saturated net values, *gaaf_gain* what the fitted shape does. The first layer has height 0: no mask is drawn before
# it, so that dropout makes no gradient there that GAAF could imitate; the paper's fixed shape does not know of that.
#
# How it misleads: the fit is for these weights, and they change; `dropdiag reproduce` fits anew before every epoch. And
# it is about $\varphi'$ alone: most of dropout's extra gradient may come from elsewhere ([04-why](04-why.ipynb)), and
# that is not in the fit.
#
# Shapes, other activation functions, surrogate derivatives, low precision: [docs/gaaf.md](../docs/gaaf.md).
