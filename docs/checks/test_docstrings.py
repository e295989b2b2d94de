"""The example of every public name gives what it says."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from docs._ext.public_names import docstring, documented

EXAMPLES = [(name, text) for name, thing in documented() if ">>>" in (text := docstring(thing))]


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_example_holds(name: str, text: str, names: Any) -> None:
    example = doctest.DocTestParser().get_doctest(text, names(text), name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(example, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
