"""Fetch the report's JavaScript from npm anew: `make vendor`, or `make vendor VENDOR=d3@7.9.3` for another version.

dropdiag/report/vendor/manifest.json says what is there: of each npm package its version, its licence, the integrity of
the published archive, the files taken from it with their SHA-256, and the packages that its publisher has bundled into
them (in which versions is not published). The files are the published ones, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "dropdiag" / "report" / "vendor"
MANIFEST: Final = FOLDER / "manifest.json"
BUNDLED: Final = "(bundled packages)"
NOT_BUNDLED: Final = {"commander", "iconv-lite", "rw", "safer-buffer"}  # of d3-dsv's command line

Package = dict[str, Any]


def manifest() -> list[Package]:
    """Return the vendored packages."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))["packages"]


def npm(*command: str, folder: Path) -> str:
    """Return what npm prints; the registry is the one that npm is set up for."""
    done = subprocess.run(["npm", *command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"npm {' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def integrity(content: bytes) -> str:
    """Return the digest by which npm names an archive."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def published(name: str, version: str) -> bytes:
    """Return the archive of a package as it is published."""
    with tempfile.TemporaryDirectory() as folder:
        told = json.loads(npm("pack", "--json", "--ignore-scripts", f"{name}@{version}", folder=Path(folder)))[0]
        content = (Path(folder) / told["filename"].replace("@", "").replace("/", "-")).read_bytes()
    if integrity(content) != told["integrity"]:
        raise OSError(f"{name} {version}: npm says {told['integrity']}, the archive is {integrity(content)}")
    return content


def member(archive: bytes, path: str) -> bytes:
    """Return one file of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = opened.extractfile(f"package/{path}")
        if found is None:
            raise OSError(f"package/{path} is no file of the archive")
        return found.read()


def bundled(package: Package) -> list[tuple[str, str, str]]:
    """Return name, licence and licence text of what a package is built from, in the order of the names."""
    own = {one["name"] for one in manifest()}
    with tempfile.TemporaryDirectory() as folder:
        spec = f"{package['name']}@{package['version']}"
        npm("install", "--ignore-scripts", "--no-save", "--no-package-lock", "--prefix", ".", spec, folder=Path(folder))
        modules = Path(folder) / "node_modules"
        found: dict[str, tuple[str, str]] = {}
        waiting = [package["name"]]
        for name in waiting:
            said = json.loads((modules / name / "package.json").read_text(encoding="utf-8"))
            found[name] = said["license"], (modules / name / "LICENSE").read_text(encoding="utf-8")
            waiting += [one for one in said.get("dependencies", {}) if one not in {*own, *NOT_BUNDLED, *waiting}]
    return [(name, *found[name]) for name in sorted(found) if name != package["name"]]


def licences(parts: list[tuple[str, str, str]]) -> bytes:
    """Return one text of all licences; one that several packages share stands there once."""
    names: dict[str, list[str]] = {}
    for name, _, text in parts:
        names.setdefault(text.strip(), []).append(name)
    return "\n\n".join(f"{', '.join(one)}\n\n{text}" for text, one in names.items()).encode() + b"\n"


def fetch(package: Package, version: str) -> dict[str, bytes]:
    """Return the files of a package in this version, and write into its entry what they are."""
    archive = published(package["name"], version)
    if version == package["version"] and integrity(archive) != package["integrity"]:
        raise OSError(f"npm has another {package['name']} {version} now than the vendored one; nothing is written.")
    package.update(version=version, integrity=integrity(archive))
    package["licence"] = json.loads(member(archive, "package.json"))["license"]
    parts = bundled(package)
    package["bundled"] = [{"name": name, "licence": licence} for name, licence, _ in parts]
    found = {}
    for file in package["files"]:
        content = licences(parts) if file["from"] == BUNDLED else member(archive, file["from"])
        file["sha256"], found[file["path"]] = hashlib.sha256(content).hexdigest(), content
    return found


def main(wanted: list[str]) -> None:
    """Fetch all packages, those named on the command line in the version named there, and then write them."""
    packages = manifest()
    versions = {one["name"]: one["version"] for one in packages} | dict(one.rsplit("@", 1) for one in wanted)
    if unknown := versions.keys() - {one["name"] for one in packages}:
        sys.exit(f"{', '.join(unknown)} is not vendored: add an entry to {MANIFEST.name} first.")
    contents: dict[str, bytes] = {}
    for package in packages:
        contents |= fetch(package, versions[package["name"]])
    for path, content in contents.items():
        (FOLDER / path).write_bytes(content)
    MANIFEST.write_text(json.dumps({"packages": packages}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
