"""The MNIST analysis of the paper, its Figures 1 to 7, as an experiment."""

from __future__ import annotations

from typing import Final

from dropdiag.experiments.data.datasets import MNIST as DATASET
from dropdiag.experiments.experiment import Experiment, Layers
from dropdiag.experiments.mnist.network import CONDITIONS, DROPOUT, FITTED, GAAF_CONDITION, NO_DROPOUT, PORT
from dropdiag.experiments.mnist.sections import SECTIONS
from dropdiag.experiments.mnist.train import MnistSettings, prepare, train


def layers(settings: MnistSettings) -> Layers:
    """Return the hidden layers of the network."""
    numbers = range(1, len(settings.widths) - 1)
    return Layers(
        weights={f"layer{i}.linear": f"Layer {i}" for i in numbers},
        activations={f"layer{i}.activation": f"Layer {i}" for i in numbers},
    )


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
    words="mnist.j2",
    fixed={"device": "cpu"},  # `MnistTraining` moves nothing to another device
)
