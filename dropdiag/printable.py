r"""Names and messages that others wrote, as text that does nothing but stand there.

Run folders come from others, and a terminal obeys what it is sent: an escape sequence in a layer's name moves the
cursor, colours the screen, sets its title or makes a link. Whatever is not a letter, a sign or a gap is therefore
written as Python writes it in a string: ``\x1b``, ``\u202e``. Every error comes by here: it imports nothing.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
"""Letters and marks to Unicode that nobody sees."""
_HALVES: Final = re.compile("[\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Return a text with all that a terminal would obey, or that nobody would see, written as an escape.

    That is: control characters (of ASCII, DEL, C1), line and paragraph ends, signs that turn a line around, signs
    without width, halves of surrogate pairs (what Python makes of a file name that is no UTF-8), what Unicode does not
    know. Letters of all languages, emoji and gaps stay. A text that was made printable stays as it is.

    Parameters
    ----------
    text : object
        Its ``str``.

    Examples
    --------
    >>> printable("layer\x1b[2J")
    'layer\\x1b[2J'
    """
    said = str(text)
    if said.isascii() and said.isprintable():
        return str.__str__(said)
    return "".join(sign if _stands(sign) else _escaped(sign) for sign in said)


def bare(text: str, instead: str = "-") -> str:
    """Return a text with one sign in place of each that `printable` escapes: for a name, which an escape clutters.

    Parameters
    ----------
    text, instead : str
    """
    return "".join(sign if _stands(sign) else instead for sign in text)


def well_formed(text: str) -> str:
    r"""Return a text that can be encoded as UTF-8: in the place of what is no character stands an escape.

    Parameters
    ----------
    text : str
        Names of files that are no UTF-8 have lone surrogates in Python, which cannot be written anywhere: of the byte
        0xff it becomes ``\xff``, of any other half of a character ``\ud800``.
    """
    return text if text.isascii() else _HALVES.sub(_half, text)


def _half(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _stands(sign: str) -> bool:
    return sign not in _BLANK if sign.isprintable() else category(sign) == "Zs"


def _escaped(sign: str) -> str:
    return well_formed(sign) if category(sign) == "Cs" else sign.encode("unicode_escape").decode("ascii")
