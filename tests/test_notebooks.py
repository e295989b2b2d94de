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


@pytest.fixture
def which_rate(monkeypatch, tmp_path):
    """Return what runs the notebook with so many seeds, and gives what its cells show."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(seeds):
        scope: dict = {}
        few = {"seeds=5": f"seeds={seeds}", "range(100, 105)": f"range(100, {100 + seeds})"}
        shown = []
        for source in cells("which-rate.ipynb", "code"):
            for old, new in few.items():
                source = source.replace(old, new)  # noqa: PLW2901
            shown.append(last_value(source, scope))
        return scope, shown

    return run


def test_a_rate_is_swept_advised_and_checked(which_rate):
    scope, shown = which_rate(2)
    assert len([value for value in shown if isinstance(value, Figure)]) == 1
    sweep, advice, final = scope["sweep"], scope["advice"], scope["final"]
    assert sweep.table["seeds"].eq(2).all()
    assert not sweep.failed
    best = advice.rates.best
    means = sweep.table.set_index("condition")["validation accuracy"]
    assert means[best] == means.max()
    assert final.shape == (2, 3)
    assert not {0, 1} & set(final.index)
    other = next(name for name in final if name != best)
    expected = (final[best] - final[other]).mean()
    assert shown[-1].loc["mean", other] == pytest.approx(expected)
