"""The MNIST analysis of the paper, its Figures 1 to 7, as an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dropdiag.experiments.cells import count, number
from dropdiag.experiments.data.datasets import MNIST as DATASET
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.experiment import Description, Experiment, Layers
from dropdiag.experiments.mnist.network import CONDITIONS, DROPOUT, FITTED, GAAF_CONDITION, NO_DROPOUT, PORT
from dropdiag.experiments.mnist.sections import SECTIONS
from dropdiag.experiments.mnist.train import MnistSettings, prepare, train
from dropdiag.store.reader import Runs


def layers(settings: MnistSettings) -> Layers:
    """Return the hidden layers of the network."""
    numbers = range(1, len(settings.widths) - 1)
    return Layers(
        weights={f"layer{i}.linear": f"Layer {i}" for i in numbers},
        activations={f"layer{i}.activation": f"Layer {i}" for i in numbers},
    )


def describe(settings: MnistSettings, data: Images, _runs: Runs) -> Description:
    """Say what was trained, and how."""
    at_most = "at most " if settings.patience else ""
    widths = "-".join(map(str, settings.widths))
    return Description(
        title="What dropout and GAAF do inside a network: the MNIST analysis, reproduced",
        training=f"{at_most}{count(settings.epochs, 'epoch')} of {_optimizer(settings)}",
        layers="layers 1,\N{NO-BREAK SPACE}2,\N{NO-BREAK SPACE}3",
        network=f"{widths}, {settings.activation}, Glorot-uniform weights, zero biases.",
        inferred=(
            "The summary of the paper does not state it, nor the optimiser, the learning rate, the batch size, the "
            "dropout rate and the stopping rule: this network is inferred from the plateaus of the paper's Figure 1, "
            "the other settings are common ones. Agreement in direction is to be expected sooner than agreement in "
            "size."
        ),
        paired="Runs of one seed start from the same weights and see the same batches in every condition.",
        credit=(
            f"{data.dataset.title} is {data.dataset.publisher}, under the Creative Commons Attribution-ShareAlike 3.0 "
            "licence (CC BY-SA 3.0). Inputs are grey values scaled to [0, 1]."
        ),
        settings=_settings(settings, widths),
    )


def _settings(settings: MnistSettings, widths: str) -> Mapping[str, str]:
    return {
        "Network": widths,
        "Optimiser": _optimizer(settings),
        "Batch size": f"{settings.batch_size}; what does not fill an epoch's last batch is left out of it",
        "Epochs": f"at most {settings.epochs}" if settings.patience else str(settings.epochs),
        "Early stopping": _early_stopping(settings),
        "Dropout rate": f"{settings.rate:g} (in “Dropout”; what “GAAF fitted” is fitted to)",
        "Recorded": f"gradient flow at every step, weights every {count(settings.every, 'step')}, "
        "net values and node correlation on the test set after every epoch",
    }


def _early_stopping(settings: MnistSettings) -> str:
    if settings.patience is None:
        return "none"
    return (
        f"when the accuracy on {settings.validation:,} images held out of training has not risen for "
        f"{count(settings.patience, 'epoch')}; figures and tables are of the networks as they were then"
    )


def _optimizer(settings: MnistSettings) -> str:
    names = {"adam": "Adam", "sgd": "SGD"}
    return f"{names[settings.optimizer]} at learning rate {number(settings.learning_rate, 'g')}"


MNIST: Final = Experiment(
    name=DATASET.key,
    conditions={
        NO_DROPOUT: "the activation function alone",
        DROPOUT: "dropout on the node values of every hidden layer",
        GAAF_CONDITION: "GAAF over it, no dropout",
        FITTED: "GAAF over it, height and width of its shape fitted to the dropout rate before every epoch; no dropout",
        PORT: "GAAF over ReLU with the shape of the public Keras port, sigmoid(x + 4); no dropout",
    },
    default_conditions=CONDITIONS,
    seeds=5,
    settings=MnistSettings,
    prepare=prepare,
    train=train,
    layers=layers,
    sections=SECTIONS,
    describe=describe,
    fixed={"device": "cpu"},
)
