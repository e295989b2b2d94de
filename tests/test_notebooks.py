"""The notebooks that are kept: each beside its source, with outputs that are small and hold nothing of one machine.

`make notebooks` executes all of them. Here one is, the first, with fewer seeds.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
NAMES = [
    "01-ten-minutes", "02-the-paper", "03-your-network", "04-why",
    "05-which-rate", "06-gaaf", "07-many-ranks", "08-add-a-probe",
]  # fmt: skip
BYTES = 400_000
MACHINE = re.compile(
    r"(?<![\w.])/(?:root|home|opt|tmp|work|Users|var|usr)/|\btmp[a-z0-9_]{8}\b|[A-Z]:\\\\|"  # folders
    r"\b\d\d:\d\d:\d\d\b|\b20\d\d-\d\d-\d\d\b|"  # dates and times
    r"\b0x[0-9a-f]{8,}\b|\bWarning\b"
)


def notebook(name: str) -> dict:
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))


def code(name: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook(name)["cells"] if cell["cell_type"] == "code"]


def written(name: str) -> list[tuple[str, str]]:
    """Return kind and source of each cell of a `.py`: what jupytext reads, read without it."""
    _, *parts = re.split(r"^# %%(.*)\n", (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8"), flags=re.MULTILINE)
    cells = []
    for marker, body in zip(parts[::2], parts[1::2], strict=True):
        prose = "[markdown]" in marker
        source = re.sub(r"^# ?", "", body, flags=re.MULTILINE) if prose else body
        cells.append(("markdown" if prose else "code", source.strip("\n")))
    return cells


def test_these_are_the_notebooks():
    for suffix in (".py", ".ipynb"):
        assert [path.stem for path in sorted(NOTEBOOKS.glob(f"*{suffix}"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_source_says(name):
    kept = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook(name)["cells"]]
    assert kept == written(name), "run `make notebooks`"


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_was_executed_once_and_in_order(name):
    cells = [cell for cell in notebook(name)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_small_and_hold_nothing_of_one_machine(name):
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < BYTES
    found = notebook(name)
    assert set(found["metadata"]) == {"jupytext", "kernelspec", "language_info"}
    for number, cell in enumerate(found["cells"], start=1):
        assert (cell["id"], cell["metadata"]) == (f"cell-{number}", {})
        for output in cell.get("outputs", ()):
            assert output["output_type"] in ("stream", "execute_result", "display_data")
            assert output.get("name") != "stderr"
            told = [output.get("text", "")]
            told += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
            assert not [MACHINE.search("".join(text)) for text in told if MACHINE.search("".join(text))]


@pytest.mark.parametrize("name", NAMES)
def test_links_of_the_prose_lead_somewhere(name):
    prose = "\n".join(source for kind, source in written(name) if kind == "markdown")
    found = [link for link in re.findall(r"\]\(([^)#\s]+)", prose) if "://" not in link]
    assert found
    assert not [link for link in found if not (NOTEBOOKS / link).exists()]


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


def test_the_first_one_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("DROPDIAG_DATA", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scope: dict = {}
    few = [source.replace("range(3)", "range(2)") for source in code("01-ten-minutes")]
    shown = [last_value(source, scope) for source in few]
    assert len([value for value in shown if isinstance(value, Figure)]) == 5
    table = next(value for value in shown if hasattr(value, "columns") and "p_attainable" in value)
    assert table["n"].eq(2).all()
    assert set(table["measure"]) == {"gradient_flow", "saturation_share"}
    accuracies = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines() if ", seed " in line]
    assert len(accuracies) == 4
    assert min(accuracies) > 0.85
    assert "dropout" in scope["comparison"]._repr_html_()
    assert scope["page"].exists()


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Return the script that executes notebooks, and a folder of notebooks for it."""
    pytest.importorskip("jupytext", reason="`make notebooks` installs what executes notebooks")
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    monkeypatch.delitem(sys.modules, "notebooks", raising=False)
    import notebooks

    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    (tmp_path / "notebooks").mkdir()
    return notebooks


def put(script, text):
    path = script.FOLDER / "one.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_executed_is_kept_and_what_has_changed_since_is_told(script):
    path = put(script, "# %% [markdown]\n# # A title\n\n# %%\nprint(1)\nprint(2)\n")
    assert script.run(path, check=True) == ["one.ipynb is missing; run `make notebooks`"]
    assert script.run(path, check=False) == []
    kept = path.with_suffix(".ipynb").read_bytes()
    (output,) = json.loads(kept)["cells"][1]["outputs"]
    assert "".join(output["text"]) == "1\n2\n"
    assert script.run(path, check=True) == []
    put(script, "# %% [markdown]\n# # Another title\n\n# %%\nprint(1)\nprint(2)\n")
    assert script.run(path, check=True) == ["one.ipynb has other cells than its .py; run `make notebooks`"]
    assert path.with_suffix(".ipynb").read_bytes() == kept


def test_an_error_and_a_warning_are_told_and_nothing_is_kept(script):
    path = put(script, "# %%\nraise ValueError('no')\n")
    (told,) = script.run(path, check=False)
    assert "ValueError: no" in told
    assert "\x1b" not in told
    put(script, "# %%\nimport warnings\n\nwarnings.warn('mind this')\n")
    (told,) = script.run(path, check=False)
    assert "mind this" in told
    assert not path.with_suffix(".ipynb").exists()


def test_the_kernel_is_that_of_this_interpreter(script, monkeypatch, tmp_path):
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("DROPDIAG_DATA", "somewhere")
    path = put(script, "# %%\nimport os\nimport sys\n\nprint(sys.executable)\nprint(os.environ.get('DROPDIAG_DATA'))\n")
    assert script.run(path, check=False) == []
    (output,) = json.loads(path.with_suffix(".ipynb").read_text())["cells"][0]["outputs"]
    assert "".join(output["text"]).splitlines() == [sys.executable, "None"]
