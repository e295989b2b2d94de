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
from dropdiag.experiments.cells import Column, number, printed
from dropdiag.experiments.figures import Drawing, draw
from dropdiag.experiments.mnist.sections import CONDITIONS_IN_WORDS, SECTIONS, Lines, Section
from dropdiag.experiments.mnist.train import Settings
from dropdiag.plots.style import save
from dropdiag.store.reader import Runs

TITLE: Final = "What dropout and GAAF do inside a network: the MNIST analysis, reproduced"
PAGE: Final = "index.html"


@dataclass
class Part:
    """A section with what was measured for it.

    Attributes
    ----------
    files : list of Path
        Figure and table on disk.
    image : str
        The figure as base64 of its PNG, empty where it could not be drawn.
    problem, table_problem : str
        Why there is no figure, no table.
    """

    name: str
    title: str
    reading: str
    published: Lines
    alt: str
    columns: tuple[Column, ...]
    rows: list[list[str]] = field(default_factory=list)
    glance: Lines = ()
    image: str = ""
    problem: str = ""
    table_problem: str = ""
    files: list[Path] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def make_parts(
    runs: Runs,
    layers: int,
    out: Path,
    sections: Sequence[Section] = SECTIONS,
    drawings: Mapping[str, Drawing] | None = None,
) -> list[Part]:
    """Draw every figure and make every table into ``out/figures`` and ``out/tables``.

    One that cannot be made (a quantity is missing in all runs) leaves its reason in its part. Without `drawings`,
    figures are those of `dropdiag.experiments.figures`.
    """
    return [_part(section, runs, layers, out, drawings) for section in sections]


def write_page(
    out: Path, parts: list[Part], runs: Runs, *, settings: Settings, data: str, failed: Mapping[str, str]
) -> Path:
    """Write ``out/index.html``.

    Parameters
    ----------
    out : Path
    parts : list of Part
    runs : Runs
    settings : Settings
        Of any of the runs: what they share is shown.
    data : str
        The data in words.
    failed : mapping
        Name of each failed run -> what ended it.

    Returns
    -------
    Path
    """
    return render(
        out,
        "index.html.j2",
        title=TITLE,
        summary=_summary(runs, settings, data),
        citation=paper.CITATION,
        parts=parts,
        failed=failed,
        network=_network(settings),
        conditions={name: CONDITIONS_IN_WORDS[name] for name in runs.conditions},
        settings=_settings(settings),
        data=data[0].upper() + data[1:],
        digest=settings.data,
        versions=runs.runs[0].meta["versions"],
        runs=[run.name for run in runs.runs],
    )


def render(out: Path, template: str, **values: Any) -> Path:
    """Write ``out/index.html`` from a template and what it shows; return its path."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dropdiag.experiments"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["sentence"] = _sentence
    text = environment.get_template(template).render(**values)
    path = out / PAGE
    path.write_text(text, encoding="utf-8")
    return path


def _part(section: Section, runs: Runs, layers: int, out: Path, drawings: Mapping[str, Drawing] | None) -> Part:
    part = Part(section.name, section.title, section.reading, section.published, section.alt, section.columns)
    try:
        if drawings is None:
            part.files = draw(section.name, runs, layers, out / "figures")
        else:
            part.files = save(drawings[section.name](runs, layers), out / "figures" / section.name)
        part.image = base64.b64encode(part.files[0].read_bytes()).decode("ascii")
    except DropdiagError as error:
        part.problem = str(error)
    if section.table is not None:
        try:
            _fill(part, section, section.table(runs, layers), out)
        except DropdiagError as error:
            part.table_problem = str(error)
    part.links = [path.relative_to(out).as_posix() for path in part.files]
    return part


def _fill(part: Part, section: Section, frame: pd.DataFrame, out: Path) -> None:
    path = out / "tables" / f"{section.name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    part.files.append(path)
    part.rows = printed(frame, section.columns)
    if section.at_a_glance is not None:
        part.glance = section.at_a_glance(frame)


def _sentence(lines: Lines) -> str:
    """Lines as one sentence: a line that ends in a colon announces the next."""
    return "; ".join(lines).replace(":;", ":")


def _summary(runs: Runs, settings: Settings, data: str) -> str:
    seeds = len({run.seed for run in runs.runs})
    epochs = f"{'at most ' if settings.patience else ''}{_count(settings.epochs, 'epoch')}"
    return (
        f"{len(runs.runs)} runs: {', '.join(runs.conditions)}, {_count(seeds, 'seed')} each, "
        f"{epochs} of {_optimizer(settings)}; {data}."
    )


def _early_stopping(settings: Settings) -> str:
    if settings.patience is None:
        return "none"
    return (
        f"when the accuracy on {settings.validation:,} images held out of training has not risen for "
        f"{_count(settings.patience, 'epoch')}; figures and tables are of the networks as they were then"
    )


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _network(settings: Settings) -> str:
    return f"{'-'.join(map(str, settings.widths))}, {settings.activation}, Glorot-uniform weights, zero biases."


def _optimizer(settings: Settings) -> str:
    names = {"adam": "Adam", "sgd": "SGD"}
    return f"{names[settings.optimizer]} at learning rate {number(settings.lr, 'g')}"


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "Network": "-".join(map(str, settings.widths)),
        "Optimiser": _optimizer(settings),
        "Batch size": f"{settings.batch_size}; what does not fill an epoch's last batch is left out of it",
        "Epochs": settings.epochs if settings.patience is None else f"at most {settings.epochs}",
        "Early stopping": _early_stopping(settings),
        "Dropout rate": f"{settings.rate:g} (in “Dropout”; what “GAAF fitted” is fitted to)",
        "Recorded": f"gradient flow at every step, weights every {_count(settings.every, 'step')}, "
        "net values and node correlation on the test set after every epoch",
    }
