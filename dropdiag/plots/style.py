"""How every figure looks: one rc context, one colour, line and marker a condition, one way to save."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

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
COLUMNS: Final = 4

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
    "axes.grid": False,
    "axes.axisbelow": True,
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


class Panels(Figure):
    """A matplotlib figure that belongs to no pyplot and still shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with context():
            self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


def context() -> AbstractContextManager[None]:
    """Rc context in which every figure is made and saved; leaves matplotlib's settings as they were.

    It is seaborn's "ticks" style in its "paper" context, with what `RC` says instead.
    """
    import seaborn as sns  # noqa: PLC0415 - its import takes a second; reading runs does not pay it

    settings: Any = {**sns.plotting_context("paper"), **sns.axes_style("ticks"), **RC}
    return mpl.rc_context(settings)


def looks(conditions: Iterable[str]) -> dict[str, Look]:
    """Look of each condition, by its place in the list.

    Give it all conditions of the runs, also where some are drawn, so that a condition looks the same
    everywhere.
    """
    return {
        name: Look(COLOURS[i % len(COLOURS)], LINES[i % len(LINES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(conditions)
    }


def panels(
    count: int, *, width: float = 3.0, height: float = 2.35, columns: int = COLUMNS
) -> tuple[Panels, list[Axes]]:
    """Figure with a number of equal panels, wrapped into rows.

    Parameters
    ----------
    count : int
    width, height : float
        Of a panel, in inches.
    columns : int
        At most this many in a row; fewer where that leaves no panel alone in its row.

    Returns
    -------
    figure : Panels
    axes : list of Axes, length ``count``
    """
    rows = -(-count // columns)
    across = -(-count // rows)
    # one narrow panel still needs the width of a legend
    figure = Panels(figsize=(max(across * width, 4.0), rows * height + 0.35), layout="constrained")
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, [dress(axes) for axes in grid[:count]]


def dress(axes: Axes) -> Axes:
    """Give axes what a late tick would otherwise take from the settings at drawing time."""
    axes.tick_params(labelsize=RC["xtick.labelsize"], colors=RC["xtick.color"], width=0.8, length=3.0)
    axes.tick_params(which="minor", length=1.8)
    return axes


def own_axes(axes: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure."""
    return axes if axes is not None else panels(1)[1][0]


def legend(figure: Figure, wanted: Mapping[str, Look], extra: Sequence[Any] = ()) -> None:
    """Legend of the conditions above all panels; the figure grows by the rows that its width asks for."""
    handles: list[Any] = [
        Line2D([], [], color=look.colour, linestyle=look.line, label=plain(name, 40)) for name, look in wanted.items()
    ]
    handles += list(extra)
    widths = [0.072 * len(_visible(str(handle.get_label()))) + 0.75 for handle in handles]
    rows = next(rows for rows in range(1, len(handles) + 1)
                if rows == len(handles) or _legend_width(widths, rows) <= figure.get_figwidth() - 0.2)  # fmt: skip
    figure.set_figheight(figure.get_figheight() + 0.19 * (rows - 1))
    figure.legend(handles=handles, loc="outside upper center", ncols=-(-len(handles) // rows))


def _legend_width(widths: Sequence[float], rows: int) -> float:
    """Width in inches of a legend that is filled column by column."""
    return sum(max(widths[i : i + rows]) for i in range(0, len(widths), rows))


def log_axis(ax: Axes, which: str) -> None:
    """Log scale with labels at 1, 2 and 5 where there are less than two decades, else at the decades."""
    axis, (low, high) = (ax.xaxis, ax.get_xlim()) if which == "x" else (ax.yaxis, ax.get_ylim())
    decades = np.log10(high / low) if low > 0.0 else 0.0
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.2 else (1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))
    axis.set_minor_formatter(NullFormatter())


def _visible(label: str) -> str:
    """Return about what is to be seen of a label with mathtext."""
    return re.sub(r"\\(leq|phi|sup)", "x", label).replace("\\$", "S").replace("$", "").replace("\\,", "")


def site_title(layer: str, call: int = 0, names: Mapping[str, str] | None = None, width: int = 30) -> str:
    """Title of a panel: the layer's name or what the reader calls it, the call where it is not the first.

    A long module path is broken at a dot, and cut at its front where two lines do not hold it. A layer's own
    name is drawn literally; what the reader calls it may hold mathtext.
    """
    name = (names or {}).get(layer, layer) + (f" (call {call + 1})" if call else "")
    title = _broken(name, width)
    return title if layer in (names or {}) else plain(title)


def _broken(name: str, width: int) -> str:
    """Return the name in two lines where one does not hold it."""
    if len(name) <= width:
        return name
    dot = name.find(".", len(name) - width - 1)
    cut = dot + 1 if dot > 0 else len(name) - width
    first, second = name[:cut], name[cut:]
    return (first if len(first) <= width else "…" + first[1 - width :]) + "\n" + second


def clipped(name: str, width: int) -> str:
    """Name, its middle left out where it is longer than ``width``."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def plain(name: str, width: int | None = None) -> str:
    """Name as text that matplotlib draws literally, dollar signs too; its middle left out beyond ``width``."""
    return (name if width is None else clipped(name, width)).replace("$", r"\$")


def layer_names(layers: Sequence[str] | Mapping[str, str] | None) -> tuple[list[str] | None, dict[str, str]]:
    """Split ``layers`` (a list of names, or name -> title) into the names and their titles."""
    if layers is None:
        return None, {}
    if isinstance(layers, str):
        raise ArgumentError(f"layers must be a list of names, got the string {layers!r}; write [{layers!r}]")
    return list(layers), dict(layers) if isinstance(layers, Mapping) else {}


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
    with context(), _quiet_fonts():
        for name, file in zip(formats, files, strict=True):
            figure.savefig(file, format=name, dpi=DPI, metadata=_METADATA[name])
    return files


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
