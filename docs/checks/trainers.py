"""What the examples of trainers and sinks may speak of too: the model and the batches, as each trainer takes them."""

from __future__ import annotations

import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn import functional as F

from docs._ext.public_names import OF_TRAINERS
from dropdiag.errors import DropdiagWarning
from tests.zoo import importable_torchvision  # noqa: F401 - before trainers, which import it where it is there

with warnings.catch_warnings():  # of what they import themselves
    warnings.simplefilter("ignore")
    for _module in sorted(OF_TRAINERS):
        import_module(_module)


def of_lightning(model: nn.Module, loader: list[Any]) -> dict[str, Any]:
    """Return a `lightning_module` that trains the model, a `data_loader`, and what keeps a Trainer `quiet`."""
    import lightning as L
    import torch

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def training_step(self, batch: Any, number: int) -> Any:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    # a list would be several loaders to Lightning
    return {
        "lightning_module": Module(),
        "quiet": quiet,
        "data_loader": torch.utils.data.DataLoader(loader, batch_size=None),
    }


def of_transformers(model: nn.Module, loader: list[Any]) -> dict[str, Any]:
    """Return a `classifier`, `samples` and quiet `arguments`."""
    from transformers import TrainingArguments

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
            logits = self.net(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    samples = [{"x": x, "labels": y} for xs, ys in loader for x, y in zip(xs, ys, strict=True)]
    arguments = TrainingArguments(
        "out", num_train_epochs=2, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        logging_strategy="no", per_device_train_batch_size=20,
    )  # fmt: skip
    return {"classifier": Classifier(), "samples": samples, "arguments": arguments}


def of_fastai(model: nn.Module, loader: list[Any]) -> dict[str, Any]:
    """Return `dls`."""
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader

    samples = [pair for xs, ys in loader for pair in zip(xs, ys, strict=True)]
    return {"dls": DataLoaders(*(DataLoader(samples, bs=20, num_workers=0) for _ in range(2)))}


OF = {"lightning": of_lightning, "transformers": of_transformers, "fastai": of_fastai}


def their_warnings(code: str) -> None:
    """Leave the warnings of other libraries to them, until a test ends that runs code of theirs."""
    if re.search(r"\bintegrations\b", code):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", DropdiagWarning)


def fresh(code: str, model: nn.Module, loader: list[Any]) -> dict[str, Any]:
    """Return the names of the trainers that an example attaches to."""
    return {
        name: thing
        for trainer, made in OF.items()
        if f"integrations.{trainer}.Recorder(" in code
        for name, thing in made(model, loader).items()
    }


def here_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have trackers keep what they are sent in a folder, and say nothing; no network is asked."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # all that mlflow-skinny has without a server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (folder / "mlflow").as_uri())
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    if "accelerate" in sys.modules:  # no Accelerator of another example counts
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
