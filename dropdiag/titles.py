"""Short titles of layers for people to read: what all of them share is cut, what tells one from another never."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

CUT: Final = "…"
_WORDS: Final = re.compile(r"[^._: ]*[._: ]|[^._: ]+")
_PIECES: Final = re.compile(rf"[^._: {CUT}]*[._: {CUT}]|[^._: {CUT}]+")


def short(names: Iterable[str], width: int) -> dict[str, str]:
    """Shorten names to a width, where that is possible without making two of them alike.

    Parameters
    ----------
    names : iterable of str
        All that are shown together.
    width : int
        Longest title that is wanted, in characters.

    Returns
    -------
    dict of str to str
        Name -> title. A name that is not longer stays as it is. Of a longer one go, from the front, the words that the
        words before them determine among all names; each gap is an ellipsis. What is left may be longer than ``width``.
    """
    split = {name: _WORDS.findall(name) for name in dict.fromkeys(names)}
    telling = _telling(split.values())
    made = {name: _cut(words, telling[tuple(words)], width) for name, words in split.items()}
    times = Counter(made.values())
    return {name: title if times[title] == 1 else name for name, title in made.items()}


def _telling(names: Iterable[Sequence[str]]) -> dict[tuple[str, ...], list[bool]]:
    """Tell of each word of each name whether another could stand in its place, after the words before it."""
    followers: dict[tuple[str, ...], set[str]] = {}
    every = [tuple(words) for words in names]
    for words in every:
        for place in range(len(words) + 1):
            # a name that ends here is told from one that goes on
            followers.setdefault(words[:place], set()).add(words[place] if place < len(words) else "")
    return {words: [len(followers[words[:place]]) > 1 for place in range(len(words))] for words in every}


def _cut(words: Sequence[str], telling: Sequence[bool], width: int) -> str:
    """Leave out words that tell nothing, from the front, until the title fits."""
    kept = [True] * len(words)
    for place in range(len(words) - 1):  # the last word says what a layer is, whether it tells or not
        if len(_joined(words, kept)) <= width:
            break
        kept[place] = telling[place]
    return _joined(words, kept)


def _joined(words: Sequence[str], kept: Sequence[bool]) -> str:
    parts = [word if keep else CUT for word, keep in zip(words, kept, strict=True)]
    return re.sub(f"[._: ]?{CUT}+", CUT, "".join(parts))  # a dot before three dots would be a fourth


def lines(title: str, width: int) -> str:
    """Break a title into lines, after a dot, a colon, an underscore or a gap where there is one."""
    found = [""]
    words = [textwrap.wrap(word, width, drop_whitespace=False) for word in _PIECES.findall(title)]
    for word in chain.from_iterable(words):
        if found[-1] and len(found[-1]) + len(word) > width:
            found.append("")
        found[-1] += word
    return "\n".join(line.rstrip(" ") for line in found)
