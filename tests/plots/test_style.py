from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import pytest
import seaborn

from dropdiag import plots
from dropdiag.errors import ArgumentError
from dropdiag.plots import layout, words


def test_save_writes_the_same_bytes_each_time(tmp_path) -> None:
    figure = plots.gaaf()
    first = plots.save(figure, tmp_path / "new" / "fig6")
    assert [file.name for file in first] == ["fig6.png", "fig6.svg", "fig6.pdf"]
    before = [file.read_bytes() for file in first]
    again = plots.save(plots.gaaf(), tmp_path / "fig6.png")
    assert [file.read_bytes() for file in again] == before
    assert [content[:4] for content in before] == [b"\x89PNG", b"<?xm", b"%PDF"]
    assert plots.save(figure, tmp_path / "v1.2", ["png"]) == [tmp_path / "v1.2.png"]


def test_a_figure_has_one_layout_whatever_the_formats_and_keeps_its_engine(tmp_path) -> None:
    figure = plots.gaaf()
    engine = figure.get_layout_engine()
    png, svg, _ = plots.save(figure, tmp_path / "all")
    assert figure.get_layout_engine() is engine
    assert plots.save(plots.gaaf(), tmp_path / "one", ["svg"])[0].read_bytes() == svg.read_bytes()
    with plots.style.context():  # matplotlib's own way, in which each format is laid out anew
        plots.gaaf().savefig(tmp_path / "own.png", dpi="figure", metadata={"Software": "dropdiag"})
    assert (tmp_path / "own.png").read_bytes() == png.read_bytes()


@pytest.mark.parametrize("formats", [["jpg"], "png"])
def test_unknown_formats_are_refused(tmp_path, formats) -> None:
    with pytest.raises(ArgumentError, match="list out of png, svg, pdf, got"):
        plots.save(plots.gaaf(), tmp_path / "x", formats)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layer1.linear", "layer1.linear"),
        ("encoder.layers.11.feed_forward.activation", "…11.feed_forward.activation"),
        ("a" * 50, "a" * 30 + "\n" + "a" * 20),
    ],
)
def test_long_names_are_cut_and_broken(name: str, expected: str) -> None:
    assert words.site_titles([(name, 0)]) == {(name, 0): expected}


def test_what_tells_layers_apart_is_never_cut() -> None:
    blocks = [f"{part}coder.blocks.{i}" for part in ("en", "de") for i in range(12)]
    sites = [(f"{block}.feed_forward.{name}", 0) for block in blocks for name in ("linear1:gelu", "linear2")]
    titles = words.site_titles(sites, width=18)
    assert titles["encoder.blocks.11.feed_forward.linear1:gelu", 0] == "encoder…11…\nlinear1:gelu"
    assert len(set(titles.values())) == len(sites)


def test_calls_after_the_first_are_told() -> None:
    assert words.site_titles([("relu", 1)]) == {("relu", 1): "relu (call 2)"}
    assert words.site_titles([("relu", 0)], {"relu": "ReLU"}) == {("relu", 0): "ReLU"}


def test_panels_are_wrapped() -> None:
    for count, (rows, columns) in {1: (1, 1), 4: (1, 4), 5: (2, 3), 12: (3, 4), 33: (5, 7), 400: (50, 8)}.items():
        figure, axes = layout.panels(count)
        assert len(axes) == len(figure.axes) == count
        assert axes[0].get_gridspec().get_geometry() == (rows, columns)


def test_drawing_needs_no_torch() -> None:
    code = "import sys, dropdiag.plots; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_drawn_literally() -> None:
    assert words.plain("$a$ b") == r"\$a\$ b"
    assert words.names_cut(["aaaaa$bbbbb", "$"], 5) == {"aaaaa$bbbbb": "aa…bb", "$": r"\$"}
    assert words.site_titles([("$x$", 0)]) == {("$x$", 0): r"\$x\$"}
    assert words.site_titles([("l", 0)], {"l": "$x$"}) == {("l", 0): "$x$"}


def test_the_users_settings_do_not_reach_a_figure(tmp_path) -> None:
    plain = plots.save(plots.gaaf(), tmp_path / "plain", ["png"])[0].read_bytes()
    theirs = {"lines.linestyle": ":", "axes.xmargin": 0.4, "xtick.minor.visible": True, "axes.facecolor": "black"}
    with mpl.rc_context({**theirs, "font.size": 20.0, "figure.constrained_layout.h_pad": 1.0}):
        seaborn.set_theme(style="darkgrid", palette="husl")
        before = dict(mpl.rcParams)
        themed = plots.save(plots.gaaf(), tmp_path / "themed", ["png"])[0].read_bytes()
        assert dict(mpl.rcParams) == before
    assert themed == plain
