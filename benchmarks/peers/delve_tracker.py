"""Delve: spectral saturation (another thing than the saturation area) of each layer."""

from __future__ import annotations

import contextlib
import io

from delve import SaturationTracker


class Delve:
    """Tracks layers; computes at every n-th step."""

    def __init__(self, every):
        self.every = every

    def attach(self, model, folder):
        """Put Delve's hooks on the layers."""
        folder.mkdir(parents=True, exist_ok=True)
        self.steps = 0
        with contextlib.redirect_stdout(io.StringIO()):
            settings = {"save_to": "csv", "device": "cpu", "log_interval": self.every, "stats": ["lsat"]}
            self.tracker = SaturationTracker(str(folder / "delve"), modules=model, **settings)

    def step(self, loss):
        """Compute what was tracked."""
        self.steps += 1
        if self.steps % self.every == 0:
            self.tracker.add_saturations()

    def close(self):
        """Close the tracker."""
        self.tracker.close()
