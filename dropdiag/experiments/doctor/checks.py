"""The self-test: what the Recorder says of ten steps is what numpy says, and the training is what it is without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from dropdiag.experiments.doctor.training import STEPS, Numbers, Trained, bare, recorded
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.run import Run

CLOSE: Final = 1e-5
"""Relative error of a mean over float32 values that were summed in another order."""


class Check(NamedTuple):
    """One thing that was tried: whether it is as it should be, and how it is."""

    name: str
    ok: bool
    detail: str


def devices() -> dict[str, str]:
    """Return what networks can be trained on here: torch's name of it -> what it is."""
    found = {"cpu": f"{torch.get_num_threads()} threads of torch"}
    if torch.cuda.is_available():
        found |= {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def tested(device: str) -> list[Check]:
    """Run the self-test on a device; what it raises is a check that failed."""
    checks: list[Check] = []
    try:
        with tempfile.TemporaryDirectory(prefix="dropdiag-doctor-") as folder:
            path = Path(folder) / "run"
            without, numbers = bare(device)
            with_it = recorded(device, path)
            run = Run(path)
            checks.append(_identical(without, with_it))
            checks.extend(check(run, without, numbers) for check in _OF_NUMBERS)
    except Exception as error:  # noqa: BLE001 - whatever does not work here is what was asked for
        checks.append(Check("the self-test runs to its end", ok=False, detail=f"{type(error).__name__}: {error}"))
    return checks


def _identical(without: Trained, with_it: Trained) -> Check:
    losses = without.losses == with_it.losses
    same = [torch.equal(a, b) for a, b in zip(without.tensors, with_it.tensors, strict=True)]
    ok = losses and all(same)
    told = f"{STEPS} losses, {len(same)} tensors of weights, gradients and random states"
    return Check("training is bit for bit what it is without a Recorder", ok, told if ok else f"differs: {told}")


def _losses(run: Run, without: Trained, _: Numbers) -> Check:
    found = {row["step"]: row["value"] for row in _scalars(run, "loss")}
    ok = found == dict(enumerate(without.losses, 1))
    return Check("losses are recorded", ok, f"{len(found)} of {STEPS}")


def _weights(run: Run, _: Trained, numbers: Numbers) -> Check:
    wanted = {(layer, STEPS): values for layer, values in numbers.weights.items()}
    return _histograms(run, "weight", wanted, "weights are counted as numpy counts them")


def _net_values(run: Run, _: Trained, numbers: Numbers) -> Check:
    return _histograms(run, "net_value", numbers.net_values, "net values are counted as numpy counts them")


def _histograms(run: Run, quantity: str, wanted: dict[tuple[str, int], Any], name: str) -> Check:
    found = {(layer, step): run.histogram(quantity, layer, step=step, phase="train") for layer, step in wanted}
    wrong = [key for key, values in wanted.items() if found[key] != Histogram.from_values(values.ravel())]
    told = f"{len(wanted) - len(wrong)} of {len(wanted)} histograms, every count"
    return Check(name, not wrong, told if not wrong else f"{told}; not {wrong[0][0]!r} at step {wrong[0][1]}")


def _gradients(run: Run, _: Trained, numbers: Numbers) -> Check:
    found = {(row["layer"], row["step"]): row["value"] for row in _scalars(run, "net_grad_abs_mean")}
    wanted = {key: float(np.abs(values.astype(np.float64)).mean()) for key, values in numbers.net_gradients.items()}
    errors = [abs(found[key] / value - 1.0) if found.get(key) is not None else np.inf for key, value in wanted.items()]
    ok = max(errors) <= CLOSE
    return Check(
        "gradient flow is the mean that numpy has", ok, f"{len(wanted)} means, off by {max(errors):.1e} at most"
    )


def _scalars(run: Run, quantity: str) -> list[dict[Any, Any]]:
    return run.select(quantity, phase="train").to_dict("records")


_OF_NUMBERS: Final[tuple[Callable[[Run, Trained, Numbers], Check], ...]] = (_losses, _weights, _net_values, _gradients)
