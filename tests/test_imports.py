"""The namespace is explicit, imports run one way, and nobody pays for what they do not use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dropdiag as dd

PACKAGE = Path(dd.__file__).parent


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_every_public_name_is_there_and_listed():
    for name in dd.__all__:
        assert getattr(dd, name) is not None
        assert name in dir(dd)
    public = {n for n in vars(dd) if not n.startswith("_") and not hasattr(vars(dd)[n], "__path__")}
    assert public - set(dd.__all__) <= {"annotations", "import_module", "TYPE_CHECKING", "Any", *submodules()}


def submodules() -> set[str]:
    return {p.stem for p in PACKAGE.glob("*.py")}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        dd.no_such_name  # noqa: B018


def test_importing_dropdiag_imports_nothing_heavy():
    heavy = {"torch", "pandas", "pyarrow", "matplotlib", "seaborn", "scipy", "numpy"}
    assert not heavy & modules_after("import dropdiag")


def test_reading_and_drawing_need_no_torch():
    loaded = modules_after("import dropdiag as dd; dd.load; dd.Histogram; dd.plots.weights; dd.analysis.weights")
    assert "torch" not in loaded
    assert "matplotlib" in loaded


def test_recording_needs_no_drawing():
    loaded = modules_after("import dropdiag as dd; dd.Recorder; dd.GAAF")
    assert not {"pandas", "pyarrow", "matplotlib", "seaborn", "scipy"} & loaded


def test_modules_import_modules_and_no_packages_face():
    """A face runs the whole package, and makes cycles of what is none."""
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert "dropdiag" not in [alias.name for alias in node.names], path
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                for alias in node.names if (node.module or "").startswith("dropdiag") else ():
                    assert not is_of_a_face(str(node.module), alias.name), f"{path}: {node.module}.{alias.name}"


def is_of_a_face(package: str, name: str) -> bool:
    folder = PACKAGE.parent.joinpath(*package.split("."))
    submodules = {path.name.split(".")[0] for path in folder.iterdir()} if folder.is_dir() else {name}
    return name not in submodules
