"""Execute the notebooks and keep their outputs: `notebooks.py [--check] [NAME ...]`.

A notebook is its `.py` (jupytext's percent format), which is what is edited; the `.ipynb` beside it is made from it
here, with outputs. With ``--check`` nothing is written: it fails where one does not run, warns, or differs from its
`.py`. Each runs in a fresh kernel of the Python that runs this, whatever kernels are installed, in an empty folder.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jupytext
import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

FOLDER: Final = Path(__file__).parents[1] / "notebooks"
METADATA: Final[dict[str, Any]] = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_SECONDS: Final = 300
COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


class ThisPython(KernelSpecManager):
    """The kernel of the interpreter that runs this, under any name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002, D102 - jupyter's method
        return KernelSpec(**get_kernel_dict())  # its "python" is replaced by sys.executable


class Kernel(AsyncKernelManager):
    """A kernel that no installed kernelspec has a say in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, kernel_spec_manager=ThisPython())


def source(path: Path) -> NotebookNode:
    """Return the notebook that a `.py` describes: no outputs, and metadata and ids that never change by themselves."""
    found = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    made = nbformat.v4.new_notebook(metadata=METADATA)
    for number, cell in enumerate(found.cells, start=1):
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        made.cells.append(new(cell.source, id=f"cell-{number}"))
    return made


def execute(notebook: NotebookNode) -> None:
    """Run every cell, in a folder of its own, and keep what each shows."""
    environment = {name: value for name, value in os.environ.items() if name != "DROPDIAG_DATA"}
    root = str(FOLDER.parent)  # the tree that this file is of, where another one is installed
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, environment.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = {"cwd": folder, "env": {**environment, "TMPDIR": folder}}
        client = NotebookClient(
            notebook, timeout=CELL_SECONDS, kernel_manager_class=Kernel, record_timing=False, coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],  # it warns that on this machine nothing is encrypted
        )  # fmt: skip
        client.execute(**options)
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            _small(output)


def _small(output: NotebookNode) -> None:
    """Keep of a figure its picture, in 64 colours: a quarter of the bytes, and no difference to see."""
    data = output.get("data", {})
    if "image/png" not in data:
        return
    output["data"] = {"image/png": _quantised(data["image/png"])}
    output["metadata"] = {}


def _quantised(png: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        small = image.convert("RGB").quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def complaints(notebook: NotebookNode) -> Iterator[str]:
    """Yield what was written to standard error: a warning that every reader would meet."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                yield f"{cell.id} writes to standard error: {output['text'].strip()}"


def differences(made: NotebookNode, path: Path) -> Iterator[str]:
    """Yield what the `.ipynb` that is kept has other cells in than its `.py`."""
    if not path.exists():
        yield f"{path.name} is missing; run `make notebooks`"
        return
    kept = nbformat.read(path, as_version=4)
    if [(c.cell_type, c.source) for c in kept.cells] != [(c.cell_type, c.source) for c in made.cells]:
        yield f"{path.name} has other cells than its .py; run `make notebooks`"


def run(path: Path, *, check: bool) -> list[str]:
    """Execute one notebook; write it, or only look at it. Return what is wrong."""
    notebook, kept = source(path), path.with_suffix(".ipynb")
    begun = time.perf_counter()
    try:
        execute(notebook)
    except CellExecutionError as error:
        return [COLOURS.sub("", str(error))]
    wrong = list(complaints(notebook))
    if check:
        wrong += differences(notebook, kept)
    elif not wrong:
        nbformat.validate(notebook)
        kept.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    size = len(nbformat.writes(notebook).encode()) / 1000
    sys.stdout.write(f"{path.stem}: {time.perf_counter() - begun:.0f} s, {size:.0f} kB\n")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks, such as 01-ten-minutes; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing: fail on errors and on outdated notebooks")
    asked = parser.parse_args()
    known = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
    if unknown := set(asked.names) - set(known):
        parser.error(f"no notebook is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wrong = {name: run(known[name], check=asked.check) for name in asked.names or known}
    for name, found in wrong.items():
        for one in found:
            sys.stderr.write(f"{name}: {one}\n")
    return int(any(wrong.values()))


if __name__ == "__main__":
    raise SystemExit(main())
