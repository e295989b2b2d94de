"""Figure 8 of the paper as an experiment, on any data set of images."""

from __future__ import annotations

from dropdiag.experiments.experiment import Experiment
from dropdiag.experiments.images.network import (
    BASE,
    BATCH_NORM,
    BATCH_NORM_GAAF,
    CONDITIONS,
    WITH_GAAF,
    layers,
)
from dropdiag.experiments.images.sections import sections
from dropdiag.experiments.images.settings import ImageSettings
from dropdiag.experiments.images.train import prepare, train


def figure8(dataset: str) -> Experiment[ImageSettings]:
    """Return the experiment on the data set of this key."""
    return Experiment(
        name=dataset,
        conditions={
            BASE: "ReLU",
            BATCH_NORM: "ReLU, batch norm between the weights and the activation function of every hidden layer",
            WITH_GAAF: "GAAF over ReLU",
            BATCH_NORM_GAAF: "GAAF over ReLU, batch norm as above",
        },
        default_conditions=CONDITIONS,
        seeds=3,
        settings=ImageSettings,
        prepare=prepare,
        train=train,
        layers=lambda _settings: layers(),  # the factor of the widths changes no layer's name
        sections=sections(dataset),
        words="images.j2",
        fixed={"dataset": dataset},
    )
