"""What an experiment of the paper is: conditions, how a run is trained, what is shown of the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import pandas as pd
from matplotlib.figure import Figure

from dropdiag.errors import ArgumentError
from dropdiag.experiments.cells import Column, Lines
from dropdiag.experiments.layers import Layers
from dropdiag.experiments.recipe import Recipe
from dropdiag.experiments.settings import S
from dropdiag.store.reader import Runs


@dataclass(frozen=True)
class Section:
    """One question of the paper: a figure, mostly with a table.

    How to read them, and how they can mislead, is what the experiment's template says under the section's name.

    Attributes
    ----------
    name : str
        Of the figure and of the table's file.
    title : str
    alt : str
        The figure in words, for readers who cannot see it.
    figure : callable
        Runs and layers -> Figure.
    published : tuple of str
        What the paper reports, in words and numbers, line by line; empty where there is nothing to compare with.
    table : callable or None
        Runs and layers -> frame.
    columns : tuple of Column
    at_a_glance : callable or None
        Frame -> what was measured, in a few lines.
    """

    name: str
    title: str
    alt: str
    figure: Callable[[Runs, Layers], Figure]
    published: Lines = ()
    table: Callable[[Runs, Layers], pd.DataFrame] | None = None
    columns: tuple[Column, ...] = ()
    at_a_glance: Callable[[pd.DataFrame], Lines] | None = None


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """An experiment of the paper on one data set; `dropdiag.experiments.reproduce.reproduce` runs it.

    Attributes
    ----------
    name : str
        On the command line: the key of its data set.
    conditions : mapping of str to str
        Known conditions, each with its description.
    default_conditions : tuple of str
        Trained unless others are named.
    seeds : int
        Default number of seeds.
    recipe : Recipe
        How a run is trained.
    layers : callable
        Settings -> the layers that are shown.
    sections : tuple of Section
    words : str
        Name of the template in which the experiment is described; see `dropdiag.experiments.page.words_of`.
    fixed : mapping
        Settings that users cannot choose -> their values.
    """

    name: str
    conditions: Mapping[str, str]
    default_conditions: tuple[str, ...]
    seeds: int
    recipe: Recipe[S]
    layers: Callable[[S], Layers]
    sections: tuple[Section, ...]
    words: str
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def compared(self) -> bool:
        """Whether the paper has numbers to stand beside any of what is measured."""
        return any(section.published and section.at_a_glance for section in self.sections)

    def refuse_unknown(self, options: Iterable[str], shown: Callable[[str], str] = str) -> None:
        """Raise `ArgumentError` for options that are no settings of this experiment.

        Parameters
        ----------
        options : iterable of str
        shown : callable
            How an option is written in the message.
        """
        # Some settings are the experiment's own: a `device` is none of MNIST's, though its settings have the field.
        unknown = [name for name in options if name in self.fixed or name not in self.recipe.settings.options()]
        if unknown:
            names = ", ".join(map(shown, unknown))
            raise ArgumentError(f"{self.name} does not take {names}; leave out what does not apply to it")
