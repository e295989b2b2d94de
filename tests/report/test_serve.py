"""`watch`: read-only, on this machine, guarded beyond it; and the page follows runs that are half written."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from dropdiag.errors import ArgumentError, RunError
from dropdiag.report import follower
from dropdiag.report.follower import Follower
from dropdiag.report.serve import Watch, _Interrupts, watch
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.openings import openings
from tests.report.folders import meta, record
from tests.synthetic import content, write

PATIENCE = 300_000  # milliseconds, for what never comes: on a machine under load a page takes long


def ask(watch, path="/", method="GET", **headers):
    port = watch._server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode("utf-8")
    connection.close()
    return answer, body


def until(condition, why=lambda: ""):
    """Wait for a condition, however slow the machine is; the limit is there for what never comes true."""
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit, why()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(
        tmp_path_factory.mktemp("root") / "dropout-s0", content("Dropout", 0, layers=2, steps=20), "Dropout", 0
    )


def ready(watch):
    """Wait until the first page is made."""
    until(lambda: watch.follower.version != "0", lambda: watch.follower.problem)
    return watch


@pytest.fixture(scope="module")
def served(run):
    with Watch(run, interval=0.2) as watch:
        yield ready(watch)


def test_it_listens_on_this_machine_alone(served):
    assert served._server.server_address[0] == "127.0.0.1"
    assert served.url.startswith("http://127.0.0.1:")
    assert "token" not in served.url


def test_the_page_and_its_version_are_all_there_is(served):
    answer, body = ask(served)
    assert answer.status == 200
    assert "Dropout" in body
    assert "connect-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"
    answer, body = ask(served, "/version")
    assert json.loads(body) == {"version": "1", "problem": ""}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../../etc/passwd", "/run.json", "//etc/passwd", "/%2e%2e/run.json", "/version/x"]
)
def test_no_path_reads_a_file(served, path):
    assert ask(served, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"])
def test_nothing_but_get_and_head(served, method):
    answer, _ = ask(served, method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "[::1", "10.0.0.1"]
)
def test_a_foreign_name_for_this_machine_is_refused(served, host):
    answer, body = ask(served, Host=host)
    assert answer.status in {400, 421}
    assert "Dropout" not in body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:80", "LOCALHOST"])
def test_its_own_names_are_answered(served, host):
    assert ask(served, Host=host)[0].status == 200


def test_beyond_this_machine_a_token_is_needed(run):
    with Watch(run, "0.0.0.0") as watch:  # noqa: S104
        token = watch.token
        assert len(token) >= 32
        assert watch.url.endswith(f"?token={token}")
        assert ask(watch)[0].status == 403
        assert ask(watch, "/version")[0].status == 403
        assert ask(watch, f"/?token={token[:-1]}")[0].status == 403
        assert ask(watch, "/?token=", Cookie="dropdiag-token=")[0].status == 403
        answer, _ = ask(watch, f"/?token={token}")
        assert answer.status == 303
        assert answer.headers["Location"] == "/"
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        assert ask(watch, Cookie=cookie.split(";")[0])[0].status == 200
        assert ask(watch, Cookie=cookie.split(";")[0], Host="evil.example")[0].status == 421


def test_a_token_may_be_asked_for_here_too(run):
    with Watch(run, token="open-sesame") as watch:  # noqa: S106
        assert ask(watch)[0].status == 403
        assert ask(watch, "/?token=open-sesame")[0].status == 303


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"interval": 0.0}, ArgumentError, "interval must be a positive number of seconds, got 0.0"),
        ({"token": ""}, ArgumentError, "token must be printable ASCII and not empty"),
        ({"token": "a\nb"}, ArgumentError, "token must be printable ASCII"),
        ({"host": "no.such.host.invalid"}, ArgumentError, "cannot listen at 'no.such.host.invalid', port 0"),
    ],
)
def test_what_cannot_be_served_is_refused(run, options, error, message):
    with pytest.raises(error, match=message):
        Watch(run, **options)


def test_no_folder_no_server(tmp_path):
    with pytest.raises(RunError, match="is no folder; give a run folder, or a folder with runs below it"):
        Watch(tmp_path / "nowhere")


def test_a_port_that_is_taken_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ArgumentError, match="choose another host or port"):
            Watch(run, port=taken.getsockname()[1])


def test_runs_come_grow_tear_and_go(tmp_path):
    follower = Follower(tmp_path, title=None, interval=1.0)
    follower.look()
    assert "Waiting for a run" in follower.page
    writer = RunWriter(tmp_path / "a" / "run0", meta("Dropout", 0, 2))
    record(writer, "Dropout", 0, 2, range(1, 4))
    writer.flush()
    writer.drain()
    assert follower.look()
    assert 'data-version="1"' in follower.page
    assert not follower.look(), "nothing has changed"
    record(writer, "Dropout", 0, 2, range(4, 6))
    writer.flush()
    writer.drain()
    assert follower.look()
    assert 'data-version="2"' in follower.page
    segment = sorted((tmp_path / "a" / "run0" / "rank-0").glob("scalars-*.parquet"))[-1]
    whole = segment.read_bytes()
    segment.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{ half")
    assert follower.look()
    assert follower.problem == ""
    assert segment.name in follower.page, "the torn segment is named"
    assert str(tmp_path / "b") in follower.page, "the unreadable run is named"
    segment.write_bytes(whole)
    writer.close("completed")
    assert follower.look()
    assert segment.name not in follower.page


def test_a_page_that_cannot_be_made_leaves_the_last_one(run, monkeypatch):
    follower = Follower(run, title=None, interval=1.0)
    follower.look()
    page = follower.page
    follower._seen = None

    def fails(*_args, **_options):
        raise RunError("run.json is gone")

    monkeypatch.setattr("dropdiag.report.follower.gather", fails)
    assert not follower.look()
    assert follower.page == page
    assert follower.problem == "The runs cannot be read just now: run.json is gone"


WATCH = """
import threading
from dropdiag.report import follower, serve
make = follower.gather
def gather(*args, **options):
    print("making", flush=True)
    if {for_ever}:
        threading.Event().wait()
    content = make(*args, **options)
    print("made", flush=True)
    return content
follower.gather = gather
serve.watch({run!r}, interval=0.2)
print("ended")
"""


@pytest.mark.parametrize(("for_ever", "after"), [(False, ""), (False, "making"), (False, "made"), (True, "making")])
def test_ctrl_c_ends_it_cleanly_also_while_a_page_is_made(run, for_ever, after):
    """A page that takes for ever is not waited for: the process would not end."""
    code = WATCH.format(run=str(run), for_ever=for_ever)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stderr.readline().startswith("watching at http://127.0.0.1:")
        while after and process.stdout.readline().strip() != after:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        out, rest = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, out.split()[-1], rest) == (0, "ended", "")


def test_ctrl_c_before_the_address_is_told_is_kept(run):
    """It comes while the server is made: noted, not raised, and the end is clean."""

    def announce(_url):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    watch(run, interval=0.2, announce=announce)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_is_raised():
    with pytest.raises(KeyboardInterrupt), _Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: interrupts.came)
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: False)  # it comes here, between two instructions of Python


def test_the_address_is_told_before_the_first_page_is_made(run, monkeypatch):
    go = threading.Event()
    make = follower.gather

    def slow(*args, **options):
        assert go.wait(300)
        return make(*args, **options)

    monkeypatch.setattr(follower, "gather", slow)
    with Watch(run, interval=0.2) as watch:
        answer, body = ask(watch)
        assert answer.status == 200
        assert "<h1>Reading the runs</h1>" in body
        go.set()
        assert "Dropout" in ask(ready(watch))[1]


def test_any_error_is_shown_and_the_next_look_goes_on(run, monkeypatch):
    make = follower.gather

    def fails(*_args, **_options):
        raise ZeroDivisionError("<by> zero")

    monkeypatch.setattr(follower, "gather", fails)
    with Watch(run, interval=0.2) as watch:
        until(lambda: watch.follower.problem)
        assert watch.follower.problem == "The page cannot be made just now: ZeroDivisionError: <by> zero"
        assert "ZeroDivisionError: &lt;by&gt; zero" in ask(watch)[1]
        monkeypatch.setattr(follower, "gather", make)
        ready(watch)
        assert watch.follower.problem == ""


def test_between_two_pages_lies_five_times_what_one_took(run):
    follower = Follower(run, title=None, interval=1e-6)
    assert follower.look()
    assert follower.took > 0.0
    assert follower.pause() == 5.0 * follower.took
    assert not follower.look(), "nothing has changed"
    assert follower.pause() == 1e-6


def test_histograms_of_a_run_that_has_not_changed_are_not_read_again(tmp_path):
    still = write(tmp_path / "still", content("Dropout", 0, layers=2, steps=20), "Dropout", 0)
    grows = write(tmp_path / "grows", content("Dropout", 1, layers=2, steps=20), "Dropout", 1)
    follower = Follower(tmp_path, title=None, interval=1.0)
    assert read_by(follower, tmp_path) == {still, grows}
    first = follower.page
    meta_file = grows / "run.json"
    write_meta(meta_file, json.loads(meta_file.read_text()) | {"more": 1})
    assert read_by(follower, tmp_path) == {grows}
    assert re.sub('data-version="."', "", follower.page) == re.sub('data-version="."', "", first)


def read_by(follower, root):
    """Make the page anew; return the runs whose histograms were read for it."""
    with openings(root) as opened:
        assert follower.look()
    return {root / name.split("/")[0] for name in opened if "histograms" in name}


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_the_open_page_follows_a_run_and_keeps_what_was_chosen(visit, tmp_path, size, monkeypatch):
    monkeypatch.setattr(follower, "REST", 0.0)
    writer = RunWriter(tmp_path / "run0", meta("Dropout", 0, 12))
    record(writer, "Dropout", 0, 12, range(1, 6))
    writer.flush()
    with Watch(tmp_path, interval=0.3) as watch, visit(ready(watch).url, size) as page:
        assert page.locator("#step").get_attribute("aria-valuetext") == "step 5"
        page.locator("#weights-log").check()
        page.locator("#net_values-chooser summary").click()
        page.locator("#net_values-chooser").get_by_role("checkbox", name="layers.11.").uncheck()
        page.locator("#seeds").check()
        page.evaluate("window.scrollTo(0, 900)")
        record(writer, "Dropout", 0, 12, range(6, 9))
        writer.flush()
        page.wait_for_selector("#step[aria-valuetext='step 8']", timeout=PATIENCE)  # the last step is followed
        assert page.locator("#weights-log").is_checked()
        assert page.locator("#seeds").is_checked()
        assert page.locator("#net_values .sites .chart").count() == 5
        assert abs(page.evaluate("window.scrollY") - 900) < 60
        page.locator("#step").focus()
        page.keyboard.press("Home")
        writer.close("completed")
        page.locator("#runs-table", has_text="completed").wait_for(timeout=PATIENCE)
        assert page.locator("#step").get_attribute("aria-valuetext") == "step 1", "a chosen step stays"
        assert page.evaluate("document.activeElement.id") == "step"


def test_the_open_page_says_when_the_server_is_gone(chromium, run):
    context = chromium.new_context()
    page = context.new_page()
    with Watch(run, interval=0.2) as watch:
        page.goto(ready(watch).url)
        page.wait_for_selector("body[data-ready]")
    page.get_by_text("The server does not answer").wait_for(timeout=PATIENCE)
    context.close()


def test_a_page_that_waits_becomes_the_report(chromium, tmp_path):
    context = chromium.new_context()
    page = context.new_page()
    with Watch(tmp_path, interval=0.2) as watch:
        page.goto(watch.url)
        page.locator("h1", has_text="Waiting for a run").wait_for(timeout=PATIENCE)
        write(tmp_path / "run0", content("Dropout", 0, layers=1, steps=5), "Dropout", 0)
        page.wait_for_selector("body[data-ready]", timeout=PATIENCE)
    context.close()
