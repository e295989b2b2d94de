"""Every hostile text through every output: none acts in a terminal, a page, a sheet, a figure or a database."""

import csv
import json
import os
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import duckdb
import numpy as np
import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

import dropdiag as dd
from dropdiag import errors, plots
from dropdiag.cli import app
from dropdiag.integrations.spreadsheet import as_text
from dropdiag.plots.words import axis_label, names_cut, plain, site_titles
from dropdiag.printable import printable, well_formed
from dropdiag.store.coverage import Coverage
from dropdiag.store.new_files import file_name, new_file
from tests.hostile.texts import FIGURE, PAGE, PLACE, SHEET, TERMINAL, TEXTS, write_hostile
from tests.synthetic import content, write

CONDITIONS = TERMINAL["link"], PAGE["image"]
LINES = "\n"
BYTES = os.fsdecode(b"caf\xe9\xff")
"""A name that is no UTF-8."""
LOOK = re.compile(r"\x1b\[[0-9;]*m")
"""What the program colours its own words with."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Two conditions, two seeds, a layer a text: every name is hostile, those of the folders too."""
    root = tmp_path_factory.mktemp("hostile") / "runs\x1b]0;root\x07'@runs@"
    for place, condition in enumerate(CONDITIONS):
        for seed in (0, 1):
            write_hostile(root / f"{place}{seed} '[a]*?\x1b[1m\n=", condition, seed, list(TEXTS.values()))
    return root


def acts(text):
    """What a terminal would obey, or nobody would see."""
    return [sign for sign in text if not (sign == LINES or sign.isprintable() or sign == "\u3000")] + re.findall(
        "\u3164", text
    )


def call(*arguments, **environment):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100", **environment})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def arguments_of(name, root, out):
    """What each command is called with: a command that is new here has none, and fails until it is added."""
    one, pair = next(root.iterdir()), [str(root), "--baseline", CONDITIONS[0]]
    return {
        "reproduce": [[TERMINAL["colour"]]],
        "ls": [[root], [root, "--where", f"condition={CONDITIONS[0]}", "--sort", TERMINAL["colour"]], [root / "\x07nowhere"]],
        "show": [[one], [one, "--ranks"], [one, "--layer", TERMINAL["link"]], [root], [root / "\x1b[2J"]],
        "coverage": [[one], [root / "\x1b[2J"]],
        "compare": [pair, [root], ["A\x1b=nowhere\x9b"]],
        "advise": [[root], [root, "--x", "\x1b[1m"], [root, "--scalar", TERMINAL["colour"]], [root, "--out", out / "\x1b[1m.html"],
                   ["A\x1b=nowhere\x9b"]],
        "sweep": [["\x1b[2J.py:train", "--over", "rate=0,.1", "--out", out / "sweep"],
                  ["json:dumps", "--over", "\x1b[1m=0", "--out", out / "\x1b[1msweep"],
                  ["json:\x1b[1m", "--over", "rate=\x9b", "--out", out / "sweep"]],
        "report": [[*pair, "--title", TERMINAL["link"], "--out", out / "\x1b[1m.html"]],
        "plot": [[*pair, "--out", out / "png", "--figure", "learning"], [*pair, "--out", out, "--figure", "\x1b[1m"]],
        "watch": [[root / "\x1b[2J"], [root, "--host", "\x1b[2J.invalid"]],
        "export": [[one, "--to", "csv", "--out", out / "\x1b[1mcsv"], [one, "--to", "\x1b[1m", "--out", out / "x"]],
        "sql": [[root, "--out", out / "sql"], [root / "\x1b[2J", "--out", out / "sql2"]],
        "catalog": [[root], [root / "\x1b[2J"]],
        "doctor": [[], ["\x1b[2J"]],
    }[name]  # fmt: skip


COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(name, hostile, tmp_path, monkeypatch):
    """Exit codes are those of any run: 0, 1 or 2."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    parameters = {flag for one in typer.main.get_command(app).commands[name].params for flag in one.opts}
    for place, arguments in enumerate(arguments_of(name, hostile, tmp_path)):
        result = call(name, *arguments)
        assert acts(result.output) == []
        assert result.exit_code in {0, 1, 2}
        if place == 0 and "--json" in parameters and "--out" not in arguments:
            document = call(name, *arguments, "--json").stdout
            assert document.isascii()
            assert acts(document) == []
            assert not document or json.loads(document, parse_constant=pytest.fail)
    for wrong in (["--\x1b[31m"], ["\x1b[31m", "\x9b"], ["--out"]):
        result = call(name, *wrong)
        assert result.exit_code in {1, 2}
        assert acts(result.output) == []


def test_a_command_that_is_none_is_repeated_as_text():
    assert acts(call("\x1b[31m").output) == []


def test_colours_are_the_programs_own_alone(hostile):
    """To a terminal, with colours: only what the program means."""
    environment = {"COLUMNS": "200", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    output = CliRunner().invoke(app, ["ls", str(hostile)], env=environment, color=True).output
    assert LOOK.search(output)
    assert acts(LOOK.sub("", output)) == []
    assert "\x1b[31m" not in output


def test_all_texts_are_shown_visibly(hostile):
    shown = "".join(call("show", next(hostile.iterdir()), COLUMNS="1000").stdout.split())
    for text in TEXTS.values():
        assert "".join(printable(text).split()) in shown


@pytest.mark.parametrize("text", [*TERMINAL.values(), BYTES])
def test_printable_texts_do_nothing_and_stay(text):
    shown = printable(text)
    assert acts(shown) == []
    assert printable(shown) == shown
    assert well_formed(text).encode("utf-8")


@pytest.mark.parametrize("text", ["layer1.0", "Größe, 层, слой, طبقة, é", "🎯", "a b\u2009c\u3000", ""])
def test_names_in_any_language_stay(text):
    assert printable(text) is text or printable(text) == text


@pytest.mark.parametrize(
    "kind", ["DropdiagError", "ArgumentError", "RunError", "NotRecordedError", "DataError", "DropdiagWarning"]
)
@pytest.mark.parametrize("text", TERMINAL.values())
def test_errors_and_warnings_are_printable_where_they_are_made(kind, text):
    assert acts(str(getattr(errors, kind)(f"{text} is wrong"))) == []
    assert LINES not in str(getattr(errors, kind)(f"{text} is wrong"))


def test_a_message_that_looks_like_an_argument_is_no_code(hostile):
    for text in ("baseline='\\N{nothing}'", "compare({" + "[" * 9000 + "})", "baseline='\\x1b[31m'", "layer='\x00'"):
        assert acts(call("compare", hostile, "--baseline", text).output) == []


def test_a_command_to_copy_runs_nothing_else(tmp_path):
    for seed, name in enumerate(("a$(touch x)", "b`touch x`")):
        write(tmp_path / name, content("x", seed, layers=1, steps=3), name, 0)
    result = call("compare", f"{tmp_path}/a*", f"{tmp_path}/b*")
    assert result.exit_code == 2
    for found in re.findall(r'"[^"]*"', result.stderr):
        assert "$(" not in found
        assert "`" not in found


def test_reprs_are_printable(hostile):
    runs = dd.load(hostile)
    for one in (runs, runs[0], runs[0].ranks, runs[0].coverage(), dd.Catalog(hostile)):
        assert acts(repr(one)) == []
    for text in TERMINAL.values():
        rows = [{"layer": text, "call": 0, "kind": text, "type": text, "functional": False, "expected": True, "fired": 0,
                 "sampled": text, "skipped": text}]  # fmt: skip
        assert len(str(Coverage.from_dicts(rows)).split(LINES)) == 3


def test_names_that_are_no_utf8_stop_nothing(tmp_path):
    """A path is bytes; Python gives what is no UTF-8 as halves of surrogate pairs, which no encoding takes."""
    root, out = tmp_path / BYTES, tmp_path / "out"
    for name in ("Dropout", "No dropout"):
        write(root / f"{name}{BYTES}", content(name, 0, layers=1, steps=5), name, 0)
    one = next(root.iterdir())
    for arguments in (
        ["ls", root], ["show", one], ["show", one, "--ranks"], ["compare", root], ["compare", f"A{BYTES}={root}/D*", f"B={root}/N*",
        "--baseline", f"A{BYTES}"], ["report", root, "--out", root / f"{BYTES}.html"], ["plot", root, "--out", root / f"f{BYTES}", "--figure", "learning"],
        ["export", one, "--to", "csv", "--out", root / f"c{BYTES}"],
    ):  # fmt: skip
        result = call(*arguments)
        assert (result.exit_code, acts(result.output)) == (0, [])
    for arguments in (["ls", root], ["show", one], ["compare", root]):
        document = call(*arguments, "--json").stdout
        assert "caf\\\\xe9\\\\xff" in document
        assert json.dumps(json.loads(document), ensure_ascii=False).encode("utf-8")
    (root / f"{BYTES}.html").read_text(encoding="utf-8")
    dd.load(root)._repr_html_().encode("utf-8")
    result = call("sql", root, "--out", out)
    assert result.exit_code == 2
    assert "no run is left whose path DuckDB can read" in result.stderr
    code = f"import sys; from dropdiag.cli import app; sys.argv = ['dropdiag', 'ls', {str(root)!r}]; app()"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "COLUMNS": "200", "PYTHONIOENCODING": "ascii"},
        check=False,
        capture_output=True,
    )
    assert (found.returncode, b"caf\\xe9\\xff" in found.stdout) == (0, True), "to a pipe of ASCII, too"


def test_no_cell_is_a_formula_and_numbers_stay_numbers(hostile, tmp_path):
    call("export", next(hostile.iterdir()), "--to", "csv", "--out", tmp_path / "csv")
    seen = set()
    for file in sorted((tmp_path / "csv").iterdir()):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        for row in rows:
            for name, cell in row.items():
                assert as_text(name) == name
                if name in {"value", "low", "high", "count", "step", "call", "rank"}:
                    assert cell == "" or float(cell) == float(cell)
                else:
                    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")
                    seen.add(cell[1:] if cell[:1] == "'" else cell)
        if file.name == "scalars.csv":
            assert {row["value"] for row in rows if row["quantity"] in TEXTS.values()} == {"-0.5"}
    assert set(TEXTS.values()) <= seen, "each reads back as it was, quotes and line ends too"


@pytest.mark.parametrize("text", [*SHEET.values(), "''=1", "'", "", "a=1", "1"])
def test_a_cell_can_be_read_back(text):
    cell = as_text(text)
    assert cell[:1] not in tuple("=+-@\t\r\n")
    assert (cell[1:] if cell.startswith("'") else cell) == text


def test_sql_reads_these_runs_and_nothing_else(hostile, tmp_path):
    """Quotes, semicolons, patterns and what looks like a placeholder in paths and names; a real DuckDB."""
    (hostile.parent / "beside").mkdir(exist_ok=True)
    out = tmp_path / "o'; DROP VIEW runs; --@bins@[x]*"
    result = call("sql", hostile, "--out", out)
    assert result.exit_code == 0
    database = duckdb.connect()
    database.execute((out / "views.sql").read_text(encoding="utf-8"))
    runs = database.execute("SELECT DISTINCT condition, state, left_out FROM runs").fetchall()
    assert set(runs) == {(condition, "completed", None) for condition in CONDITIONS}
    names = list(TEXTS.values())
    for column in ("layer", "phase", "quantity"):
        found = {row[0] for row in database.execute(f"SELECT DISTINCT {column} FROM scalars").fetchall()}  # noqa: S608
        assert set(names) <= found
    own = "SELECT count(*), avg(value) FROM scalars WHERE quantity = ?"
    for name in names:
        assert database.execute(own, [name]).fetchone() == (12, -0.5)
    assert database.execute("SELECT count(*) FROM histograms WHERE layer = ?", [names[5]]).fetchone() == (8,)


def test_sql_leaves_out_what_duckdb_cannot_read(tmp_path):
    for name in ("plain", "back\\slash"):
        write(tmp_path / "runs" / name, content("x", 0, layers=1, steps=3), "x", len(name))
    result = call("sql", tmp_path / "runs", "--out", tmp_path / "sql")
    assert result.exit_code == 1
    assert "DuckDB finds nothing below a path with a backslash in it; the run is left out" in result.stderr
    database = duckdb.connect()
    database.execute((tmp_path / "sql" / "views.sql").read_text(encoding="utf-8"))
    assert database.execute("SELECT DISTINCT run FROM scalars").fetchall() == [("plain",)]
    assert call("sql", tmp_path / "runs", "--out", tmp_path / "a\\b").exit_code == 2


def test_tensorboard_gets_a_folder_for_each_phase_and_none_outside(hostile, tmp_path):
    pytest.importorskip("tensorboard")
    out = tmp_path / "deep" / "er" / "tb"
    assert call("export", next(hostile.iterdir()), "--to", "tensorboard", "--out", out).exit_code == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir() and path.parent != out) == [
        "deep",
        "er",
        "tb",
    ]
    assert len(list(out.iterdir())) == len(TEXTS) + 2, "no two phases share one: train, eval, and a text each"
    assert all(re.fullmatch(r"[\w.+=-]{1,120}", path.name) and path.name[0] not in ".-" for path in out.iterdir())


@pytest.mark.parametrize(
    "name", [*TEXTS.values(), BYTES, "..", "a/b", "a\\b", "\x00", "nul.txt", "COM1", "字" * 200, "-rf", " "]
)
def test_no_file_is_elsewhere_hidden_or_another(name):
    made = file_name(name)
    assert re.fullmatch(r"[\w.+=-]+", made)
    assert Path(made).name == made
    assert made[0] not in ".-"
    assert len(made.encode("utf-8")) < 200
    assert made.partition(".")[0].upper() not in {"CON", "NUL", "COM1"}
    assert file_name(name + "?") != made
    assert file_name(name, {made.lower()}) != made or made != name


def test_figures_of_names_stay_in_their_folder(hostile, tmp_path):
    out = tmp_path / "in" / "figures"
    names = [*PLACE.values(), "a/b", "a-b", "a?b", "x.png", "CON", "con"]
    root = tmp_path / "runs"
    write_hostile(root / "run", "c", 0, names)
    result = call(
        "plot", root, "--out", out, "--format", "svg", *(part for name in names[:8] for part in ("--figure", name))
    )
    files = [file.name for file in out.iterdir()]
    assert len(files) == len({file.lower() for file in files}) == len(set(names[:8]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "runs"]
    assert acts(result.output) == []


@pytest.mark.parametrize("text", TEXTS.values())
def test_no_name_is_mathematics_in_a_figure(text, tmp_path):
    """Drawn alone, beside mathematics, and cut; what is drawn is what was given, and an SVG of it can be read."""
    figure = Figure()
    title = next(iter(site_titles([(text, 1)]).values()))
    named = [figure.text(0, 0, plain(text)), figure.text(0, 0, f"{title}: mean $|r|$")]
    named += [figure.text(0, 0, one) for one in names_cut([text, text + "x"], 20).values()]
    figure.text(0, 0, axis_label(f"${text}$"))
    figure.text(0, 0, axis_label(text))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        (file,) = plots.save(figure, tmp_path / "f", ["svg"])
    assert ET.parse(file).getroot().tag.endswith("svg")  # noqa: S314 - our own
    assert named[0].get_text().replace("\\$", "$") == printable(text)


@pytest.mark.parametrize(
    "label", ["$\\frac{$", "$" + "{" * 3000 + "$", "$\\hspace{1e9}$", "$x$" * 200, "$\\bad$", "\x1b$x$"]
)
def test_a_label_that_a_run_brings_ends_no_figure(label):
    drawn = axis_label(label)
    figure = Figure(figsize=(2, 2))
    figure.text(0, 0, drawn)
    figure.canvas.draw()
    assert acts(drawn) == []


def test_a_label_of_mathematics_stays_one():
    assert axis_label("mean $|\\partial L/\\partial z|$") == "mean $|\\partial L/\\partial z|$"


def figures(runs):
    yield plots.weights(runs)
    yield plots.gradient_flow(runs, baseline=CONDITIONS[0])
    yield plots.saturation(runs)
    yield plots.learning(runs)
    yield plots.scalar(runs, f"own {TERMINAL['link']}")


def test_every_figure_is_xml_without_links_or_scripts(hostile, tmp_path):
    """In SVG, where text may be markup: of runs with a layer of each kind."""
    root = tmp_path / "runs"
    names = [TERMINAL["link"], PAGE["image"], FIGURE["fraction"], FIGURE["backslash"], FIGURE["hidden"]]
    for place, condition in enumerate(CONDITIONS):
        write_hostile(root / str(place), condition, 0, names)
    for number, figure in enumerate(figures(dd.load(root))):
        (file,) = plots.save(figure, tmp_path / f"figure{number}", ["svg"])
        tags = [one.tag.rpartition("}")[2] for one in ET.parse(file).iter()]  # noqa: S314
        assert not {"script", "a", "image", "foreignObject"} & set(tags)
        assert len([tag for tag in tags if tag == "path"]) > 10


def test_a_file_is_put_in_place_of_a_link_and_never_through_it(tmp_path):
    """In a folder in which others write: neither the name itself nor a temporary one leads to somebody's file."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    write(tmp_path / "run", content("x", 0, layers=1, steps=3), "x", 0)
    for name in ("report.html", ".report.html.tmp", "report.tmp", "learning.png", "learning.tmp", ".catalog"):
        (shared / name).symlink_to(mine)
    assert call("report", tmp_path / "run", "--out", shared / "report.html").exit_code == 0
    assert call("plot", tmp_path / "run", "--out", shared, "--figure", "learning").exit_code == 0
    assert mine.read_text() == "precious"
    assert not (shared / "report.html").is_symlink()
    assert not (shared / "learning.png").is_symlink()
    assert sorted(path.name for path in shared.iterdir()) == sorted(
        (".catalog", ".report.html.tmp", "learning.png", "learning.tmp", "report.html", "report.tmp")
    ), "nothing of ours stays, and nothing of others goes"


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("before")
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "file") as out:
        out.write(b"half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"
    with new_file(tmp_path / "file") as out:
        out.write(b"after")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("command", [["catalog"], ["ls"], ["compare"]])
def test_no_command_touches_what_a_link_leads_to(tmp_path, command):
    """A folder `.catalog` that is a link, links to folders of others: nothing there is read, written or removed."""
    other, root = tmp_path / "other", tmp_path / "root"
    other.mkdir()
    for name in ("run.json.tmp", "catalog.parquet", "scalars-000001.tmp", "file"):
        (other / name).write_text(name)
    for name in ("Dropout", "No dropout"):
        write(root / name, content(name, 0, layers=1, steps=3), name, 0)
    (root / ".catalog").symlink_to(other)
    (root / "link").symlink_to(other)
    (root / "Dropout" / "rank-1").symlink_to(other)
    before = {path: path.stat().st_mtime_ns for path in [*other.iterdir(), other]}
    call(*command, root)
    assert {path: path.stat().st_mtime_ns for path in [*other.iterdir(), other]} == before
    assert (root / ".catalog").is_symlink()


def test_exports_and_sql_never_write_through_a_link(tmp_path):
    write(tmp_path / "run", content("x", 0, layers=1, steps=3), "x", 0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "mine")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for out in ("out", "gone"):
        for command in (["export", tmp_path / "run", "--to", "csv"], ["sql", tmp_path / "run"]):
            assert call(*command, "--out", tmp_path / out).exit_code == 2
    assert list((tmp_path / "mine").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("condition", [*PLACE.values(), *TERMINAL.values(), "", " ", "/", "..", "字" * 100])
def test_a_run_that_names_itself_lies_where_it_was_told_to(tmp_path, condition):
    from dropdiag.recording.naming import claimed_folder

    made = claimed_folder(tmp_path / "runs", {"condition": condition, "seed": 0})
    assert made.parent == tmp_path / "runs"
    assert acts(made.name) == []
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


# What a browser makes of it.


@pytest.fixture(scope="module")
def page_file(hostile, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return dd.report(dd.load(hostile), out, title=PAGE["image"], baseline=CONDITIONS[0])


def loud(page):
    """Note every dialog that opens."""
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    return said


def test_the_report_runs_nothing_and_asks_for_nothing(visit, page_file):
    with visit(page_file) as page:
        said = loud(page)
        assert page.locator("h1").text_content() == PAGE["image"]
        page.locator("details:not(.chooser)").evaluate_all("all => all.forEach(one => { one.open = true; })")
        first = page.locator("#weights .sites .chart").first
        first.scroll_into_view_if_needed()
        first.locator("svg[role=img]").first.wait_for()
        first.hover()
        text = page.locator("body").text_content()
        for name in PAGE.values():
            assert name in text
        assert "\x1b" not in page.locator("#summary, #runs").first.text_content(), "nor is it copied to a terminal"
        assert page.locator("img, body iframe, [onerror], [onmouseover], a[href^=javascript]").count() == 0
        assert "evil.example" not in "".join(page.locator("style").all_text_contents())
        assert page.evaluate("Object.prototype.toString.call({}) + ({}).polluted") == "[object Object]undefined"
        assert said == []


def test_what_notebooks_show_runs_nothing(chromium, hostile):
    runs = dd.load(hostile)
    comparison = dd.compare(runs, baseline=CONDITIONS[0], on_unreadable="ignore")
    shown = [runs._repr_html_(), runs[0]._repr_html_(), runs[0].coverage()._repr_html_(), comparison._repr_html_()]
    context = chromium.new_context()
    page, asked = context.new_page(), []
    said = loud(page)
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(f"<!DOCTYPE html><body>{''.join(shown)}</body>")
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    assert page.locator("script, img, iframe, [onerror], [onmouseover]").count() == 0
    assert PAGE["image"] in page.locator("body").text_content()
    assert (said, asked) == ([], [])
    context.close()


def test_a_sheet_from_the_page_holds_no_formula(visit, page_file):
    with visit(page_file) as page:
        for button in page.locator("button[data-csv]:visible").all()[:6]:
            with page.expect_download() as waiting:
                button.click()
            rows = list(csv.reader(waiting.value.path().read_text(encoding="utf-8").splitlines()))
            cells = [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r")]
            assert [cell for cell in cells if not _is_number(cell)] == []


def _is_number(text):
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
