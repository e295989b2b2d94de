"""Bring the lock up to date with pyproject.toml: `make lock`.

Versions that still fit stay as they are; `make lock LOCK='--upgrade-package rich'` or `LOCK=--upgrade` brings newer
ones. Hashes come from the index, each time anew: one of every file of a version, for all platforms. The hash of another
build of torch that pip would take here (builds.py) is added to those of the published files, and those that were added
elsewhere stay as long as the version does. Such a one is known from where pip found it alone: look at it in the diff.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from builds import OTHER_BUILDS, offered
from direct import project
from locked import BOOTSTRAP, LOCK, ROOT, SCOPES, pins

COMPILE: Final = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-python-downloads")
HASHES: Final = ("--generate-hashes", "--custom-compile-command", "make lock")
FOR_DEVELOPMENT: Final = {"dev", "bench", "integrations", "docs", "notebooks", "package"}


def run(*command: str) -> str:
    """Return what a tool of this environment prints."""
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed ({done.returncode}); its message is above. The lock is not complete.")
    return done.stdout


def compiled(path: Path, *options: str) -> None:
    """Compile a lock; its versions are kept, its hashes are asked of the index anew."""
    kept = "\n".join(f"{pin.name}=={pin.version}" + (f" ; {pin.marker}" if pin.marker else "") for pin in pins(path))
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / path.name
        new.write_text(kept + "\n", encoding="utf-8")
        run(*COMPILE, *HASHES, *options, "--output-file", str(new))
        path.write_text(new.read_text(encoding="utf-8"), encoding="utf-8")


def hashes(name: str) -> dict[str, tuple[str, ...]]:
    """Return the hashes of each version of a package that the lock holds."""
    return {pin.version: pin.hashes for pin in pins() if pin.name == name}


def insert(name: str, version: str, more: list[str]) -> None:
    """Write further hashes of a version into the lock, before those it has."""
    lines = "".join(f"    --hash={one} \\\n" for one in more)
    head = re.compile(rf"^{name}=={re.escape(version)}( ;.*)? \\\n", re.MULTILINE)
    LOCK.write_text(head.sub(lambda found: found[0] + lines, LOCK.read_text(encoding="utf-8")), encoding="utf-8")


def add_other_builds(before: dict[str, dict[str, tuple[str, ...]]]) -> None:
    """Add the hashes of other builds to the published ones: those that were there, and the one that pip finds here."""
    for name in OTHER_BUILDS:
        for version, published in hashes(name).items():
            build = offered(name, version)
            found = {*before[name].get(version, ()), *([build.hash] if build else ())}
            insert(name, version, sorted(found.difference(published)))


def names(*options: str) -> list[str]:
    """Return the names of all packages of the lock that dropdiag needs, with these options of uv."""
    printed = run(*COMPILE, *options, "--no-annotate", "--no-header", "--constraint", LOCK.name, "pyproject.toml")
    return sorted({line.split("==")[0] for line in printed.splitlines() if "==" in line})


def scopes() -> dict[str, list[str]]:
    """Return what dropdiag needs at least, and what its extras need beside, but for those of its development."""
    extras = project()["project"]["optional-dependencies"].keys() - FOR_DEVELOPMENT
    required = names()
    options = [part for extra in sorted(extras) for part in ("--extra", extra)]
    return {"required": required, "optional": sorted({*names(*options)}.difference(required))}


def relock(options: list[str]) -> None:
    """Compile both files anew, keep the hashes of other builds, note what is needed for what."""
    before = {name: hashes(name) for name in OTHER_BUILDS}
    compiled(BOOTSTRAP, *options, "--group", "bootstrap")
    compiled(LOCK, *options, "--all-extras", "--constraint", str(BOOTSTRAP.relative_to(ROOT)), "pyproject.toml")
    add_other_builds(before)
    SCOPES.write_text(json.dumps(scopes(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    relock(sys.argv[1:])
