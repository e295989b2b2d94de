"""The JSON schema of ``run.json`` and ``rank.json``, made from the model: ``docs/run.schema.json`` is a copy of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from dropdiag.store.door.model import Run
from dropdiag.store.schema import READABLE

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of ``run.json``, in the dialect 2020-12.

    It says of types, ranges and what may be left out. Not of what no JSON schema can: that times are times, that `next`
    of the chain points into it, how large the whole may be (`dropdiag.store.limits`).
    """
    (made,), components = msgspec.json.schema_components([Run], ref_template="#/$defs/{name}")
    described = components.pop("Run")
    described["properties"]["schema"] = {"enum": list(READABLE)}
    return {
        "$schema": DIALECT, "title": "run.json and rank.json of a dropdiag run",
        **{key: value for key, value in described.items() if key != "title"}, **made_of(made), "$defs": components,
    }  # fmt: skip


def made_of(reference: dict[str, Any]) -> dict[str, Any]:
    """Return what stands beside the reference to the whole, which is replaced by what it refers to."""
    return {key: value for key, value in reference.items() if key != "$ref"}


def text() -> str:
    """Return it as the file has it."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(text())
