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
# # Which dropout rate, if any?
#
# One function that trains one network, three rates, the same seeds for each: `dd.sweep` trains them all, `dd.advise`
# says which rates cannot be told from the best, and new seeds say whether that held. Here: a network on 300 digits,
# little enough to be learned by heart. It takes about half a minute on one core.

# %% [markdown]
# ## Data: three parts
#
# A rate is chosen on validation data and reported on test data, which have chosen nothing. The digits come with
# dropdiag.

# %%
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd
from dropdiag.analysis.learning import best_per_run
from dropdiag.analysis.seeds import t_interval
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
# It trains one network by `config`, which holds the rate and the seed, and records it into `path`. The loader has a
# generator of its own: dropout draws random numbers too, and would otherwise change the order of the batches from rate
# to rate.


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
quiet = Console(quiet=True)  # leave it out, and you see how far it is
sweep = dd.sweep(train, rates, seeds=5, out=folder / "sweep", engine="here", console=quiet)
sweep.table[["condition", "seeds", *(f"{name} accuracy" for name in splits)]]

# %% [markdown]
# Are the runs of one seed really pairs: did they begin with the same weights, and see the same batches? That is looked
# at, and what is to be said of it stands in the remarks:

# %%
sweep.remarks

# %% [markdown]
# ## The response to the dose
#
# Each quantity of each layer against the rate. Pale lines join the runs of a seed; marks are means over seeds; line and
# band are the mean of the seeds' own straight lines, with its interval. A straight line is a summary and no law: what
# rises and falls again has a slope near 0. Of held-out scores, the rates that cannot be told from the best are ringed,
# and they are chosen on validation data.

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
# The best of several rates has been lucky, too. Seeds that chose nothing say what it is worth: here how far the other
# rates are from it on the test data, seed by seed.

# %%
fresh = dd.sweep(train, rates, seeds=range(100, 105), out=folder / "fresh", engine="here", console=quiet)
final = best_per_run(fresh.runs(), "accuracy", phase="test").pivot(index="seed", columns="condition", values="final")
better = -final.drop(columns=advice.rates.best).sub(final[advice.rates.best], axis=0)
print(f"{advice.rates.best} is better by")
better.apply(t_interval, result_type="expand").set_axis(["mean", "low", "high"])

# %% [markdown]
# Intervals are 95 % ones of Student's t, each by itself: with several of them, one may miss by chance more often than
# one time in twenty. An interval that holds 0 leaves it open; it does not say that the rates are equally good.
#
# ## What to conclude
#
# For *this* network on *these* 300 digits, and no others: with more data dropout has less to do, and a larger network
# bears a higher rate. Sweep again when either changes. [docs/cases](../docs/cases/README.md) has two whole cases, a CNN
# and a transformer, with their advice and how it fared; [docs/advice.md](../docs/advice.md) has the rules and how often
# they are wrong, [docs/sweep.md](../docs/sweep.md) sites, schedules and other engines.
