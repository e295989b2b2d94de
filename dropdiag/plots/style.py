"""How every figure looks: one rc context, one colour, line and marker a condition, one way to save."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure

from dropdiag.errors import ArgumentError

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe & Ito's colours (2008) for any colour vision, without the yellow, too light for a line."""
LINES: Final[tuple[Any, ...]] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (2.5, 1.2)),
)
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
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "svg.fonttype": "path",
    "svg.hashsalt": "dropdiag",
    "pdf.fonttype": 42,
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

    _by_hand: tuple[Sequence[Axes], int, Sequence[Axes], float] | None = None

    def place_by_hand(self, axes: Sequence[Axes], across: int, foot: Sequence[Axes] = (), height: float = 0.0) -> None:
        """Place panels in equal cells whenever the figure is drawn, and ``foot`` in the last ``height`` inches.

        Constrained layout measures all text of all panels twice before it draws them: half a minute for 400 panels.
        """
        self._by_hand = (axes, across, foot, height)

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure, its panels placed."""
        if self._by_hand is not None:
            self._place(*self._by_hand)
        super().draw(renderer)

    def _place(self, axes: Sequence[Axes], across: int, foot: Sequence[Axes], below: float) -> None:
        width, height = self.get_size_inches()
        head = sum(legend.get_window_extent().height / self.dpi + 0.1 for legend in self.legends)
        cell = ((width - 0.1) / across, (height - head - below) / -(-len(axes) // across))
        bottom = 0.46 + 0.17 * max(ax.get_xlabel().count("\n") for ax in axes)
        top = 0.28 + 0.16 * max(ax.get_title().count("\n") for ax in axes)
        for place, ax in enumerate(axes):
            row, column = divmod(place, across)
            left, low = column * cell[0] + 0.62, height - head - (row + 1) * cell[1] + bottom
            size = (cell[0] - 0.62) / width, (cell[1] - bottom - top) / height
            ax.set_position((left / width, low / height, *size))
        for ax in foot:  # between its layers' names and its columns of numbers
            ax.set_position((2.5 / width, 0.55 / height, (width - 5.8) / width, (below - 0.65) / height))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with context():
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
