"""The gallery: its runs are trained before its figures are drawn, and its figures belong to no pyplot."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

GALLERY = Path(__file__).parents[1] / "gallery"
SAVED = "in the gallery"


def scraper(_block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a block of an example has made."""
    made = [one for one in block_vars["example_globals"].values() if isinstance(one, Figure) and one.get_gid() != SAVED]
    paths = []
    for figure in made:
        figure.set_gid(SAVED)  # a later block of the example still knows it
        path = Path(next(block_vars["image_path_iterator"]))
        figure.savefig(path, dpi=150, facecolor="white")
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"], _alt(block_vars))


def _alt(block_vars: dict[str, Any]) -> str:
    stem = Path(block_vars["src_file"]).stem
    return f"The figure of dropdiag.plots.{stem.removeprefix('plot_')}"


def train(app: Any) -> None:
    """Train the runs that are not there yet."""
    runpy.run_path(str(GALLERY / "train_the_runs.py"))["main"](GALLERY / "runs")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, before sphinx-gallery."""
    app.connect("builder-inited", train, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
