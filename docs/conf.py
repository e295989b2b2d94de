"""How the site is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from public_names import INTERNAL, LEFT_OUT  # noqa: E402

from dropdiag import __version__  # noqa: E402
from tests.zoo import importable_torchvision  # noqa: E402, F401 - before autodoc imports trainers, which try to import it

project = "dropdiag"
author = "The dropdiag authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "gallery_runs",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
    "made_pages",
    "notebook_pages",
    "pages_outside",
    "short_names",
]
exclude_patterns = ["_build", "_ext", "gallery"]
templates_path = ["_templates"]

# Every link to a page, a heading or a documented name must lead somewhere: the build runs with -n and -W.
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 4
myst_substitutions = {"version": version}

autosummary_generate = True
autosummary_context = {
    "internal": sorted(INTERNAL),
    "left_out": {name: sorted(some) for name, some in LEFT_OUT.items()},
}
autodoc_typehints = "none"  # numpydoc's sections name the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the page of a class lists them itself
numpydoc_xref_param_type = False
default_role = "py:obj"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "_generated/gallery",
    "image_scrapers": ("gallery_runs.scraper",),
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"train_the_runs",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("dropdiag",),
    "min_reported_time": 1e9,
}

html_theme = "pydata_sphinx_theme"
html_title = "dropdiag"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {"index": []}
html_extra_path = ["llms.txt", "run.schema.json"]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
