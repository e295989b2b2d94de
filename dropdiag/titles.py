"""Short titles of layers for people to read: what all of them share is cut, what tells one from another never."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
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


def span(text: str) -> int:
    """Width of a text in columns of a terminal: two for each wide letter (Chinese, an emoji), none for accents."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(names: Iterable[str], width: int) -> dict[str, str]:
    """Cut names to a width, where that is possible without making two of them alike.

    Parameters
    ----------
    names : iterable of str
        All that are shown together.
    width : int
        In columns (`span`).

    Returns
    -------
    dict of str to str
        Name -> title. A name that is not wider stays as it is. Of a wider one goes the middle; where two would then
        look the same, what they share goes in its place. Names that no cut to this width tells apart stay whole.
    """
    known = list(dict.fromkeys(names))
    made = {name: _without_middle(name, width) for name in known}
    alike: dict[str, list[str]] = defaultdict(list)
    for name, title in made.items():
        alike[title].append(name)
    for group in alike.values():
        if len(group) > 1:
            others = {title for name, title in made.items() if name not in group}
            made |= next(found for found in _told_apart(group, width) if _all_differ(found, others))
    return made


def _all_differ(found: dict[str, str], others: set[str]) -> bool:
    return len(set(found.values())) == len(found) and not others & set(found.values())


def _told_apart(group: Sequence[str], width: int) -> Iterator[dict[str, str]]:
    """Yield titles of names that begin and end alike, better ones first; at last the names themselves."""
    first, last = _shared(group), _shared([name[::-1] for name in group])
    for words in (8, 4, 0):  # letters of what they share that are kept at each side of what tells them apart
        start, stop = max(first - words, 0), max(last - words, 0)
        cores = {name: name[min(start, len(name)) : max(len(name) - stop, start)] for name in group}
        found = {name: CUT * (start > 0) + core + CUT * (stop > 0) for name, core in cores.items()}
        if all(span(title) <= width for title in found.values()):
            yield found
    for share in (0.75, 0.25, 0.9, 0.1):
        yield {name: _without_middle(name, width, share) for name in group}
    yield {name: name for name in group}


def _shared(group: Sequence[str]) -> int:
    """Return how many letters all begin with."""
    return next(
        (i for i, letters in enumerate(zip(*group, strict=False)) if len(set(letters)) > 1), min(map(len, group))
    )


def _without_middle(name: str, width: int, share: float = 0.5) -> str:
    """Leave out the middle of a name that is wider than a width; ``share`` of the rest stands before the gap."""
    if span(name) <= width:
        return name
    room = max(width - 1, 2)
    head = _fitting(name, max(int(share * room), 1))
    return head + CUT + _fitting(name[::-1], room - span(head))[::-1]


def _fitting(text: str, width: int) -> str:
    """Return the longest beginning of a text that is not wider than a width."""
    end = 0
    while end < len(text) and span(text[: end + 1]) <= width:
        end += 1
    return text[:end]


def lines(title: str, width: int) -> str:
    """Break a title into lines, after a dot, a colon, an underscore or a gap where there is one."""
    found = [""]
    words = [textwrap.wrap(word, width, drop_whitespace=False) for word in _PIECES.findall(title)]
    for word in chain.from_iterable(words):
        if found[-1] and len(found[-1]) + len(word) > width:
            found.append("")
        found[-1] += word
    return "\n".join(line.rstrip(" ") for line in found)
