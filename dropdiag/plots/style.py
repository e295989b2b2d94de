"""How every figure looks: one rc context, one colour, line and marker a condition, one way to save."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from dropdiag.errors import ArgumentError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe & Ito's colours (2008) for any colour vision, without the yellow, too light for a line."""
LINES: Final[tuple[Any, ...]] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 1.2)))
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
GREY: Final = "#6E6E6E"
SHADE: Final = "#E9E9E9"
FORMATS: Final = ("png", "svg", "pdf")
DPI: Final = 150

RC: Final[Mapping[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "axes.formatter.use_mathtext": True,  # 1 × 10⁻⁵ in place of 1e-5
    "axes.formatter.limits": (-3, 4),
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "svg.hashsalt": "dropdiag",  # else the ids in an SVG are random, and no two files the same
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's default, Type 3
}


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of a condition; any of the three tells it from its neighbours."""

    colour: str
    line: Any
    marker: str


Styles = Mapping[str, Look] | None


class Panels(Figure):
    """A matplotlib figure that belongs to no pyplot and still shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with context():  # what is made while drawing (late ticks) takes its look from the settings of that moment
            self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()


def context() -> AbstractContextManager[None]:
    """Context in which every figure is made and saved: the user's settings neither reach it nor are changed by it.

    It is seaborn's "ticks" style in its "paper" context over matplotlib's defaults, with what `RC` says instead.
    """
    import seaborn as sns  # noqa: PLC0415 - its import takes a second; reading runs does not pay it
    from matplotlib import style  # noqa: PLC0415

    settings: Any = {**sns.plotting_context("paper"), **sns.axes_style("ticks"), **RC}
    return style.context(["default", settings])


def looks(conditions: Iterable[str]) -> dict[str, Look]:
    """Look of each condition, by its place in the list.

    Give it all conditions of the runs, also where some are drawn, so that a condition looks the same
    everywhere.
    """
    return {
        name: Look(COLOURS[i % len(COLOURS)], LINES[i % len(LINES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(conditions)
    }


def save(figure: Figure, path: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure in several formats, byte for byte the same for the same figure (no dates).

    Parameters
    ----------
    figure : Figure
    path : str or Path
        Without an ending, or with one of a known format, which is replaced. Folders are made.
    formats : sequence of {"png", "svg", "pdf"}

    Returns
    -------
    list of Path
        The files, in the order of ``formats``.

    Raises
    ------
    ArgumentError
        For an unknown format.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if isinstance(formats, str) or unknown:
        raise ArgumentError(f"formats must be a list out of {', '.join(FORMATS)}, got {formats!r}")
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix[1:] in FORMATS else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{name}") for name in formats]
    with context(), _quiet_fonts(), _laid_out_once(figure):
        for name, file in zip(formats, files, strict=True):
            figure.savefig(file, format=name, dpi="figure", metadata=_METADATA[name])
    return files


@contextmanager
def _laid_out_once(figure: Figure) -> Iterator[None]:
    """Give all formats the one layout that the PNG has."""
    engine = figure.get_layout_engine()
    if engine is not None:
        # With any layout engine matplotlib draws a figure twice in each format, here to move its panels by 0.1 pt.
        engine.execute(figure)
        figure.set_layout_engine(None)  # not "none", which leaves an engine that does nothing but counts as one
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keep fontTools from remarking, for every PDF, on the dates inside DejaVu's font files."""
    logger = logging.getLogger("fontTools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


_METADATA: Final[dict[str, dict[str, Any]]] = {
    "png": {"Software": "dropdiag"},
    "svg": {"Date": None, "Creator": "dropdiag"},
    "pdf": {"CreationDate": None, "Creator": "dropdiag", "Producer": "dropdiag"},
}
