# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which dropout rate, if any?
#
# One function that trains one network, three rates, the same seeds for each: `dd.sweep` trains them all, `dd.advise` says
# which rates cannot be told from the best, and new seeds say whether that held. Here: a network on 300 digits, little
# enough to be learned by heart. It takes about half a minute on one core.

# %% [markdown]
# ## Data: three parts
#
# A rate is chosen on validation data and reported on test data, which have chosen nothing. The digits come with dropdiag.

# %%
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd
from dropdiag.experiments.data.load import load_images

digits = load_images("mnist")
x, x_test = (images.flatten(1) / 255 for images in (digits.train_images, digits.test_images))
y, y_test = digits.train_labels, digits.test_labels
splits = {
    "train-eval": (x[:300], y[:300]),
    "validation": (x[300:1300], y[300:1300]),
    "test": (x_test, y_test),
}
folder = Path(tempfile.mkdtemp())  # where the runs go


# %% [markdown]
# ## `train(config, path)`
#
# It trains one network by `config`, which holds the rate and the seed, and records it into `path`. The loader has a generator
# of its own: dropout draws random numbers too, and would otherwise change the order of the batches from rate to rate.

# %%
def train(config, path):
    torch.manual_seed(config["seed"])
    drop = nn.Dropout(config["rate"])
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), drop, nn.Linear(128, 10))
    order = torch.Generator().manual_seed(config["seed"])
    loader = DataLoader(TensorDataset(*splits["train-eval"]), batch_size=50, shuffle=True, generator=order)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20)
    with dd.Recorder(model, path, every=20) as rec:
        for epoch in range(1, 21):
            for inputs, targets in loader:
                loss = F.cross_entropy(model(inputs), targets)
                opt.zero_grad()
                loss.backward()
                opt.step()
                rec.step(loss=loss)
            schedule.step()
            if epoch % 2 == 0:
                evaluate(model, rec, "train-eval", "validation")
        evaluate(model, rec, "test")
        if config["rate"]:
            rec.measure("ensemble", x[300:400], y[300:400], masks=16)  # what the masks of each dropout add to the loss


@torch.no_grad()
def evaluate(model, rec, *names):
    model.eval()
    for name in names:
        inputs, targets = splits[name]
        with rec.evaluation(name):
            logits = model(inputs)
            rec.log(accuracy=(logits.argmax(1) == targets).float().mean(), loss=F.cross_entropy(logits, targets))
    model.train()


# %% [markdown]
# ## Sweep
#
# Each value of `over` with each seed. A function in a notebook cannot be imported by another process, so that runs are
# trained here, one after the other (`engine="here"`); in a file of its own, `"train.py:train"`, they are trained on all
# cores. Call it again with more rates or seeds, and only those are trained that are not there yet.

# %%
rates = {"rate": [0, 0.3, 0.8]}
sweep = dd.sweep(train, rates, seeds=5, out=folder / "sweep", engine="here")
sweep.remarks

# %%
dd.plots.dose_response(sweep.runs(), x="rate")

# %% [markdown]
# ## Advise
#
# First the sentence, then what it rests on. A rate is left out where it is worse than the best at a level of 5 %, all
# comparisons together; what was not recorded is said to be missing, with the call that records it.

# %%
advice = dd.advise(sweep, scalar="accuracy")
print(advice.sentence)
advice

# %% [markdown]
# ## Act, and check on new seeds
#
# The best of several rates has been lucky, too. Seeds that chose nothing say what it is worth: here how far the other rates
# are from it on the test data, seed by seed.

# %%
from dropdiag.analysis.learning import best_per_run
from dropdiag.analysis.seeds import t_interval

fresh = dd.sweep(train, rates, seeds=range(100, 105), out=folder / "fresh", engine="here")
final = best_per_run(fresh.runs(), "accuracy", phase="test").pivot(index="seed", columns="condition", values="final")
better = -final.drop(columns=advice.rates.best).sub(final[advice.rates.best], axis=0)
print(f"{advice.rates.best} is better by")
better.apply(t_interval, result_type="expand").set_axis(["mean", "low", "high"])

# %% [markdown]
# Five seeds and 300 digits show the way, not more. [docs/cases](../docs/cases/README.md) has two whole cases, a CNN and a
# transformer, with their advice and how it fared.
