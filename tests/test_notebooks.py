from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cells(name: str, kind: str) -> list[str]:
    notebook = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def last_value(source: str, scope: dict):
    """Run a cell as a notebook does: its last line, if an expression, is what is shown."""
    *before, last = source.splitlines()
    try:
        code = compile(last, "cell", "eval")
    except SyntaxError:
        exec(compile(source, "cell", "exec"), scope)  # noqa: S102
        return None
    exec(compile("\n".join(before), "cell", "exec"), scope)  # noqa: S102
    return eval(code, scope)  # noqa: S307


def test_quickstart_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("DROPDIAG_DATA", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scope: dict = {}
    shown = [last_value(source, scope) for source in cells("quickstart.ipynb", "code")]
    assert len([value for value in shown if isinstance(value, Figure)]) == 5
    table = next(value for value in shown if hasattr(value, "columns") and "ratio" in value)
    assert table["seeds"].eq(2).all()
    accuracies = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines() if ", seed " in line]
    assert len(accuracies) == 4
    assert min(accuracies) > 0.85


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_outputs_are_cleared(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
