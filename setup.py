"""What pyproject.toml cannot say: compiled loops are optional, and the README's links are absolute on an index."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Final

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT: Final = Path(__file__).parent
SOURCES: Final = ("_native.c", "_masks.c", "_sampling.c", "_statistics.c")
# a link or picture of Markdown whose target is a path in this repository
LINK: Final = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<path>[^)\s]+)\)")


def absolute(readme: str, home: str) -> str:
    """Return the README with links that lead to the repository from wherever it is shown."""
    raw = home.replace("//github.com/", "//raw.githubusercontent.com/")

    def target(link: re.Match[str]) -> str:
        start = f"{raw}/main" if link["mark"] else f"{home}/blob/main"
        return f"{link['mark']}[{link['text']}]({start}/{link['path']})"

    return LINK.sub(target, readme)


def extensions() -> list[Extension]:
    """Return the compiled loops; none where the environment asks for a wheel of Python alone."""
    if os.environ.get("DROPDIAG_PURE"):
        return []
    folder = "dropdiag/sketches"
    return [
        Extension(
            f"{folder.replace('/', '.')}._native",
            sources=[f"{folder}/{name}" for name in SOURCES],
            depends=[f"{folder}/_native.h"],
            extra_compile_args=["/O2"] if sys.platform == "win32" else ["-O3"],
            py_limited_api=True,
            optional=True,
        )
    ]


class Wheel(bdist_wheel):
    """A wheel that says it is for every machine where no compiler was there to make it one for this machine."""

    def run(self) -> None:
        """Compile first: only then it is known which kind of wheel it is."""
        if self.distribution.has_ext_modules():
            built: Any = self.get_finalized_command("build_ext")
            self.run_command("build_ext")
            if not any(Path(path).exists() for path in built.get_outputs()):
                self.distribution.ext_modules = []
                self.root_is_pure = True
                # these have chosen their folders for a platform's wheel; they choose again
                for name in ("build", "build_ext", "build_py", "install", "install_lib"):
                    self.distribution.command_obj.pop(name, None)
                    self.distribution.have_run.pop(name, None)
        super().run()


def home() -> str:
    """Return the address of the repository, which pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # Python 3.10 has no reader of TOML
    found = re.search(r'^Source = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("pyproject.toml has no line 'Source = \"...\"' under [project.urls]")
    return found[1]


if __name__ == "__main__":
    setup(
        long_description=absolute((ROOT / "README.md").read_text(encoding="utf-8"), home()),
        long_description_content_type="text/markdown",
        ext_modules=extensions(),
        cmdclass={"bdist_wheel": Wheel},
    )
