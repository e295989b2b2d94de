"""The page of `dropdiag reproduce`: figures, tables and settings in one HTML file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd

from dropdiag.errors import DropdiagError
from dropdiag.experiments import paper
from dropdiag.experiments.cells import Lines, count, printed
from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.experiment import Experiment, Section
from dropdiag.experiments.layers import Layers
from dropdiag.experiments.settings import S
from dropdiag.formatting import typeset
from dropdiag.integrations.spreadsheet import as_text
from dropdiag.plots.style import save
from dropdiag.printable import well_formed
from dropdiag.store.new_files import new_file
from dropdiag.store.reader import Runs

PAGE: Final = "index.html"
PIXELS: Final = 19.0
"""Of a figure to a rem, at most."""


@dataclass
class Part:
    """A section with what was measured for it.

    Attributes
    ----------
    section : Section
    rows : list of list of str
        The table as it is printed.
    glance : tuple of str
    image : str
        The figure as base64 of its PNG, empty where it could not be drawn.
    width : float
        How wide the figure is shown at most, in rem: one of few panels is not blown up.
    problem, table_problem : str
        Why there is no figure, no table.
    files : list of Path
        Figure and table on disk.
    """

    section: Section
    rows: list[list[str]] = field(default_factory=list)
    glance: Lines = ()
    image: str = ""
    width: float = 0.0
    problem: str = ""
    table_problem: str = ""
    files: list[Path] = field(default_factory=list)


def make_parts(runs: Runs, layers: Layers, out: Path, sections: Sequence[Section]) -> list[Part]:
    """Draw every figure and make every table into ``out/figures`` and ``out/tables``.

    One that cannot be made (a quantity is missing in all runs) leaves its reason in its part.
    """
    return [_part(section, runs, layers, out) for section in sections]


def write_page(
    out: Path,
    parts: Sequence[Part],
    runs: Runs,
    *,
    experiment: Experiment[S],
    settings: S,
    data: Images,
    failed: Mapping[str, str],
) -> Path:
    """Write ``out/index.html``.

    Parameters
    ----------
    out : Path
    parts : sequence of Part
    runs : Runs
    experiment : Experiment
    settings : TrainSettings
        Of any of the runs: what they share is shown.
    data : Images
    failed : mapping
        Name of each failed run -> what ended it.

    Returns
    -------
    Path
    """
    seeds = count(len({run.seed for run in runs.runs}), "seed")
    templates = _templates()
    words = words_of(templates, experiment, settings, data, runs)
    text = templates.get_template("index.html.j2").render(
        words=words,
        summary=f"{len(runs.runs)} runs: {', '.join(runs.conditions)}, {seeds} each, {words.training}; "
        f"{data.describe()}.",
        citation=paper.CITATION,
        compared=experiment.compared,
        parts=parts,
        failed=failed,
        conditions={name: experiment.conditions[name] for name in runs.conditions},
        data=data.describe(),
        digest=settings.data,
        versions=runs.runs[0].meta["versions"],
        runs=[run.name for run in runs.runs],
        link=lambda file: file.relative_to(out).as_posix(),
    )
    path = out / PAGE
    with new_file(path) as file:
        file.write(well_formed(text).encode("utf-8"))
    return path


def _templates() -> jinja2.Environment:
    # Strict: a name that is misspelt in a template must raise, not leave a gap on the page.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dropdiag.experiments"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["sentence"] = _sentence
    environment.globals.update(count=count, number=typeset)
    return environment


def words_of(templates: jinja2.Environment, experiment: Experiment[S], settings: S, data: Images, runs: Runs) -> Any:
    """Return what an experiment's template says, as attributes.

    ``title``; ``training`` (epochs and optimiser); ``layers`` (those that numbers separated by / are of);
    ``network``, and what of it the paper does not state; ``paired`` (what runs of one seed have in common);
    ``credit`` (whose the data are); ``settings_rows``; and by the name of each section how to read it.
    """
    devices = sorted({str(run.meta["config"].get("device", "cpu")) for run in runs.runs})
    template = templates.get_template(experiment.words)
    # A template of nothing but `set` blocks, used as a module: prose stays where prose is written.
    return template.make_module({
        "settings": settings, "data": data, "devices": devices, "compared": experiment.compared
    })  # fmt: skip


def _part(section: Section, runs: Runs, layers: Layers, out: Path) -> Part:
    part = Part(section)
    # What dropdiag itself refuses (no run has the quantity) is said on the page; anything else is a fault of ours.
    try:
        part.files = draw(section, runs, layers, out / "figures")
        # Inside the page, so that it can be sent to somebody as one file.
        picture = part.files[0].read_bytes()
        part.image = base64.b64encode(picture).decode("ascii")
        part.width = min(64.0, int.from_bytes(picture[16:20], "big") / PIXELS)  # where a PNG says how wide it is
    except DropdiagError as error:
        part.problem = str(error)
    if section.table is not None:
        try:
            _fill(part, section.table(runs, layers), out)
        except DropdiagError as error:
            part.table_problem = str(error)
    return part


def draw(section: Section, runs: Runs, layers: Layers, folder: Path) -> list[Path]:
    """Draw a section's figure and write it as PNG, SVG and PDF; return the three files, the PNG first."""
    return save(section.figure(runs, layers), folder / section.name)


def _fill(part: Part, frame: pd.DataFrame, out: Path) -> None:
    path = out / "tables" / f"{part.section.name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        frame.map(_cell).to_csv(file, index=False)
    part.files.append(path)
    part.rows = printed(frame, part.section.columns)
    if part.section.at_a_glance is not None:
        part.glance = part.section.at_a_glance(frame)


def _cell(value: Any) -> Any:
    return as_text(value) if isinstance(value, str) else value


def _sentence(lines: Lines) -> str:
    """Lines as one sentence: a line that ends in a colon announces the next."""
    return "; ".join(lines).replace(":;", ":")
