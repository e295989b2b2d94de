"""Figure 8 of the paper as an experiment, on any data set of images."""

from __future__ import annotations

from collections.abc import Mapping

from dropdiag.experiments.cells import count, number
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.experiment import Description, Experiment
from dropdiag.experiments.images.network import (
    BASE,
    BATCH_NORM,
    BATCH_NORM_GAAF,
    CONDITIONS,
    WITH_GAAF,
    layers,
    widths,
)
from dropdiag.experiments.images.sections import sections
from dropdiag.experiments.images.settings import MOMENTUM, WARM_UP, ImageSettings
from dropdiag.experiments.images.train import prepare, train
from dropdiag.experiments.paper import IMAGE_ACCURACY
from dropdiag.store.reader import Runs


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
        layers=lambda _settings: layers(),
        sections=sections(dataset),
        describe=describe,
        fixed={"dataset": dataset},
    )


def describe(settings: ImageSettings, data: Images, runs: Runs) -> Description:
    """Say what was trained, and how."""
    reproduced = "Figure 8, reproduced" if settings.dataset in IMAGE_ACCURACY else "the networks of Figure 8"
    return Description(
        title=f"Batch norm and GAAF on {data.dataset.title}: {reproduced}",
        training=f"{count(settings.epochs, 'epoch')} of {_optimizer(settings)}",
        layers="the hidden layers, from the first convolution to the hidden layer before the output",
        network=_network(settings, data),
        inferred=(
            "The summary of the paper does not state its networks, nor the optimiser, the learning rate, the batch "
            "size, the augmentation and when training stopped: this network and these settings are common ones for "
            "such images. Agreement in direction is to be expected sooner than agreement in size."
        ),
        paired=(
            "Runs of one seed start from the same weights and see the same batches, cropped and mirrored alike, in "
            "every condition."
        ),
        credit=f"{data.dataset.title} is published {data.dataset.publisher}. Read here were {data.checked}.",
        settings=_settings(settings, data, runs),
    )


def _optimizer(settings: ImageSettings) -> str:
    names = {"sgd": f"SGD with momentum {MOMENTUM:g}", "adam": "AdamW"}
    return f"{names[settings.optimizer]} at learning rate {number(settings.learning_rate, 'g')}"


def _network(settings: ImageSettings, data: Images) -> str:
    *channels, hidden = widths(settings.width)
    return (
        f"Like VGG, with six convolutions of 3 x 3 ({', '.join(map(str, channels))} channels), max pooling after "
        f"every second one, a hidden layer of {hidden} nodes and {data.dataset.classes} outputs; no dropout; weights "
        f"normal with variance 2/fan_in (1/fan_in at the output), zero biases."
    )


def _settings(settings: ImageSettings, data: Images, runs: Runs) -> Mapping[str, str]:
    _, height, width = data.dataset.shape
    mirrored = "and mirrored or not" if data.dataset.flip else "and not mirrored, since a mirrored digit is none"
    steps = settings.steps(len(data.train_labels))
    devices = sorted({str(run.meta["config"]["device"]) for run in runs.runs})
    return {
        "Widths": f"{settings.width:g} times those of the full network",
        "Optimiser": f"{_optimizer(settings)}, weight decay {settings.weight_decay:g}; the learning rate rises over "
        f"the first {WARM_UP:.0%} of the steps and falls to 0 as half a cosine",
        "Clipping": f"gradients of all weights together to norm {settings.clip:g}; without it GAAF, which doubles "
        "the gradient in every layer, can diverge",
        "Augmentation": f"images padded with 4 black pixels, cropped at random to {height} x {width}, {mirrored}",
        "Inputs": "each channel centred and scaled to unit variance over the training images",
        "Batch size": f"{settings.batch_size}; what does not fill an epoch's last batch is left out of it",
        "Epochs": f"{settings.epochs}, a fixed number ({count(steps, 'step')}); no stopping rule",
        "Precision": "bfloat16 under autocast" if settings.amp else "float32",
        "Trained on": ", ".join(devices),
        "Recorded": f"gradient flow at every step, weights every {count(settings.every, 'step')}; net values and "
        f"node correlation on the test set every {count(settings.record_epochs, 'epoch')} and after the last one",
    }
