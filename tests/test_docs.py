"""What `make docs` cannot be asked of too late: every public name has an example, and few blocks of code are not run.

Of trainers, which are not installed for these tests, `docs/checks` sees to it.
"""

from __future__ import annotations

import re
from importlib import import_module
from urllib.parse import urlsplit

import pytest

import dropdiag as dd
from docs._ext.made_pages import page
from docs._ext.public_names import docstring, documented, listed
from docs.checks.pages import DOCS, pages, skipped
from dropdiag.cli.program import COMMANDS

NOT_RUN = 11


def test_every_public_name_is_in_the_reference():
    known = {id(thing) for _, thing in listed(trainers=False)}
    for name in dd.__all__:
        if name not in {"analysis", "gaaf", "integrations", "interventions", "measure", "plots", "report"}:
            assert id(getattr(dd, name)) in known, name
    for module in ("gaaf", "interventions", "measure", "plots"):
        for name in import_module(f"dropdiag.{module}").__all__:
            assert id(getattr(import_module(f"dropdiag.{module}"), name)) in known, f"{module}.{name}"
    in_analysis = {name.split(".")[2] for name, _ in listed(trainers=False) if name.startswith("dropdiag.analysis.")}
    assert set(import_module("dropdiag.analysis").__all__) - in_analysis == {"compare"}  # which is dropdiag.compare


def test_all_that_attaches_or_sends_is_in_the_reference():
    text = (DOCS / "reference" / "integrations.md").read_text(encoding="utf-8")
    folder = DOCS.parent / "dropdiag" / "integrations"
    offered = [
        path for path in folder.glob("*.py") if re.search(r"^class (Recorder|Sink)\b", path.read_text("utf-8"), re.M)
    ]
    assert len(offered) == 9
    for path in offered:
        assert f"currentmodule:: dropdiag.integrations.{path.stem}\n" in text
        assert "+SKIP" not in path.read_text(encoding="utf-8"), f"the example of {path.stem} is not run"


@pytest.mark.parametrize(("name", "text"), [(name, docstring(thing)) for name, thing in documented(trainers=False)])
def test_every_public_name_has_an_example_that_is_run(name, text):
    assert ">>>" in text, f"{name} has no example"
    assert "+SKIP" not in text, f"the example of {name} is not run"


def test_blocks_that_are_not_run_are_few_and_say_why():
    reasons = [reason for page in skipped().values() for reason in page]
    assert len(reasons) == NOT_RUN, skipped()
    assert all(len(reason) > 10 for reason in reasons)
    marks = sum(len(re.findall(r"skip:", page.read_text(encoding="utf-8"))) for page in pages())
    assert marks == NOT_RUN, 'a block is left out in another way than by <!--- skip: next "why" -->'


def test_every_figure_has_its_page_in_the_gallery():
    scripts = {path.stem.removeprefix("plot_") for path in (DOCS / "gallery").glob("plot_*.py")}
    assert scripts == set(dd.plots.__all__)


def test_links_to_other_sites_are_well_formed():
    for path in [*DOCS.glob("*.md"), *DOCS.glob("[!_]*/*.md")]:
        for link in re.findall(r"\]\((https?:[^)\s]*)\)?", path.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            assert parts.scheme == "https", f"{path}: {link}"
            assert "." in (parts.hostname or ""), f"{path}: {link}"


def test_the_page_of_options_has_every_command_and_the_names_of_its_options():
    text = page()
    assert re.findall(r"^## dropdiag (\w+)", text, re.MULTILINE) == [command.__name__ for command in COMMANDS]
    assert "| `--alpha` |" in text
    assert "| `[NAME=]PATTERN...` |" in text
    assert "Sentinel" not in text
    assert " object at 0x" not in text
