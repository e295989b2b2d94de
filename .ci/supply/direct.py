"""Print what dropdiag asks for, with the extras named on the command line: `direct.py dev bench`.

pip can check hashes of what it downloads, but not of a folder, so `pip install --require-hashes '.[dev]'` is refused:
the requirements of `.[dev]` are installed by their names, dropdiag itself after them without any.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from builds import OTHER_BUILDS, offered
from locked import ROOT, pins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN_EXTRAS: Final = re.compile(r"dropdiag\[([^\]]+)\]")


def project() -> dict[str, Any]:
    """Return what pyproject.toml holds."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def version() -> str:
    """Return dropdiag's own version, which stands in its code."""
    text = (ROOT / "dropdiag" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)[0]


def requirements(*extras: str) -> list[str]:
    """Return the requirements of dropdiag and of these extras, those of an extra within an extra as well."""
    table = project()["project"]
    found, waiting = list(table["dependencies"]), list(extras)
    for extra in waiting:
        for requirement in table["optional-dependencies"][extra]:
            own = OWN_EXTRAS.fullmatch(requirement)
            (waiting if own else found).extend(own[1].split(",") if own else [requirement])
    return list(dict.fromkeys(found))


def other_builds() -> list[str]:
    """Return the requirement of each build that pip would take here in the place of a published one."""
    pinned = [(pin.name, pin.version) for pin in pins() if pin.name in OTHER_BUILDS]
    found = [offered(*one) for one in pinned]
    return [f"{build.name}=={build.version}" for build in found if build and "+" in build.version]


if __name__ == "__main__":
    sys.stdout.write("\n".join([*requirements(*sys.argv[1:]), *other_builds()]) + "\n")
