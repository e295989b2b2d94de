"""Names from right to left are set apart, and everything is escaped."""

from __future__ import annotations

import pytest

from dropdiag.pages import isolating, turned

HEBREW, ARABIC = "השמטה 0.5 (בסיס)", "تسرب"


@pytest.mark.parametrize("text", [HEBREW, f"x {ARABIC}", "a\u202eb", "\u200f"])
def test_what_turns_a_line_around(text):
    assert turned(text)


@pytest.mark.parametrize("text", ["", "Dropout", "随机失活", "エンコーダ", "×1.5 [−2, 3]", "Größe", "😀"])
def test_what_does_not(text):
    assert not turned(text)
    assert str(isolating([])(text)) == text


def test_a_known_name_is_set_apart_from_the_words_around_it():
    named = isolating([HEBREW, ARABIC, "Dropout"])
    assert (
        str(named(f"{HEBREW} × 3 and {ARABIC}, Dropout")) == f"<bdi>{HEBREW}</bdi> × 3 and <bdi>{ARABIC}</bdi>, Dropout"
    )


def test_a_name_within_a_longer_one_is_not_cut_out_of_it():
    named = isolating([ARABIC, f"{ARABIC} 2"])
    assert str(named(f"{ARABIC} 2: {ARABIC}.")) == f"<bdi>{ARABIC} 2</bdi>: <bdi>{ARABIC}</bdi>."


def test_a_text_that_nobody_named_is_set_apart_as_a_whole():
    assert str(isolating(["Dropout"])(HEBREW)) == f"<bdi>{HEBREW}</bdi>"


def test_everything_is_escaped():
    evil = f"<b>{ARABIC}&\"'"
    escaped = f"&lt;b&gt;{ARABIC}&amp;&#34;&#39;"
    assert str(isolating([evil])(f"<i>{evil}")) == f"&lt;i&gt;<bdi>{escaped}</bdi>"
    assert str(isolating([])("<b>")) == "&lt;b&gt;"
    assert str(isolating([])(evil)) == f"<bdi>{escaped}</bdi>"
    assert str(isolating(["a.c" + ARABIC])(f"abc{ARABIC}")) == f"<bdi>abc{ARABIC}</bdi>", "a name is no pattern"
