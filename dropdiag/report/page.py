"""One HTML file that needs no other, no network, and nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from dropdiag.errors import ArgumentError
from dropdiag.pages import rendered
from dropdiag.report.appearances import dark_palette, palette
from dropdiag.report.binary import safe_json
from dropdiag.report.data import Content, gather
from dropdiag.store.new_files import new_file

SCRIPTS: Final = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "templates/data.js", "templates/names.js",
                  "templates/drawing.js", "templates/chart.js", "templates/sections.js", "templates/effects.js",
                  "templates/page.js")  # fmt: skip
TITLE: Final = "What the runs say"


def report(
    runs: Any,
    path: str | Path,
    *,
    title: str | None = None,
    baseline: str | None = None,
    layers: Sequence[str] | None = None,
    claims: Mapping[str, Any] | None = None,
) -> Path:
    """Write one self-contained HTML page about runs: verdicts, figures, tables, coverage, cost.

    Parameters
    ----------
    runs : Run, Runs or Comparison
        Runs as `dropdiag.load` returns them are compared first (`dropdiag.compare`), where they have two conditions
        or more. A Comparison is taken as it is.
    path : path
        The file; its folder is made. A file that is there is replaced, whole and at once.
    title : str, optional
        Heading of the page.
    baseline : str, optional
        Condition that effects refer to; by default as in `dropdiag.compare`. Where that cannot tell, nothing is
        compared and the page asks for it.
    layers : sequence of str, optional
        All, or these.
    claims : mapping of str to object, optional
        Options of `Comparison.claims`, such as ``{"gaaf": "GAAF", "scalar": "validation_accuracy"}``: which
        conditions play dropout and GAAF where their names do not tell, and what the rules leave open.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ArgumentError
        If ``runs`` is neither runs nor a comparison, ``path`` is a folder, a layer or the baseline does not exist,
        or claims have no such option or condition.

    Notes
    -----
    The page opens from ``file://`` and asks for nothing over the network; its figures need a browser of 2023 or later,
    its verdicts and tables any. Lines are means over seeds, bands one standard deviation over seeds. Distributions are
    re-binned from the recorded bins. Beyond about 1.3 million bars of one quantity, steps are left out, evenly, and the
    page says so. Quantities that no run holds are named at the end, with the reason.

    Examples
    --------
    >>> dd.report(runs, "report.html").name
    'report.html'
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise ArgumentError(f"{str(path)!r} is a folder; give the file to write, such as {str(file / 'report.html')!r}")
    text = render(gather(runs, baseline=baseline, layers=layers, claims=claims), title=title)
    file.parent.mkdir(parents=True, exist_ok=True)
    # whole or not at all: a browser that reloads never sees half a page
    with new_file(file) as out:
        out.write(text.encode("utf-8"))
    return file


def render(content: Content, *, title: str | None = None, live: int | None = None, version: str = "") -> str:
    """Return the page's HTML.

    Parameters
    ----------
    content : Content
    title : str, optional
    live : int, optional
        Milliseconds after which a served page asks whether it has changed; None for a file.
    version : str
        Of a served page.
    """
    # each script is inlined as it is, without a build step, so that the policy can name it by its hash
    scripts = [Markup(source) for source in _scripts()]  # noqa: S704 - files of this package
    return rendered(
        "dropdiag.report", "report.html.j2",
        content=content,
        title=title or TITLE,
        css=Markup(_text("templates/report.css")),  # noqa: S704 - a file of this package
        light=palette(),
        dark=dark_palette(),
        named=content.isolating(),
        policy=policy(connect=live is not None),
        scripts=scripts,
        meta=Markup(safe_json(content.figures)),  # noqa: S704 - safe_json leaves no sign that ends a script
        blob=Markup(content.blob.text()),  # noqa: S704 - base64
        live=live,
        version=version,
    )  # fmt: skip


def policy(*, connect: bool) -> str:
    """Return the content security policy: the page's own scripts by their hash, and no address but its own."""
    digests = [base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode() for source in _scripts()]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    own = "'self'" if connect else "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {own}; base-uri 'none'; form-action 'none'"
    )


@cache
def _scripts() -> tuple[str, ...]:
    return tuple(f"\n{_text(name)}\n" for name in SCRIPTS)


@cache
def _text(name: str) -> str:
    return files("dropdiag.report").joinpath(name).read_text(encoding="utf-8")
