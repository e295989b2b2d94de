"""Weights & Biases, offline: ``watch(log="all")`` gives histograms of parameters and their gradients."""

from __future__ import annotations

import os

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_MODE", "offline")

import wandb


class Wandb:
    """Watches a network; logs every n-th step. All of them share a run: ``watch`` knows only the current one."""

    users = 0

    def __init__(self, every):
        self.every = every

    def attach(self, model, folder):
        """Open an offline run, or take the one that is open, and watch the network."""
        folder.mkdir(parents=True, exist_ok=True)
        self.steps = 0
        if wandb.run is None:
            wandb.init(project="benchmark", dir=str(folder), mode="offline")
        Wandb.users += 1
        wandb.watch(model, log="all", log_freq=self.every, idx=Wandb.users)

    def step(self, loss):
        """Log the loss, and with it what the hooks have found."""
        self.steps += 1
        if self.steps % self.every == 0:
            wandb.run.log({"loss": loss.item()})

    def close(self):
        """Finish the run, if nobody else has it."""
        Wandb.users -= 1
        if Wandb.users == 0:
            wandb.finish()
