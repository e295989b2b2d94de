"""The Python of each page runs as it stands, from its first block to its last."""

from __future__ import annotations

import contextlib
import unittest
from pathlib import Path
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from docs.checks.pages import DOCS, pages

AFTER = {"tutorial/real-effect.md": ["tutorial/ten-minutes.md"]}
"""Pages that go on where another one ended."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_code_runs(page: Path, names: Any) -> None:
    name = page.relative_to(DOCS).as_posix()
    sybil = Sybil([PythonCodeBlockParser(), SkipParser()], path=str(DOCS))
    documents = [sybil.parse(DOCS / other) for other in (*AFTER.get(name, []), name)]
    namespace = names("".join(document.text for document in documents))
    for document in documents:
        document.namespace = namespace
        for example in document.examples():
            with contextlib.suppress(unittest.SkipTest):
                example.evaluate()
