"""A name in backquotes of a docstring is a link where the site documents it, and code where it does not."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref


def short(app: Any, env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Find what `Recorder.step`, `step` or a module's full path stands for; else show it as code.

    Nothing is resolved by guess: a short name counts only where one documented object bears it.
    """
    if node.get("refdomain") != "py" or node.get("reftype") not in {"obj", "class", "func", "meth", "mod"}:
        return None
    target, domain = node["reftarget"], env.domains["py"]
    last = target.rsplit(".", maxsplit=1)[-1]
    found = [name for name in domain.objects if name == target or name.endswith(f".{target}")]
    if not found and "." in target:  # the home of what is documented under its public name
        public = {name for name in domain.objects if name.rsplit(".", maxsplit=1)[-1] == last}
        found = [name for name in public if _same(name, target)]
    if len(found) == 1:
        entry = domain.objects[found[0]]
        return _link(app, node, entry.docname, entry.node_id)
    if node.get("reftype") == "obj":  # written in backquotes alone
        return nodes.literal(content.astext(), content.astext(), classes=["xref", "py"])
    return None


def _link(app: Any, node: pending_xref, docname: str, anchor: str) -> nodes.reference:
    uri = app.builder.get_relative_uri(node["refdoc"], docname) + f"#{anchor}"
    text = node.astext()
    return nodes.reference("", "", nodes.literal(text, text), internal=True, refuri=uri)


def _same(name: str, target: str) -> bool:
    from sphinx.ext.autosummary import ImportExceptionGroup, import_by_name  # noqa: PLC0415

    try:
        return import_by_name(name)[1] is import_by_name(target)[1]
    except (ImportError, ImportExceptionGroup):
        return False


def bars(_app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Let ``|r|`` of a docstring stand for itself: to reStructuredText it would be a substitution."""
    code = False
    for i, line in enumerate(lines):
        code = bool(line.strip()) and (code or line.lstrip().startswith(">>>"))
        if code:
            continue
        parts = line.split("``")
        lines[i] = "``".join(part if k % 2 else re.sub(r"(?<!\\)\|", r"\|", part) for k, part in enumerate(parts))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", bars, priority=900)
    app.connect("missing-reference", short)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
