"""How every figure looks: one rc context, one colour, line and marker a condition, one way to save."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from dropdiag.errors import ArgumentError
from dropdiag.store.new_files import new_file

P = ParamSpec("P")
T = TypeVar("T")
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe & Ito's colours (2008) for any colour vision, without the yellow, too light for a line."""
LINES: Final[tuple[Any, ...]] = (
    "-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.5, 1.2)), (0, (6, 1.4, 1.2, 1.4, 1.2, 1.4)),
)  # fmt: skip
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*")
"""7 colours, 6 lines and 11 markers have no common divisor: of 42 conditions no two share a colour and a line, of 66 no
two a line and a marker, of 77 no two a colour and a marker."""
TERMS: Final = ("#332288", "#88CCEE", "#DDCC77", "#CC6677", "#117733")
"""Five of Tol's muted colours (2021), for any colour vision: parts of a whole, which are no conditions."""
GREY: Final = "#6E6E6E"
INK: Final = "#222222"
SHADE: Final = "#E9E9E9"
FORMATS: Final = ("png", "svg", "pdf")
DPI: Final = 150
FAMILY: Final = "DejaVu Sans"
GENERIC: Final = ("sans-serif", "serif", "cursive", "fantasy", "monospace")
"""Families that stand for a list of others, in the setting of that name."""

RC: Final[Mapping[str, Any]] = {
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
    """A matplotlib figure that belongs to no pyplot and still shows itself in a notebook.

    It is drawn and saved from the settings that it was made with, whatever those of the moment are: matplotlib makes
    ticks and their labels, and asks for what it saves with, only then.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.families: list[str] = list(mpl.rcParams["font.family"])

    def draw(self, renderer: Any) -> None:
        """Draw the figure, as matplotlib asks for."""
        with context(self.families):
            super().draw(renderer)

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save the figure, as `matplotlib.figure.Figure.savefig` does from its defaults."""
        with context(self.families):
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()


_inside: ContextVar[bool] = ContextVar("dropdiag_plots_inside", default=False)


@contextmanager
def context(families: Sequence[str] | None = None) -> Iterator[None]:
    """Context in which every figure is made and saved: the user's settings neither reach it nor are changed by it.

    It is seaborn's "ticks" style in its "paper" context over matplotlib's defaults, with what `RC` says instead. The
    user's font families stay, behind DejaVu Sans: a glyph that it does not have (Chinese, an emoji) comes from them.

    Parameters
    ----------
    families : sequence of str, optional
        Font families; by default those of the user.
    """
    if _inside.get():
        yield
        return
    from matplotlib import style  # noqa: PLC0415 - beside seaborn, below

    token = _inside.set(True)
    try:
        with style.context(["default", {**_settings(), "font.family": list(families or _families())}]):
            yield
    finally:
        _inside.reset(token)


@cache
def _settings() -> dict[str, Any]:
    import seaborn as sns  # noqa: PLC0415 - its import takes a second; reading runs does not pay it

    # seaborn's "ticks" are whole, but for what its `set_context` would scale from the user's own settings
    with mpl.rc_context(mpl.rcParamsDefault):
        return {**sns.plotting_context("paper"), **sns.axes_style("ticks"), **RC}


def _families() -> list[str]:
    """Return DejaVu Sans and then the user's families, as far as they are installed: matplotlib warns of others."""
    asked: list[str] = []
    settings: Mapping[Any, Any] = mpl.rcParams
    for family in settings["font.family"]:
        asked += settings[f"font.{family}"] if family in GENERIC else [family]
    installed = {font.name for font in fontManager.ttflist}
    return list(dict.fromkeys([FAMILY, *(family for family in asked if family in installed)]))


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function in `context`: what it adds to somebody's axes then looks as it does in a figure of its own."""

    @wraps(function)
    def inside(*args: P.args, **options: P.kwargs) -> T:
        with context():
            return function(*args, **options)

    return inside


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

    Examples
    --------
    >>> figure = dd.plots.learning(runs)
    >>> [path.name for path in dd.plots.save(figure, "figures/learning", formats=["png", "pdf"])]
    ['learning.png', 'learning.pdf']
    """
    unknown = [name for name in formats if name not in FORMATS]
    if isinstance(formats, str) or unknown:
        raise ArgumentError(f"formats must be a list out of {', '.join(FORMATS)}, got {formats!r}")
    stem = Path(path)
    stem = stem.with_suffix("") if stem.suffix[1:] in FORMATS else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.{name}") for name in formats]
    with context(getattr(figure, "families", None)), _quiet_fonts(), _laid_out_once(figure):
        for name, file in zip(formats, files, strict=True):
            # whole or not at all, and in place of a link, never through it
            with new_file(file) as out:
                figure.savefig(out, format=name, dpi="figure", metadata=_METADATA[name])
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
