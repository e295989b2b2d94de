"""Runs that dropdiag 0.1.0 recorded, before the package was reorganised, read and told of as they were then.

Where a difference is meant, `python -m tests.frozen.expect` writes the expectations anew; commit them with the change.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frozen.expect import EXPECTED, RECORDED, SUBJECTS

SHOWN = 10  # differences of each file
RTOL = 1e-9
ATOL = 1e-14  # differences of equal numbers are 0 but for rounding
ABOUT = f"differs; where that is meant, run `python -m tests.frozen.expect` and review what changes in {EXPECTED.name}/"


def test_every_expectation_belongs_to_a_subject():
    assert sorted(path.name for path in EXPECTED.iterdir()) == sorted(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_said_of_frozen_runs_is_what_was_said(subject, tmp_path):
    before = files_below(RECORDED)
    SUBJECTS[subject](tmp_path)
    assert files_below(RECORDED) == before, "reading changed the recorded runs"
    assert names(tmp_path) == names(EXPECTED / subject)
    found = {name: list(differences(EXPECTED / subject / name, tmp_path / name)) for name in names(tmp_path)}
    told = [f"{name}: {one}" for name, several in found.items() for one in several[:SHOWN]]
    if told:
        pytest.fail("\n".join((f"{subject} {ABOUT}", *told)), pytrace=False)


def test_numbers_may_differ_by_rounding_and_text_by_nothing(tmp_path):
    def found(ending: str, expected: str, got: str) -> list[str]:
        for name, text in (("expected", expected), ("got", got)):
            (tmp_path / f"{name}{ending}").write_text(text)
        return list(differences(tmp_path / f"expected{ending}", tmp_path / f"got{ending}"))

    assert found(".csv", "a,b\nx,1.0\n", "a,b\nx,1.00000000001\n") == []
    assert found(".csv", "a,b\nx,1.0\n", "a,b\nx,1.00000001\n") == ["line 2, b: expected 1.0, got 1.00000001"]
    assert found(".csv", "a,b\nx,1.0\n", "a,b\nx,\n") == ["line 2, b: expected 1.0, got "]
    assert found(".csv", "a,b\nx,1.0\n", "a\nx\n") == ["columns: expected ['a', 'b'], got ['a']"]
    assert found(".csv", "a,b\nx,1.0\n", "a,b\n") == ["rows: expected 1, got 0"]
    assert found(".json", '{"a": [1.0, "x"]}', '{"a": [1.00000000001, "x"]}') == []
    assert found(".json", '{"a": [1.0, "x"]}', '{"a": [1.1, "y"]}') == [
        "a.0: expected 1.0, got 1.1",
        "a.1: expected 'x', got 'y'",
    ]
    assert found(".json", '{"a": 1, "b": 2}', '{"a": 1}') == ["keys: expected ['a', 'b'], got ['a']"]
    assert found(".txt", "1.0\nx\n", "1.00000000001\nx\n") == ["line 1: expected '1.0', got '1.00000000001'"]


def files_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def differences(expected: Path, got: Path) -> Iterator[str]:
    if expected.suffix == ".csv":
        yield from in_tables(*(list(csv.reader(path.read_text().splitlines())) for path in (expected, got)))
    elif expected.suffix == ".json":
        yield from in_values("", *(json.loads(path.read_text()) for path in (expected, got)))
    else:
        yield from in_lines(*(path.read_text().split("\n") for path in (expected, got)))


def in_tables(expected: list[list[str]], got: list[list[str]]) -> Iterator[str]:
    if expected[0] != got[0]:
        yield f"columns: expected {expected[0]}, got {got[0]}"
    elif len(expected) != len(got):
        yield f"rows: expected {len(expected) - 1}, got {len(got) - 1}"
    else:
        for number, (one, other) in enumerate(zip(expected, got, strict=True), start=1):
            for column, a, b in zip(expected[0], one, other, strict=True):
                if a != b and not both_numbers(a, b):
                    yield f"line {number}, {column}: expected {a}, got {b}"


def both_numbers(a: str, b: str) -> bool:
    """Whether two cells hold the same number but for rounding."""
    try:
        return close(float(a), float(b))
    except ValueError:
        return False


def close(a: float, b: float) -> bool:
    return math.isfinite(a) and math.isclose(a, b, rel_tol=RTOL, abs_tol=ATOL)


def in_values(where: str, expected: Any, got: Any) -> Iterator[str]:
    inside = f"{where}." if where else ""
    if isinstance(expected, dict) and isinstance(got, dict):
        if list(expected) != list(got):
            yield f"{inside}keys: expected {list(expected)}, got {list(got)}"
        for key in expected.keys() & got.keys():
            yield from in_values(f"{inside}{key}", expected[key], got[key])
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for i, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from in_values(f"{inside}{i}", one, other)
    elif not (expected == got or (isinstance(expected, float) and isinstance(got, float) and close(expected, got))):
        yield f"{where}: expected {expected!r}, got {got!r}"


def in_lines(expected: list[str], got: list[str]) -> Iterator[str]:
    if len(expected) != len(got):
        yield f"lines: expected {len(expected)}, got {len(got)}"
    for number, (one, other) in enumerate(zip(expected, got, strict=False), start=1):
        if one != other:
            yield f"line {number}: expected {one!r}, got {other!r}"
