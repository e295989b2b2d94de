"""How another process finds the function that trains, and what is said where it cannot."""

from __future__ import annotations

import hashlib
import sys

import pytest

from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.function import Function

from . import trains
from .conftest import TRAINS


def inner():
    def train(config, path): ...

    return train


class Callable:
    def __call__(self, config, path): ...


@pytest.mark.parametrize(("train", "what"), [
    (lambda config, path: None, "a lambda"), (inner(), "a function inside another one"), (Callable(), "<.*Callable object"),
])  # fmt: skip
def test_what_no_process_can_import_is_told_with_the_ways_out(train, what):
    with pytest.raises(ArgumentError, match=f"train is {what}.*, which no other process can import") as caught:
        Function.of(train)
    assert "%%writefile train.py" in str(caught.value)
    assert 'engine="here"' in str(caught.value)


def test_a_function_that_was_typed_in():
    cell = {"__name__": "__main__"}
    exec(compile("def train(config, path): pass", "<cell 3>", "exec"), cell)  # noqa: S102 - as a notebook does
    with pytest.raises(ArgumentError, match="train is a function of a notebook or of an interactive session, which no"):
        Function.of(cell["train"])


def test_by_its_file_and_by_its_module(tmp_path, monkeypatch):
    package = tmp_path / "netz" / "deep"
    package.mkdir(parents=True)
    (tmp_path / "netz" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("RATE = 0.5\n")
    (package / "model.py").write_text("from . import RATE\ndef train(config, path): return RATE\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = Function.named("netz.deep.model:train")
    assert (found.file, found.module) == (package / "model.py", "netz.deep.model")
    train = found.load()
    assert train({}, None) == 0.5
    assert Function.of(train) == found
    digest = hashlib.sha256((package / "model.py").read_bytes()).hexdigest()[:16]
    assert found.described == f"netz.deep.model:train, sha256 {digest}"
    assert Function.of(trains.well) == Function(TRAINS, "well", trains.__name__)


def test_a_file_finds_what_lies_beside_it_and_hides_no_other_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_it_7.py").write_text("VALUE = 3\n")
    (tmp_path / "random.py").write_text("from beside_it_7 import VALUE\ndef train(config, path): return VALUE\n")
    import random

    assert Function.named(f"{tmp_path / 'random.py'}:train").load()({}, None) == 3
    assert sys.modules["random"] is random


@pytest.mark.parametrize(("text", "message"), [
    ("train.py", "FILE.py:NAME or MODULE:NAME"), ("nowhere.py:train", "there is no file /.*nowhere.py"),
    ("no.such.module:train", "there is no module 'no.such.module'"), ("train.py:a.b", "FILE.py:NAME or"),
])  # fmt: skip
def test_what_is_not_there(text, message):
    with pytest.raises(ArgumentError, match=message):
        Function.named(text)


def test_a_file_without_the_function_and_one_that_takes_something_else(tmp_path):
    file = tmp_path / "other_train_9.py"
    file.write_text("def fit(config): pass\n")
    with pytest.raises(ArgumentError, match="has no function 'train'; its functions are fit"):
        Function.named(f"{file}:train").load()
    with pytest.raises(
        ArgumentError, match=r"train is called as train\(config, path\), which it does not take: too many"
    ):
        Function.named(f"{file}:fit").load()
