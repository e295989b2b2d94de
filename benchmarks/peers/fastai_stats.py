"""fastai's ActivationStats: mean, standard deviation and a histogram of what leaves each activation."""

from __future__ import annotations

from fastai.callback.hook import ActivationStats, Hooks

from peers.common import activations


class Fastai:
    """Keeps statistics of activations in memory, at every n-th step."""

    def __init__(self, every):
        self.every = every

    def attach(self, model, folder):
        """Put fastai's hooks on the activations."""
        self.stats, self.steps, self.on, self.kept = ActivationStats(with_hist=True), 0, True, []
        self.hooks = Hooks(activations(model), self._hook, detach=True)

    def _hook(self, module, inputs, output):
        return self.stats.hook(module, inputs, output) if self.on else None

    def step(self, loss):
        """Keep what was found."""
        if self.on:
            self.kept.append([hook.stored for hook in self.hooks])
        self.steps += 1
        self.on = (self.steps + 1) % self.every == 0

    def close(self):
        """Take the hooks off."""
        self.hooks.remove()
