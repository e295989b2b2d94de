"""TensorBoard, by hand: weights, net values and their gradients with ``add_histogram``."""

from __future__ import annotations

from torch.utils.tensorboard import SummaryWriter

from peers.common import Tensors, weights


class TensorBoard:
    """Writes histograms at every n-th step."""

    def __init__(self, every):
        self.every = every

    def attach(self, model, folder):
        """Keep tensors, and open an event file."""
        self.model, self.tensors, self.steps = model, Tensors(model), 0
        self.writer = SummaryWriter(str(folder))

    def step(self, loss):
        """Write what was kept."""
        self.steps += 1
        if self.tensors.on:
            for name, tensor in {**self.tensors.kept, **weights(self.model)}.items():
                self.writer.add_histogram(name, tensor, self.steps)
            self.writer.add_scalar("loss", loss.item(), self.steps)
        self.tensors.kept.clear()
        self.tensors.on = (self.steps + 1) % self.every == 0

    def close(self):
        """Close the event file."""
        self.writer.close()
