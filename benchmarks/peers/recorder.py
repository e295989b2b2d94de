"""dropdiag's Recorder."""

from __future__ import annotations

import dropdiag as dd


class Dropdiag:
    """Records with a preset."""

    def __init__(self, probes, every):
        self.settings = {"probes": probes, "every": every}

    def attach(self, model, folder):
        """Open a run."""
        self.recorder = dd.Recorder(model, folder, **self.settings)

    def step(self, loss):
        """Record the step."""
        self.recorder.step(loss=loss)

    def close(self):
        """Close the run."""
        self.recorder.close()
