"""The example of every public name gives what it says."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from docs._ext.public_names import OF_TRAINERS as TRAINERS
from docs._ext.public_names import docstring, documented

OF_TRAINERS = [(name, docstring(thing)) for name, thing in documented() if name.rpartition(".Recorder")[0] in TRAINERS]
EXAMPLES = [(name, text) for name, thing in documented() if ">>>" in (text := docstring(thing))]


@pytest.mark.parametrize(("name", "text"), OF_TRAINERS, ids=[name for name, _ in OF_TRAINERS])
def test_what_attaches_to_a_trainer_has_an_example(name: str, text: str) -> None:
    assert ">>>" in text  # of all other names, tests/test_docs.py sees to it


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_example_holds(name: str, text: str, names: Any) -> None:
    example = doctest.DocTestParser().get_doctest(text, names(text), name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(example, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
