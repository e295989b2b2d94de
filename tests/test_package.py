"""What a package index is told: one version, and links that lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import dropdiag

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup_file():
    """Return setup.py, imported and not run."""
    spec = importlib.util.spec_from_file_location("dropdiag_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        pytest.skip(f"this setuptools has no bdist_wheel: {error}")
    return module


def test_the_version_stands_in_one_place():
    named = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert named[1] == dropdiag.__version__
    if sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert "version" in project["dynamic"]
        assert "version" not in project


def test_every_link_of_the_published_readme_is_absolute_and_leads_to_a_file(setup_file):
    home = setup_file.home()
    raw = home.replace("github.com", "raw.githubusercontent.com")
    text = setup_file.absolute((ROOT / "README.md").read_text(encoding="utf-8"), home)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 10
    for target in targets:
        assert target.startswith(("https://", "#")), target
        for start in (f"{home}/blob/main/", f"{raw}/main/"):
            if target.startswith(start):
                assert (ROOT / target.removeprefix(start).split("#")[0]).exists(), target
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    assert pictures
    assert all(picture.startswith(f"{raw}/main/") for picture in pictures)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](docs/a.md)", "[a](H/blob/main/docs/a.md)"),
        ("[a](docs/a.md#b)", "[a](H/blob/main/docs/a.md#b)"),
        ("![a](docs/a.png)", "![a](H/main/docs/a.png)"),
        ("[a](https://x.org/a.md)", "[a](https://x.org/a.md)"),
        ("[a](mailto:a@x.org)", "[a](mailto:a@x.org)"),
        ("[a](#part)", "[a](#part)"),
    ],
)
def test_links(setup_file, link, expected):
    assert setup_file.absolute(link, "H") == expected
