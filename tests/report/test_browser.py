"""The page in headless Chromium: click, slide, hover, type, download, print; no error, no request."""

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.analysis import gradient_flow as flow
from tests.report.test_page import HOSTILE, hostile, hostile_file  # noqa: F401
from tests.synthetic import content, write

SECTIONS = ["learning", "gradient_flow", "net_values", "weights", "node_correlation"]
EVERYWHERE = pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]
)


def chart(page, section, i=0, kind=".charts"):
    found = page.locator(f"#{section} {kind} .chart").nth(i)
    found.scroll_into_view_if_needed()
    found.locator("svg[role=img]").first.wait_for()
    return found


def drawn(page):
    """Wait until every chart that was asked for anew is drawn."""
    page.evaluate("""() => new Promise((done) => {
        const look = () => requestAnimationFrame(() => (report.queue.size ? look() : done()));
        look();
    })""")


def paths(figure):
    return figure.evaluate("f => [...f.querySelectorAll('.plot path')].map(p => p.getAttribute('d')).join('|')")


def slide(page, to):
    page.locator("#step").evaluate(
        "(s, v) => { s.value = v; s.dispatchEvent(new Event('input', {bubbles: true})); }", str(to)
    )
    drawn(page)


def downloaded(page, button):
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


@EVERYWHERE
def test_every_section_draws_at_every_size_and_scheme(visit, page_file, size, scheme):
    with visit(page_file, size, scheme) as page:
        for section in SECTIONS:
            assert chart(page, section).locator("svg path").count() >= 3
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"]
        ink = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ink == ("rgb(20, 23, 26)" if scheme == "dark" else "rgb(255, 255, 255)")


@EVERYWHERE
def test_nothing_that_axe_finds(visit, page_file, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    with visit(page_file, size, scheme) as page:
        for section in SECTIONS:
            chart(page, section)
        page.locator("details:not(.chooser)").evaluate_all("all => all.forEach(one => { one.open = true; })")
        found = axe.run(page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []


def test_a_condition_can_be_hidden_and_shown(visit, page_file):
    with visit(page_file) as page:
        figure = chart(page, "weights", kind=".sites")
        lines = figure.locator(".plot [stroke='var(--c1)']").first
        lines.wait_for(state="attached")
        page.get_by_role("checkbox", name="Dropout", exact=True).uncheck()
        assert page.locator("#effects-table tbody tr", has_text="Dropout").count() == 0
        figure.scroll_into_view_if_needed()  # a chart out of sight is drawn when it comes into sight
        lines.wait_for(state="detached")
        assert figure.locator(".plot [stroke='var(--c0)']").count() > 0
        page.get_by_role("checkbox", name="Dropout", exact=True).check()
        figure.scroll_into_view_if_needed()
        lines.wait_for(state="attached")


def test_the_slider_goes_through_training(visit, deep_file):
    with visit(deep_file) as page:
        figure = chart(page, "net_values", kind=".sites")
        assert page.locator("#step").get_attribute("aria-valuetext") == "step 100"
        last = paths(figure)
        slide(page, 9)
        assert figure.locator(".sub").inner_text() == "at step 10, n = 1"
        assert paths(figure) != last
        slide(page, 99)
        assert paths(figure) == last
        page.locator("#step").focus()
        page.keyboard.press("ArrowLeft")
        drawn(page)
        assert figure.locator(".sub").inner_text() == "at step 99, n = 1"


def test_the_slider_answers_at_once(visit, deep_file):
    with visit(deep_file) as page:
        chart(page, "net_values", kind=".sites")
        taken = page.evaluate("""async () => {
            const slider = document.getElementById('step'), taken = [];
            for (let i = 0; i < 20; i++) {
                const start = performance.now();
                slider.value = String(i * 5); slider.dispatchEvent(new Event('input', {bubbles: true}));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                taken.push(performance.now() - start);
            }
            return taken;
        }""")
        assert np.median(taken) < 1000  # a broken page takes seconds; a loaded machine some tenths


def test_play_runs_to_the_end_and_stops(visit, page_file):
    with visit(page_file) as page:
        page.locator("#play").click()
        page.wait_for_timeout(500)
        assert page.locator("#play").get_attribute("aria-label") == "Stop"
        page.locator("#play").click()
        assert page.locator("#play").get_attribute("aria-label") == "Play through training"


def test_hovering_tells_the_numbers(visit, page_file, runs):
    with visit(page_file) as page:
        figure = chart(page, "gradient_flow", kind=".profiles")
        figure.locator(".plot").hover(position={"x": 70, "y": 90})
        tip = figure.locator(".tip")
        tip.wait_for()
        assert tip.locator("b").inner_text() == "layer1.activation"
        shown = [row.locator("span").last.inner_text() for row in tip.locator("div").all()]
        curves = flow.curves(runs, layers=["layer1.activation"], bins=100)
        want = curves.groupby("condition", sort=False)["value"].last()
        got = [float(text.split(" ")[0].replace("−", "-")) for text in shown]
        assert np.allclose(got, want, rtol=6e-3)
        page.mouse.move(5, 5)
        tip.wait_for(state="hidden")


def test_the_keyboard_reads_a_chart(visit, page_file):
    with visit(page_file) as page:
        figure = chart(page, "weights", kind=".profiles")
        figure.focus()
        page.keyboard.press("End")
        assert figure.locator(".tip b").inner_text() == "layer3.linear"
        page.keyboard.press("ArrowLeft")
        assert figure.locator(".tip b").inner_text() == "layer2.linear"
        assert page.locator("#says").inner_text().startswith("layer2.linear")
        page.keyboard.press("Escape")
        assert figure.locator(".tip").is_hidden()


def test_touch_tells_the_numbers_too(visit, page_file):
    with visit(page_file, "phone") as page:
        figure = chart(page, "weights", kind=".sites")
        figure.locator(".plot").tap(position={"x": 150, "y": 90})
        assert figure.locator(".tip").is_visible()
        box, outer = figure.locator(".tip").bounding_box(), figure.bounding_box()
        assert outer["x"] <= box["x"]
        assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1


def test_a_log_scale_changes_the_axis(visit, page_file):
    with visit(page_file) as page:
        figure = chart(page, "weights", kind=".sites")
        before = paths(figure)
        page.locator("#weights-log").check()
        drawn(page)
        assert paths(figure) != before
        page.locator("#weights-log").uncheck()
        drawn(page)
        assert paths(figure) == before


def test_single_seeds_add_a_line_each(visit, page_file):
    with visit(page_file) as page:
        figure = chart(page, "weights", kind=".sites")
        count = figure.locator(".plot svg path").count()
        page.locator("#seeds").check()
        drawn(page)
        assert figure.locator(".plot svg path").count() == count + 9


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_layers_are_chosen_among_fifty(visit, deep_file, size):
    with visit(deep_file, size) as page:
        charts = page.locator("#net_values .sites .chart")
        assert charts.count() == 6
        chooser = page.locator("#net_values-chooser")
        chooser.locator("summary").click()
        assert chooser.locator("summary").inner_text() == "Layers: 6 of 50"
        box = chooser.locator(".menu").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.viewport_size["width"]
        chooser.get_by_role("searchbox").fill("layers.17.")
        chooser.get_by_role("checkbox", name="encoder.layers.17.mlp.act").check()
        assert charts.count() == 7
        assert page.locator("#gradient_flow .sites .chart").count() == 7, "the two show the same sites"
        chooser.get_by_role("button", name="All").click()
        assert charts.count() == 50
        drawn = page.evaluate("document.querySelectorAll('#net_values .sites .plot svg').length")
        assert drawn < 50, "charts out of sight are not drawn"
        chooser.get_by_role("button", name="None").click()
        assert charts.count() == 0


def test_each_layer_can_be_followed_through_training(visit, deep_file):
    with visit(deep_file) as page:
        page.locator("#net_values-view").select_option("saturation share")
        figure = chart(page, "net_values", kind=".sites")
        assert figure.get_attribute("aria-label").startswith("encoder.layers.0.mlp.act: saturation share")
        assert figure.locator(".plot svg path").count() >= 3


def test_effects_are_chosen_by_measure(visit, page_file):
    with visit(page_file) as page:
        rows = page.locator("#effects-table tbody tr")
        assert rows.count() == 6
        assert rows.first.locator("td").nth(2).inner_text().startswith("×")
        page.locator("#effects-measure").select_option("saturation_share")
        assert not rows.first.locator("td").nth(2).inner_text().startswith("×")
        figure = chart(page, "effects")
        figure.focus()
        page.keyboard.press("Home")
        assert figure.locator(".tip b").inner_text() == "layer1.activation"


def test_verdicts_lead_to_their_reasons(visit, page_file):
    with visit(page_file) as page:
        page.locator(".matrix a").first.click()
        assert page.evaluate("location.hash") == "#claim-1"
        page.locator("#claim-1 summary").click()
        assert page.locator("#claim-1-table tbody tr").count() == 4  # three layers and their mean


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_figures_and_numbers_are_downloaded(visit, page_file, runs, size):
    with visit(page_file, size) as page:
        figure = chart(page, "gradient_flow", kind=".profiles")
        name, text = downloaded(page, figure.get_by_role("button", name="Download CSV"))
        assert name == "gradient-flow-all-layers.csv"
        rows = list(csv.DictReader(io.StringIO(text.decode("utf-8"))))
        assert [row["layer"] for row in rows[:3]] == ["layer1.activation", "layer2.activation", "layer3.activation"]
        want = flow.curves(runs, layers=["layer2.activation"], conditions=["GAAF"], bins=100)["value"].iloc[-1]
        got = next(row for row in rows if row["condition"] == "GAAF" and row["layer"] == "layer2.activation")
        assert float(got["value"]) == pytest.approx(want, rel=1e-6)
        name, text = downloaded(page, figure.get_by_role("button", name="Download SVG"))
        root = ET.fromstring(text)  # noqa: S314 - our own page's
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        words = "".join(root.itertext())
        assert "gradient flow, all layers" in words
        assert "No dropout" in words
        for one in root.iter():
            assert "var(" not in (one.get("stroke") or "") + (one.get("fill") or "")
        name, image = downloaded(page, figure.get_by_role("button", name="Download PNG"))
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(image) > 5000


def test_tables_are_downloaded_in_full(visit, page_file, runs):
    with visit(page_file) as page:
        name, text = downloaded(page, page.locator("button[data-csv=gradient_flow-table]"))
        rows = list(csv.DictReader(io.StringIO(text.decode("utf-8"))))
        assert len(rows) == 6
        table = flow.table(runs).set_index(["condition", "layer"])
        for row in rows:
            site = row["Layer"]
            assert float(row["Mean"]) == pytest.approx(table["mean"][row["Condition"], site], rel=1e-12)
            assert float(row["Mean of No dropout"]) == pytest.approx(table["mean"]["No dropout", site], rel=1e-12)
        name, text = downloaded(page, page.locator("#effects-csv"))
        assert name == "effects.csv"
        assert len(list(csv.DictReader(io.StringIO(text.decode("utf-8"))))) == 12


def test_hostile_names_are_shown_as_text(visit, hostile_file):  # noqa: F811
    with visit(hostile_file) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a name ran: {dialog.message}"))
        assert page.locator("h1").inner_text() == HOSTILE[2]
        for name in HOSTILE:
            assert page.locator("#conditions label", has_text=name).count() == 1
        figure = chart(page, "weights", kind=".sites")
        assert figure.locator("figcaption").inner_text().startswith(f"{HOSTILE[0]}.0")
        figure.focus()
        page.keyboard.press("Home")
        assert HOSTILE[1] in figure.locator(".tip").inner_text()
        name, text = downloaded(page, figure.get_by_role("button", name="Download SVG"))
        assert HOSTILE[0] in "".join(ET.fromstring(text).itertext())  # noqa: S314
        assert "/" not in name


def test_a_formula_is_no_formula_in_a_spreadsheet(visit, page_file):
    with visit(page_file) as page:
        text = page.evaluate("async () => await report.csv([['=cmd()', '@x', '-1.5', 'a,\"b\"']]).text()")
        assert text == '\'=cmd(),\'@x,-1.5,"a,""b"""\r\n'


def test_it_prints_with_all_charts_and_no_controls(visit, page_file):
    with visit(page_file, scheme="dark") as page:
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") < 40
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("#controls").is_hidden()
        assert page.locator("#weights .sites .plot svg").count() == 3
        assert page.locator("#coverage details:not([open])").count() == 0


def test_without_scripts_verdicts_and_tables_are_there(chromium, page_file):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("#gradient_flow-table tbody tr").count() == 6
    assert page.locator(".matrix .badge").count() == 2
    assert page.locator("#plain").is_visible()
    context.close()


def test_at_the_end_each_run_is_drawn_at_its_own_last_step(visit, tmp_path):
    paths = [write(tmp_path / f"s{i}", content("Dropout", i, layers=2, steps=20 + 10 * i), "Dropout", i) for i in range(2)]  # fmt: skip
    made = dd.report(dd.load(paths), tmp_path / "page.html")
    with visit(made) as page:
        assert (
            "each run’s last, steps 20 to 30, n = 2"
            in chart(page, "weights", kind=".sites").locator(".sub").inner_text()
        )


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_links_end_below_the_controls(visit, page_file, size):
    with visit(page_file, size) as page:
        page.evaluate("document.getElementById('weights').scrollIntoView({behavior: 'instant'})")
        bar = page.locator("#controls").bounding_box()
        assert page.locator("#h-weights").bounding_box()["y"] >= bar["y"] + bar["height"]


def test_short_tables_are_whole_and_a_note_is_said_once(visit, page_file):
    with visit(page_file) as page:
        assert page.locator("#effects-table .tall").count() == 0
        found = page.evaluate("report.notesOf([{note: 'a; b'}, {note: 'a'}, {note: 'a; b'}])")
        assert found == {"notes": ["A (all rows).", "B."], "marks": ["1, 2", "1", "1, 2"]}
        assert page.evaluate("[report.format(34711), report.format(-1500.5), report.format(-0.02)]") == [
            "34\u202f711", "−1\u202f500.5", "−0.02",
        ]  # fmt: skip
