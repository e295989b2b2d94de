"""Write the bill of materials, as CycloneDX 1.6 JSON: `make sbom`.

It names what the lock pins (the hashes of its files; who asks for it; `scope`: required by dropdiag, optional for an
extra, excluded where only development needs it), the report's JavaScript with what is bundled into it, and the
sample of images that is in the package. It is made from these files alone, so the same ones give the same bill.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import direct
import locked
import vendored

Json = dict[str, Any]
SAMPLE: Final = locked.ROOT / "dropdiag" / "experiments" / "data" / "mnist_sample"


def names(requirements: Iterable[str]) -> set[str]:
    """Return the packages' names of requirements, as the lock writes them."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", one, maxsplit=1)[0]).lower() for one in requirements}


def scopes() -> dict[str, str]:
    """Return of each name whether dropdiag or one of its extras needs it."""
    found = json.loads(locked.SCOPES.read_text(encoding="utf-8"))
    return {name: scope for scope in ("required", "optional") for name in found[scope]}


def sha256(content: str) -> Json:
    return {"alg": "SHA-256", "content": content.removeprefix("sha256:")}


def python_package(pin: locked.Pin, scope: str) -> Json:
    purl = f"pkg:pypi/{pin.name}@{quote(pin.version)}"
    files = {
        "type": "distribution", "url": purl, "comment": "any of the files of this version, one a platform",
        "hashes": [sha256(one) for one in pin.hashes],
    }  # fmt: skip
    found = {
        "type": "library", "bom-ref": purl, "name": pin.name, "version": pin.version, "scope": scope, "purl": purl,
        "externalReferences": [files],
    }  # fmt: skip
    return found | ({"properties": [{"name": "dropdiag:marker", "value": pin.marker}]} if pin.marker else {})


def file(path: str, digest: str) -> Json:
    return {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [sha256(digest)]}


def npm_purl(name: str, version: str | None = None) -> str:
    return f"pkg:npm/{quote(name)}" + (f"@{version}" if version else "")


def licence(expression: str) -> list[Json]:
    return [{"expression": expression}]


def javascript(package: Json) -> Json:
    """Return the component of one vendored package, with its files and what is bundled into it inside."""
    purl = npm_purl(package["name"], package["version"])
    digest = base64.b64decode(package["integrity"].removeprefix("sha512-")).hex()
    bundled = [
        {"type": "library", "bom-ref": f"{purl}#{one['name']}", "name": one["name"], "purl": npm_purl(one["name"]),
         "licenses": licence(one["licence"])}
        for one in package["bundled"]
    ]  # fmt: skip
    files = [file(f"dropdiag/report/vendor/{one['path']}", one["sha256"]) for one in package["files"]]
    archive = {"type": "distribution", "url": purl, "hashes": [{"alg": "SHA-512", "content": digest}]}
    return {
        "type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl,
        "scope": "required", "licenses": licence(package["licence"]), "externalReferences": [archive],
        "components": [*files, *bundled],
    }  # fmt: skip


def sample() -> Json:
    """Return the component of the images that are in the package."""
    paths = sorted(path for path in SAMPLE.iterdir() if path.is_file())
    files = [
        (path.relative_to(locked.ROOT).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths
    ]
    return {
        "type": "data", "bom-ref": "data:mnist_sample", "name": "mnist_sample", "scope": "required",
        "components": [file(*one) for one in files],
    }  # fmt: skip


def dependencies(root: str, pins: list[locked.Pin], others: list[Json]) -> list[Json]:
    """Return who asks for what: dropdiag (with all extras) and each package."""
    project = direct.project()
    asked = names(direct.requirements(*project["project"]["optional-dependencies"]))
    asked |= names(project["dependency-groups"]["bootstrap"])
    refs = {pin: python_package(pin, "required")["bom-ref"] for pin in pins}
    own = [refs[pin] for pin in pins if pin.name in asked] + [one["bom-ref"] for one in others]
    edges = [
        {"ref": refs[pin], "dependsOn": sorted(refs[one] for one in pins if pin.name in one.askers)} for pin in pins
    ]
    return [{"ref": root, "dependsOn": sorted(own)}, *edges]


def bill() -> Json:
    """Return the whole bill of materials."""
    pins = sorted({(pin.name, pin.version): pin for pin in [*locked.pins(locked.BOOTSTRAP), *locked.pins()]}.items())
    kept = [pin for _, pin in pins]
    project, scope = direct.project()["project"], scopes()
    version = direct.version()
    root = f"pkg:pypi/{project['name']}@{version}"
    others = [*map(javascript, vendored.manifest()), sample()]
    own = {
        "type": "library", "bom-ref": root, "name": project["name"], "version": version, "purl": root,
        "licenses": licence(project["license"]),
    }  # fmt: skip
    found = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": own},
        "components": [*(python_package(pin, scope.get(pin.name, "excluded")) for pin in kept), *others],
        "dependencies": dependencies(root, kept, others),
    }  # fmt: skip
    return {**found, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(found))}"}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
