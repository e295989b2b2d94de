"""Titles of layers: short, and never two alike."""

from __future__ import annotations

import random

import pytest

from dropdiag.titles import cut, lines, short, span


def test_a_name_that_fits_stays():
    assert short(["encoder.layers.0.fc1", "head"], 20) == {
        "encoder.layers.0.fc1": "encoder.layers.0.fc1",
        "head": "head",
    }


def test_what_all_share_is_cut_from_the_front_as_far_as_it_must():
    names = [f"encoder.layers.{i}.mlp.fc{j}:gelu" for i in range(12) for j in (1, 2)]
    assert short(names, 25)["encoder.layers.11.mlp.fc1:gelu"] == "…layers.11.mlp.fc1:gelu"
    assert short(names, 18)["encoder.layers.11.mlp.fc2:gelu"] == "…11.mlp.fc2:gelu"
    assert short(names, 5)["encoder.layers.11.mlp.fc2:gelu"] == "…11…fc2:gelu"  # no shorter: each word tells


def test_a_word_that_tells_is_kept_wherever_it_stands():
    names = [f"{side}coder.layers.{i}.mlp.fc:gelu" for side in ("en", "de") for i in range(3)]
    assert short(names, 12)["decoder.layers.1.mlp.fc:gelu"] == "decoder…1…gelu"


def test_underscores_part_words_too():
    assert short(["very_long_name_of_block_one", "very_long_name_of_block_two"], 10)["very_long_name_of_block_one"] == (
        "…block_one"
    )


@pytest.mark.parametrize("seed", range(30))
def test_no_two_titles_are_alike(seed):
    rng = random.Random(seed)
    words = ["a", "b", "enc", "layer_x", "fc1:relu", "a.b"]
    names = {".".join(rng.choice(words) for _ in range(rng.randint(1, 6))) for _ in range(40)}
    for width in (1, 6, 15):
        made = short(names, width)
        assert made.keys() == names
        assert len(set(made.values())) == len(names)
        # what is left is a part of the name, with its gaps marked
        assert all(len(made[name]) <= len(name) or made[name] == name for name in names)


def test_lines_are_broken_after_a_separator_and_lose_nothing():
    broken = lines("encoder.layers.11.feed_forward.activation (call 2)", 18)
    assert broken == "encoder.layers.11.\nfeed_forward.\nactivation (call\n2)"
    assert lines("a" * 5, 2) == "aa\naa\na"


@pytest.mark.parametrize("width", [8, 18, 40])
@pytest.mark.parametrize(
    "names",
    [
        [f"the same beginning of every name, {i} of them, the same end as well" for i in range(40)],
        [f"{'x' * 60}{i}{'y' * 60}" for i in range(120)],
        [f"{i}{'x' * 90}" for i in range(12)] + [f"{'x' * 90}{i}" for i in range(12)],
        ["aaaa" * k for k in range(1, 30)],
        [f"辍学正则化的条件编号{i}的很长的名字以及更多的字" for i in range(12)],
        ["a" * 30 + "b" * 30, "a" * 31 + "b" * 29, "a" * 29 + "b" * 31],
        ["", "a", "a" * 100],
    ],
)
def test_cut_names_stay_different(names, width: int) -> None:
    made = cut(names, width)
    assert list(made) == names
    assert len(set(made.values())) == len(set(names))
    for name, title in made.items():
        assert title == name if span(name) <= width else len(title) <= len(name)
        # what is left stands in the name, in its order
        at = 0
        for piece in title.split("…"):
            at = name.index(piece, at) + len(piece)


def test_cut_names_fit_where_they_can() -> None:
    names = [f"the same beginning of every name, {i} of them, the same end as well" for i in range(40)]
    assert max(map(span, cut(names, 18).values())) <= 18
    assert cut(["a" * 10 + "b" * 10], 9) == {"a" * 10 + "b" * 10: "aaaa…bbbb"}
    assert cut(["辍学" * 10], 9) == {"辍学" * 10: "辍学…辍学"}
    assert span("é") == span("e\u0301") == 1
