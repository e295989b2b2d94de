from __future__ import annotations

import copy
import json
import os
import pickle

import numpy as np
import pytest
import torch

from dropdiag.errors import ArgumentError
from dropdiag.experiments.sweep.axes import checked_seeds, label, pairs, parsed, points, run_name, seeds_of
from dropdiag.experiments.sweep.config import Config


def test_all_combinations_in_order():
    found = points({"rate": [0, 0.3], "lr": [0.1, 0.01]})
    assert [label(point) for point in found] == [
        "rate=0, lr=0.1", "rate=0, lr=0.01", "rate=0.3, lr=0.1", "rate=0.3, lr=0.01",
    ]  # fmt: skip
    assert run_name(found[-1], 0) == "rate-0.3-lr-0.01-s0"


def test_the_combinations_themselves():
    assert points([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    with pytest.raises(ArgumentError, match="differ in their axes"):
        points([{"a": 1}, {"b": 2}])


def test_equal_numbers_have_one_name():
    assert label({"rate": 1.0}) == label({"rate": 1}) == "rate=1"
    assert points({"rate": np.linspace(0, 0.5, 3)}) == [{"rate": 0}, {"rate": 0.25}, {"rate": 0.5}]
    assert type(points({"rate": torch.tensor([0.5])})[0]["rate"]) is float


@pytest.mark.parametrize("value", ["a/b", "../x", "", "é", "a b", "CON", "x" * 300, -0.5, 1e-7, True])
@pytest.mark.parametrize("axis", ["rate", "dropout:blocks.*.drop", "insert:a[0]"])
def test_any_value_gives_a_safe_name_of_a_file(tmp_path, axis, value):
    name = run_name({axis: value}, 3)
    assert os.sep not in name and not name.startswith(".")  # noqa: PT018
    (tmp_path / f"{name}.jsonl").touch()
    assert name != run_name({axis: value}, 4)
    assert name != run_name({axis: "other"}, 3)


@pytest.mark.parametrize(("over", "message"), [
    ({"rate": []}, "has no value"), ({"rate": 0.3}, "takes a list of values"), ({"rate": "0,1"}, "takes a list"),
    ({"rate": [0.3, 0.3]}, "rate=0.3 twice"), ({"rate": [1, 1.0]}, "rate=1 twice"), ({"rate": [None]}, "finite numbers"),
    ({"rate": [float("nan")]}, "finite numbers"), ({"seed": [1]}, "other than condition, seed, sweep"),
    ({"": [1]}, "called by a text"), ("rate", "over= takes axis -> values"), ([], "over= has no axis"), ([{}], "no axis"),
])  # fmt: skip
def test_what_is_no_axis(over, message):
    with pytest.raises(ArgumentError, match=message):
        points(over)


def test_a_command_line():
    assert parsed("rate=0,.1,1e-3") == ("rate", [0, 0.1, 0.001])
    assert parsed("bias=true,False,yes") == ("bias", [True, False, "yes"])
    assert parsed("schedule:*=early(.1, 0, 5),0.2") == ("schedule:*", ["early(.1, 0, 5)", 0.2])
    assert parsed("name=a=b") == ("name", ["a=b"])
    for wrong in ("rate", "rate=", "=1"):
        with pytest.raises(ArgumentError, match="NAME=VALUE,VALUE"):
            parsed(wrong)
    with pytest.raises(ArgumentError, match="'a' is given twice"):
        pairs([("a", [1]), ("a", [2])])


def test_seeds():
    assert checked_seeds(np.arange(2)) == (0, 1)
    assert (checked_seeds(3), checked_seeds([5, 2]), seeds_of("3"), seeds_of("3, 4")) == ((0, 1, 2), (5, 2), 3, [3, 4])
    for wrong in (0, True, [], [-1], [0.5], "12", [2**32]):
        with pytest.raises(ArgumentError, match="seeds="):
            checked_seeds(wrong)
    with pytest.raises(ArgumentError, match="seeds="):
        seeds_of("a")


@pytest.mark.parametrize(("read", "left"), [
    (lambda c: c["a"], ["b"]), (lambda c: c.get("a"), ["b"]), (lambda c: c.pop("a"), ["b"]), (lambda c: "a" in c, ["a", "b"]),
    (lambda c: {**c}, []), (dict, []), (lambda c: dict(**c), []), (lambda c: list(c.items()), []),
    (lambda c: c | {"x": 1}, []), (lambda c: {"x": 1} | c, []), (copy.deepcopy, []), (json.dumps, []),
    (pickle.dumps, []), (lambda c: c.setdefault("a"), ["b"]), ("{a}".format_map, ["b"]),
    (lambda c: c.copy(), []), (lambda c: [c[k] for k in c], []), (lambda c: None, ["a", "b"]), (len, ["a", "b"]),
])  # fmt: skip
def test_a_config_knows_what_was_read(read, left):
    config = Config({"a": 1, "b": 2})
    read(config)
    assert config.unread(["a", "b"]) == left
    assert config.given == {"a": 1, "b": 2}
