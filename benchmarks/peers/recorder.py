"""dropdiag's Recorder."""

from __future__ import annotations

import dropdiag as dd
from dropdiag.probes import PRESETS


class Dropdiag:
    """Records with a preset, or with what is left of it without one of its probes."""

    def __init__(self, probes, every, without=None):
        chosen = probes if without is None else [name for name in PRESETS[probes] if name != without]
        self.settings = {"probes": chosen, "every": every}

    def attach(self, model, folder):
        """Open a run."""
        self.recorder = dd.Recorder(model, folder, **self.settings)

    def step(self, loss):
        """Record the step."""
        self.recorder.step(loss=loss)

    def close(self):
        """Close the run."""
        self.recorder.close()
