"""Which build of a pinned version pip would take here.

Some indexes offer torch for CPUs alone, as `2.13.0+cpu`, which pip takes for `==2.13.0` before the published file: that
spares gigabytes of CUDA. Told hashes it no longer does: it prefers files whose hash the index states, and a folder of
wheels states none. So it is asked without hashes which version it would take, and then told to install just that one,
with the hashes again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

OTHER_BUILDS: Final = ("torch", "torchvision")


@dataclass(frozen=True)
class Build:
    """One build of a package, and the hash of its file."""

    name: str
    version: str
    hash: str


def offered(name: str, version: str) -> Build | None:
    """Return what pip would take, None where there is no file for this platform and Python; nothing is installed."""
    asked = ("--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--report", "-")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *asked, f"{name}=={version}"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    (item,) = json.loads(done.stdout)["install"]
    digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
    return Build(name, item["metadata"]["version"], f"sha256:{digest}")
