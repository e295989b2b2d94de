"""Figure 8 of the paper as an experiment, on any data set of images: what is trained, what its page shows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import pandas as pd

from dropdiag.experiments import paper, tables
from dropdiag.experiments import sections as shared
from dropdiag.experiments.cells import Column, by_gaaf, difference, glance_at_accuracies, label, signed, value
from dropdiag.experiments.experiment import Experiment, Section
from dropdiag.experiments.images.figures import accuracy
from dropdiag.experiments.images.network import (
    BASE,
    BATCH_NORM,
    BATCH_NORM_GAAF,
    CONDITIONS,
    DROPOUT,
    KNOWN,
    WITH_GAAF,
    WITHOUT_GAAF,
    layers,
)
from dropdiag.experiments.images.train import IMAGES_RECIPE, ImageSettings
from dropdiag.experiments.surrogates import IN_WORDS
from dropdiag.formatting import NOTHING
from dropdiag.store.reader import Runs

NAMED_IN_WORDS: Final = {DROPOUT: "ReLU, dropout on the nodes of the hidden layer", **IN_WORDS}
"""Conditions that have to be named, each also with batch norm -> description."""

NO_NUMBER: Final = ("no number for these networks",)

ACCURACY: Final = (
    label("condition", "Condition"),
    value("final_accuracy", "Final accuracy, % (sd over seeds)", ".2f"),
    difference("difference", "Difference to Base, points [95 %]"),
    difference("gain", "Gain by GAAF, points [95 %]"),
    # The two have the same pairs where there are both: Base has neither, and batch norm alone has no gain.
    Column("Pairs", lambda row: str(int(max(row["difference_pairs"], row["gain_pairs"])) or NOTHING)),
    value("best_accuracy", "Best accuracy, %", ".2f"),
)
PUBLISHED_ACCURACY: Final = (
    value("paper_accuracy", "Paper: accuracy, %", ".2f", published=True),
    Column("Paper: gain", lambda row: signed(row["paper_gain"]), published=True),
)
OTHERS: Final = (
    shared.LEARNING,
    replace(shared.GRADIENT_FLOW, table=partial(tables.gradient_flow_table, wanted=BASE)),
    shared.SATURATION,
    shared.WEIGHTS,
    shared.CORRELATION,
    shared.GAAF,
)


def sections(dataset: str) -> tuple[Section, ...]:
    """Return the sections of the page for the data set of this key.

    Where Figure 8 has no number for it, nothing is said of the paper, and columns for its numbers are left out.
    """
    if dataset not in paper.IMAGE_ACCURACY:
        return (_accuracy(dataset), *OTHERS)
    # GAAF's section alone has something published, whatever the data set.
    others = (section if section.published else replace(section, published=NO_NUMBER) for section in OTHERS)
    return (_accuracy(dataset), *others)


def accuracies(runs: Runs, dataset: str) -> pd.DataFrame:
    """Test accuracy, its difference to "Base", and what GAAF adds, beside Figure 8.

    Parameters
    ----------
    runs : Runs
    dataset : str
        Key of the data set.

    Returns
    -------
    DataFrame
        `tables.accuracy_table` with difference (to "Base") and gain (to the same network without GAAF), in
        percentage points, each a mean over paired seeds with ``_low`` and ``_high`` (95 % t interval) and
        ``_pairs``; and where Figure 8 has the data set, paper_accuracy, paper_difference, paper_gain.
    """
    to_base = {name: BASE for name in KNOWN if name != BASE}
    frame = tables.with_differences(tables.accuracy_table(runs), runs, difference=to_base, gain=WITHOUT_GAAF)
    published = paper.IMAGE_ACCURACY.get(dataset)
    if published is None:
        return frame
    differences = {name: round(published[name] - published[BASE], 2) for name in published if name != BASE}
    return tables.with_published(frame, accuracy=published, difference=differences, gain=paper.IMAGE_GAIN[dataset])


def _accuracy(dataset: str) -> Section:
    published, gains = paper.IMAGE_ACCURACY.get(dataset, {}), paper.IMAGE_GAIN.get(dataset, {})
    in_words = (f"{name} {share:.2f} %{by_gaaf(gains.get(name))}" for name, share in published.items())
    return Section(
        name="accuracy",
        title="Does GAAF raise the test accuracy?",
        published=("Figure 8:", *in_words) if published else (),
        alt="Final test accuracy of every run, a column a condition, with its mean"
        + (" and the published number." if published else "."),
        figure=lambda runs, _layers: accuracy(runs, published),
        table=lambda runs, _layers: accuracies(runs, dataset),
        columns=(*ACCURACY, *(PUBLISHED_ACCURACY if published else ())),
        at_a_glance=glance_at_accuracies,
    )


def figure8(dataset: str) -> Experiment[ImageSettings]:
    """Return the experiment on the data set of this key."""
    return Experiment(
        name=dataset,
        conditions={
            BASE: "ReLU",
            BATCH_NORM: "ReLU, batch norm between the weights and the activation function of every hidden layer",
            WITH_GAAF: "GAAF over ReLU",
            BATCH_NORM_GAAF: "GAAF over ReLU, batch norm as above",
            **NAMED_IN_WORDS,
            **{f"{BATCH_NORM} + {name}": f"{words}; batch norm as above" for name, words in NAMED_IN_WORDS.items()},
        },
        default_conditions=CONDITIONS,
        seeds=3,
        recipe=IMAGES_RECIPE,
        layers=lambda _settings: layers(),  # the factor of the widths changes no layer's name
        sections=sections(dataset),
        words="images.j2",
        fixed={"dataset": dataset},
    )
