"""HTML from templates: one way for reports and notebooks."""

from __future__ import annotations

from functools import cache

import jinja2


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
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)
