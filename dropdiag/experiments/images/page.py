"""The page of Figure 8: figures, tables and settings in one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dropdiag.experiments import paper
from dropdiag.experiments.cells import number
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.images.figures import drawings
from dropdiag.experiments.images.network import LAYERS, widths
from dropdiag.experiments.images.sections import CONDITIONS_IN_WORDS, sections
from dropdiag.experiments.images.settings import MOMENTUM, WARM_UP, Settings
from dropdiag.experiments.page import Part, make_parts, render
from dropdiag.store.reader import Runs

TEMPLATE: Final = "figure8.html.j2"


def parts_of(runs: Runs, dataset: str, out: Path) -> list[Part]:
    """Draw every figure and make every table; see `dropdiag.experiments.page.make_parts`."""
    return make_parts(runs, LAYERS, out, sections(dataset), drawings(dataset))


def write_page(
    out: Path, parts: Sequence[Part], runs: Runs, *, settings: Settings, data: Images, failed: Mapping[str, str]
) -> Path:
    """Write ``out/index.html``.

    Parameters
    ----------
    out : Path
    parts : sequence of Part
    runs : Runs
    settings : Settings
        Of any of the runs: what they share is shown.
    data : Images
    failed : mapping
        Name of each failed run -> what ended it.

    Returns
    -------
    Path
    """
    devices = sorted({str(run.meta["config"]["device"]) for run in runs.runs})
    return render(
        out,
        TEMPLATE,
        title=f"Batch norm and GAAF on {data.dataset.title}: Figure 8, reproduced",
        summary=_summary(runs, settings, data),
        citation=paper.CITATION,
        parts=parts,
        failed=failed,
        network=_network(settings, data),
        conditions={name: CONDITIONS_IN_WORDS[name] for name in runs.conditions},
        settings=_settings(settings, data, devices),
        data=data.describe(),
        dataset=data.dataset,
        checked=data.checked,
        digest=settings.data,
        versions=runs.runs[0].meta["versions"],
        runs=[run.name for run in runs.runs],
    )


def _summary(runs: Runs, settings: Settings, data: Images) -> str:
    seeds = len({run.seed for run in runs.runs})
    return (
        f"{len(runs.runs)} runs: {', '.join(runs.conditions)}, {_count(seeds, 'seed')} each, "
        f"{_count(settings.epochs, 'epoch')} of {_optimizer(settings)}; {data.describe()}."
    )


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def _optimizer(settings: Settings) -> str:
    names = {"sgd": f"SGD with momentum {MOMENTUM:g}", "adam": "AdamW"}
    return f"{names[settings.optimizer]} at learning rate {number(settings.lr, 'g')}"


def _network(settings: Settings, data: Images) -> str:
    *channels, hidden = widths(settings.width)
    return (
        f"Like VGG, with six convolutions of 3 x 3 ({', '.join(map(str, channels))} channels), max pooling after "
        f"every second one, a hidden layer of {hidden} nodes and {data.dataset.classes} outputs; no dropout; weights "
        f"normal with variance 2/fan_in (1/fan_in at the output), zero biases."
    )


def _settings(settings: Settings, data: Images, devices: Sequence[str]) -> dict[str, Any]:
    mirrored = "and mirrored or not" if data.dataset.flip else "and not mirrored, since a mirrored digit is none"
    steps = settings.steps(len(data.train_labels))
    return {
        "Widths": f"{settings.width:g} times those of the full network",
        "Optimiser": f"{_optimizer(settings)}, weight decay {settings.weight_decay:g}; the learning rate rises over "
        f"the first {WARM_UP:.0%} of the steps and falls to 0 as half a cosine",
        "Clipping": f"gradients of all weights together to norm {settings.clip:g}; without it GAAF, which doubles "
        "the gradient in every layer, can diverge",
        "Augmentation": f"images padded with 4 black pixels, cropped at random to 32 x 32, {mirrored}",
        "Inputs": "each channel centred and scaled to unit variance over the training images",
        "Batch size": f"{settings.batch_size}; what does not fill an epoch's last batch is left out of it",
        "Epochs": f"{settings.epochs}, a fixed number ({_count(steps, 'step')}); no stopping rule",
        "Precision": "bfloat16 under autocast" if settings.amp else "float32",
        "Trained on": ", ".join(devices),
        "Recorded": f"gradient flow at every step, weights every {_count(settings.every, 'step')}; net values and "
        f"node correlation on the test set every {_count(settings.record_epochs, 'epoch')} and after the last one",
    }
