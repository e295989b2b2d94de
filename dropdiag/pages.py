"""HTML from templates: one way for reports and notebooks, whatever the direction in which a name is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from dropdiag.printable import printable, well_formed

_TURNED: Final = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Letters that are written from right to left, and the signs that turn a line around."""
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, but for the tab and the line end, which are gaps to a browser."""


@cache
def template(package: str, name: str) -> jinja2.Template:
    """Return a template of a package's folder ``templates``: what is filled in is escaped, and must be there.

    Parameters
    ----------
    package : str
        As in ``"dropdiag.report"``.
    name : str
        Of the file.

    Raises
    ------
    jinja2.TemplateNotFound
        If the package has no such template.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_visible,
    )  # fmt: skip
    return environment.get_template(name)


def _visible(value: Any) -> Any:
    # a browser shows them as boxes at best; who copies a name from a page into a terminal must not paste an escape
    return value if not isinstance(value, str) or isinstance(value, Markup) else _CONTROLS.sub(_escaped, value)


def _escaped(sign: re.Match[str]) -> str:
    return printable(sign[0])


def rendered(package: str, name: str, **content: Any) -> str:
    """Return a template, filled in: HTML that can be written as UTF-8, whatever a name holds.

    Parameters
    ----------
    package, name : str
        As for `template`.
    **content
        What is filled in.
    """
    return well_formed(template(package, name).render(**content))


def turned(text: str) -> bool:
    """Whether a text has letters from right to left in it, so that it reorders what stands beside it."""
    return not text.isascii() and _TURNED.search(text) is not None


def isolating(names: Iterable[str]) -> Callable[[Any], Markup]:
    """Return what escapes a text and sets the names in it apart, so that none reorders the words around it.

    A browser writes a name from right to left as one stretch with the numbers and brackets beside it: ``NAME × 3``
    would be read ``3 × NAME``. A ``<bdi>`` around the name keeps it to itself.

    Parameters
    ----------
    names : iterable of str
        Names that may stand in a text. Those that are written from left to right need nothing.

    Returns
    -------
    callable
        Text -> markup. What is written from right to left and is none of the names is set apart as a whole.
    """
    known = sorted({name for name in names if turned(name)}, key=len, reverse=True)  # a name may be part of another
    pattern = re.compile(f"({'|'.join(map(re.escape, known))})") if known else None

    def isolated(given: Any) -> Markup:
        text = _visible(str(given))
        if not turned(text):
            return escape(text)
        pieces = pattern.split(text) if pattern else [text]
        return Markup("").join(_apart(piece) if turned(piece) else escape(piece) for piece in pieces)

    return isolated


def _apart(text: str) -> Markup:
    return Markup("<bdi>{}</bdi>").format(text)
