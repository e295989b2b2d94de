"""Figures look the same whatever the settings of matplotlib are, when they are made, saved and drawn."""

from __future__ import annotations

import io
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from dropdiag import plots
from dropdiag.plots.style import COLOURS, LINES, MARKERS, context, looks
from dropdiag.store.reader import load
from tests.synthetic import content, write

NASTY = {
    "text.usetex": True, "lines.marker": "o", "text.color": "white", "axes.labelcolor": "white", "font.size": 22.0,
    "xtick.color": "white", "axes.titlecolor": "red", "figure.autolayout": True, "savefig.bbox": "tight",
    "savefig.transparent": True, "savefig.facecolor": "black", "savefig.dpi": 30, "figure.dpi": 20, "axes.grid": True,
    "xtick.direction": "in", "xtick.minor.visible": True, "axes.formatter.use_mathtext": False, "hatch.color": "red",
    "axes.prop_cycle": mpl.cycler(color=["red"]), "legend.fontsize": 30, "axes.spines.top": True, "image.cmap": "hot",
}  # fmt: skip


def saved(figure: Figure, **options) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def _draw(runs) -> list[Figure]:
    one = ["layer1.activation"]
    return [plots.saturation(runs, layers=one), plots.gradient_flow(runs, layers=one)]


@pytest.mark.parametrize("theirs", ["dark_background", "all"])
def test_settings_of_any_moment_do_not_reach_a_figure(runs, theirs: str) -> None:
    before, plain = _draw(runs), [saved(figure) for figure in _draw(runs)]
    with style.context("dark_background"), mpl.rc_context(NASTY if theirs == "all" else {}):
        assert [saved(figure) for figure in _draw(runs)] == plain  # made and saved
        assert [saved(figure) for figure in before] == plain  # made before, and drawn for the first time here
        assert before[0]._repr_png_() == plain[0]
    assert saved(before[0], dpi=30) != plain[0]  # what is asked for by name is done


def test_what_is_added_to_somebodys_axes_has_no_setting_of_theirs(runs) -> None:
    with style.context("dark_background"), mpl.rc_context(NASTY | {"text.usetex": False}):
        ax = Figure().add_subplot()
        plots.saturation(runs, layers=["layer1.activation"], ax=ax)
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert [line.get_color() for line in curves] == list(COLOURS[:3])
        assert {line.get_marker() for line in ax.lines} <= {"", "None"}
        # on their dark ground their text colour is read, ours would not
        assert {text.get_color() for text in ax.texts} == {"white"}


def _lacking() -> str:
    """Return a letter that DejaVu Sans lacks and STIX has."""
    ours, theirs = (set(get_font(findfont(name)).get_charmap()) for name in ("DejaVu Sans", "STIXGeneral"))
    return chr(min(code for code in theirs - ours if code > 0x2000))


@pytest.mark.parametrize("generic", [False, True])
def test_the_users_fonts_stand_behind_ours(tmp_path, generic: bool) -> None:
    letter = _lacking()
    run = load(write(tmp_path / "a", content("GAAF", 0), f"alpha {letter}", 0))
    theirs = {"font.family": "serif", "font.serif": ["no such font", "STIXGeneral"]} if generic else {
        "font.family": ["STIXGeneral", "no such font"]
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with mpl.rc_context(theirs):
            figure = plots.weights(run)
        figure.draw_without_rendering()  # also where their setting is gone
        saved(figure)
    assert figure.axes[0].title.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]
    with pytest.warns(UserWarning, match="missing from"):
        plots.weights(run).draw_without_rendering()


def test_contexts_in_contexts_are_one() -> None:
    with mpl.rc_context({"font.family": ["STIXGeneral"]}), context():
        inside = dict(mpl.rcParams)
        with context():
            assert dict(mpl.rcParams) == inside


def test_forty_conditions_differ_in_any_two_of_colour_line_and_mark() -> None:
    made = list(looks([str(i) for i in range(462)]).values())
    assert len({(look.colour, str(look.line), look.marker) for look in made}) == 462
    assert len({(look.colour, str(look.line)) for look in made[:42]}) == 42
    assert len({(str(look.line), look.marker) for look in made[:66]}) == 66
    assert len({(look.colour, look.marker) for look in made[:77]}) == 77
    assert (len(set(COLOURS)), len(set(map(str, LINES))), len(set(MARKERS))) == (7, 6, 11)


def test_colours_differ_for_any_colour_vision() -> None:
    """Neighbours keep apart in lightness or hue where one kind of cone is missing (Machado, Oliveira & Fernandes 2009)."""
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in (
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ):
        seen = np.clip(linear @ np.array(matrix).T, 0.0, 1.0) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)[np.triu_indices(7, 1)]
        assert apart.min() > 0.1
