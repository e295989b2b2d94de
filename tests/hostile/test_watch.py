"""`watch` and clients that mean no good: real sockets, and limits so small that none is waited for."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from dropdiag.report import serve
from dropdiag.report.connections import Limits
from dropdiag.report.serve import Watch
from tests.hostile.texts import PAGE, TERMINAL, write_hostile
from tests.synthetic import content, write

TOKEN = 'a&b+c%20d#e;f"g",\\h=/?~ i'  # noqa: S105 - what a token may be
PATIENCE = 60.0
"""Seconds for what never comes."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("root") / "run0", content("Dropout", 0, layers=1, steps=5), "Dropout", 0)


def until(condition, why=lambda: ""):
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, why()
        time.sleep(0.01)


def watching(run, **options):
    """Serve a run without a first page: these tests are of who may ask, and how."""
    return Watch(run, **{"interval": 600.0, **options})


def connected(watch):
    return socket.create_connection(("127.0.0.1", watch._server.server_address[1]), timeout=PATIENCE)


def everything(connection):
    """Read until the server hangs up."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def send(watch, text):
    """Send bytes over a connection of their own, and return the status, headers and body of all that comes back."""
    with connected(watch) as connection:
        connection.sendall(text if isinstance(text, bytes) else text.encode("latin-1"))
        return parsed(everything(connection))


def parsed(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name not in headers, f"{name} twice"
        headers[name] = value
    return int(first.split()[1]), headers, body


def asked(path="/", host="127.0.0.1", method="GET", **headers):
    lines = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"])]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""])


@pytest.fixture(scope="module")
def served(run):
    with watching(run) as watch:
        until(lambda: watch.follower.version != "0", lambda: watch.follower.problem)
        yield watch


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:7", "localhost", "localhost.", "LocalHost.:80", "[::1]", "[0:0:0:0:0:0:0:1]:7", " [::1] "],
)
def test_its_own_names(served, host):
    assert send(served, asked(host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example.", "127.0.0.1.evil.example", "localhost.evil.example:80", "localhost..", "127.1",
     "localhost@evil.example", "evil.example@localhost", "localhost/evil.example", "localhost?evil", "localhost#evil",
     "localhost evil.example", "localhost,evil.example", "localhost\\evil", "localhost:80:80", "localhost:http", "",
     "[::1].evil.example", "[::1", "::1", "[localhost]", "[::ffff:10.0.0.1]", "10.0.0.1", "l\xf6calhost",
     "localhost\x00", "xn--localhost", None],
)  # fmt: skip
def test_foreign_names(served, host):
    status, headers, body = send(served, asked(host=host))
    assert status in {HTTPStatus.BAD_REQUEST, HTTPStatus.MISDIRECTED_REQUEST}
    assert body == f"{status} {HTTPStatus(status).phrase}\n".encode()
    assert "Set-Cookie" not in headers


def test_several_hosts_are_none(served):
    assert send(served, asked(Host="127.0.0.1"))[0] == 400
    assert send(served, asked(host="evil.example", Host="127.0.0.1"))[0] == 400


@pytest.mark.parametrize("path", ["http://127.0.0.1/", "http://evil.example/", "http://[::1", "*", "127.0.0.1:80"])
def test_a_target_that_is_no_path_of_its_own(served, path):
    assert send(served, asked(path))[0] == 400


REQUESTS = {
    200: asked(), 404: asked("/run.json"), 405: asked(method="POST"), 421: asked(host="evil.example"), 400: "x\r\n\r\n",
    431: asked(Cookie="c" * 20_000),
}  # fmt: skip


@pytest.mark.parametrize("status", REQUESTS)
def test_every_answer_guards_itself(served, status):
    found, headers, body = send(served, REQUESTS[status])
    assert found == status
    assert int(headers["Content-Length"]) == len(body)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert not [name for name in headers if name.startswith("Access-Control")], "no other site may read it"


@pytest.mark.parametrize("text", ["GET /\r\n\r\n", "GET / HTTP/0.9\r\nHost: localhost\r\n\r\n"])
def test_a_request_without_a_version_gets_no_page(served, text):
    status, headers, _ = send(served, text)
    assert status == 400
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "__init__"])
def test_other_methods(served, method):
    status, headers, body = send(served, asked(method=method))
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"405 Method Not Allowed\n")


def test_head_is_get_without_a_body(served):
    _, whole, page = send(served, asked())
    status, headers, body = send(served, asked(method="HEAD"))
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(page) > 100_000
    assert headers.keys() == whole.keys()
    assert send(served, asked("/nowhere", method="HEAD"))[::2] == (404, b"")


def test_one_request_a_connection(served):
    """Nothing is pipelined or kept alive: a connection cannot be held by asking again."""
    with connected(served) as connection:
        connection.sendall((asked("/version", Connection="keep-alive") * 3).encode())
        answer = everything(connection)
    assert answer.count(b"HTTP/1.0 200") == 1
    assert parsed(answer)[1]["Connection"] == "close"


def test_a_body_that_nobody_reads_takes_no_answer_away(served):
    body = b"x" * 3_000_000
    with connected(served) as connection:
        connection.sendall(asked(method="POST", **{"Content-Length": len(body)}).encode())
        with contextlib.suppress(OSError):  # it is not read to its end
            connection.sendall(body)
        assert parsed(connection.recv(65536))[0] == 405


def test_a_token_of_any_signs_opens_the_page_at_the_address_that_is_told(tmp_path, capfd):
    with watching(tmp_path, token=TOKEN) as watch:
        address = urlsplit(watch.url)
        assert not address.fragment
        status, headers, _ = send(watch, asked(f"{address.path}?{address.query}", host=address.netloc))
        assert (status, headers["Location"]) == (303, "/")
        cookie, *attributes = headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict"} < set(attributes)
        assert send(watch, asked(Cookie=f"broken; =; {cookie}"))[0] == 200
        assert send(watch, asked(Cookie=f"dropdiag-token=old; {cookie}"))[0] == 200
        for wrong in ("", TOKEN[:-1], "é", "%ff", "\udcff"):
            given = "".join(f"%{byte:02x}" for byte in wrong.encode("utf-8", "surrogateescape"))
            status, headers, body = send(watch, asked(f"/?token={given}"))
            assert (status, body, "Set-Cookie" in headers) == (403, b"403 Forbidden\n", False)
        assert send(watch, asked(Cookie="dropdiag-token=\xe9\xff"))[0] == 403
    assert capfd.readouterr() == ("", "")


def test_no_refusal_repeats_a_token(tmp_path, capfd):
    """Neither an answer, which may be looked at by others, nor what is printed."""
    token = "open-sesame"  # noqa: S105
    with watching(tmp_path, token=token) as watch:
        for text in (
            asked(f"/{token}?token={token}x"), asked(f"/?token={token}", host="evil.example"), f"GET /?token={token}\r\n\r\n",
            asked(f"/?token={token}", method="POST"), f"GET /?token={token} HTTP/9.9\r\n\r\n", f"{token} {token}\r\n\r\n",
            f"GET /?token={token} x HTTP/1.1\r\n\r\n", asked(f"/?token={token}", Cookie="x" * 20_000),
        ):  # fmt: skip
            with connected(watch) as connection:
                connection.sendall(text.encode())
                answer = everything(connection)
            assert re.match(rb"HTTP/1.0 [45]\d\d ", answer)
            assert token.encode() not in answer
    assert capfd.readouterr() == ("", "")


def test_tokens_are_compared_in_constant_time_all_of_them(tmp_path, monkeypatch):
    compared = []
    same = serve.hmac.compare_digest

    def noted(one, other):
        compared.append((type(one), type(other)))
        return same(one, other)

    monkeypatch.setattr(serve.hmac, "compare_digest", noted)
    with watching(tmp_path, token="right") as watch:  # noqa: S106
        assert send(watch, asked("/?token=right", Cookie="dropdiag-token=a; dropdiag-token=right"))[0] == 303
    assert compared == [(bytes, bytes)] * 3


@pytest.fixture
def small(tmp_path):
    """A server whose connections hold little that is not read yet, and a page of more than that."""
    with watching(tmp_path, limits=Limits(chunk_seconds=0.3, linger_seconds=0.1)) as watch:
        watch._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        watch.follower._body = bytes(3_000_000)
        yield watch


@contextlib.contextmanager
def reading_little(watch):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(PATIENCE)
        connection.connect(watch._server.server_address[:2])
        connection.sendall(asked().encode())
        yield connection


def test_a_slow_reader_gets_the_whole_page_however_long_it_takes(small):
    """It takes several times as long as one part of the page may."""
    began, got = time.monotonic(), 0
    with reading_little(small) as connection:
        while part := connection.recv(65536):
            got += len(part)
            if time.monotonic() < began + 1.0:
                time.sleep(0.02)
    assert got > 3_000_000
    assert time.monotonic() > began + 0.8


def test_a_reader_that_stops_is_cut_and_nobody_waits_for_it(small):
    with reading_little(small) as connection:
        assert connection.recv(100)
        assert send(small, asked("/version"))[0] == 200
        until(lambda: not small._server._open)
        assert len(everything(connection)) < 3_000_000


def test_a_request_that_trickles_in_is_cut(tmp_path):
    """A byte at a time would hold a connection for ever, where each byte had a limit of its own."""
    with watching(tmp_path, limits=Limits(head_seconds=0.3, linger_seconds=0.1)) as watch, connected(watch) as slow:
        slow.settimeout(0.02)
        for byte in asked(Cookie="c" * 10_000).encode():
            try:
                slow.sendall(bytes([byte]))
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                assert send(watch, asked("/version"))[0] == 200, "others are served meanwhile"
            except OSError:
                break
        else:
            pytest.fail("it was never cut")


@pytest.mark.parametrize("text", [asked("/" + "x" * 20_000), asked(Cookie="c" * 20_000), "x" * 20_000,
                                  asked(**{f"X-{i}": i for i in range(2_000)})])  # fmt: skip
def test_what_is_too_large_is_not_read_to_its_end(served, text):
    assert send(served, text)[0] == 431


def test_more_connections_than_there_may_be_are_told_to_come_again(tmp_path):
    limits = Limits(connections=2, linger_seconds=0.2)
    with watching(tmp_path, limits=limits) as watch, connected(watch) as first, connected(watch):
        until(lambda: len(watch._server._open) == 2)
        for _ in range(100):  # nor do those pile up
            status, headers, body = send(watch, asked("/version"))
            assert (status, headers["Retry-After"], body) == (503, "1", b"503 Service Unavailable\n")
        first.close()
        until(lambda: send(watch, asked("/version"))[0] == 200)


def test_many_refused_that_do_not_hang_up_are_cut(tmp_path):
    with watching(tmp_path, limits=Limits(connections=1, linger_seconds=PATIENCE)) as watch, connected(watch):
        until(lambda: len(watch._server._open) == 1)
        held = [connected(watch) for _ in range(100)]
        try:
            until(lambda: 0 < len(watch._server._refused) <= 64)
            assert b"503" in everything(held[0])
        finally:
            for one in held:
                one.close()


BROKEN = {
    "half": b"{ half", "deep": b"[" * 100_000, "bytes": b"\xff\xfe\x00", "list": b"[]", "null": b"null", "empty": b"",
    "fields": b'{"schema": 2, "layers": 7, "config": null, "state": [], "sessions": {}}',
    "number": b'{"schema": 1e999}',
}  # fmt: skip


def test_broken_runs_stop_neither_the_server_nor_the_others(tmp_path):
    write(tmp_path / "whole", content("Whole run", 0, layers=1, steps=5), "Whole run", 0)
    with watching(tmp_path) as watch:
        until(lambda: watch.follower.version != "0", lambda: watch.follower.problem)
        for what, text in BROKEN.items():
            (tmp_path / f"broken-{what}").mkdir()
            (tmp_path / f"broken-{what}" / "run.json").write_bytes(text)
        (tmp_path / "broken-folder" / "run.json").mkdir(parents=True)
        (tmp_path / "broken-link").symlink_to(tmp_path / "broken-link")
        watch.follower.look()
        status, _, body = send(watch, asked())
        assert status == 200
        assert b"Whole run" in body
        told = body.decode("utf-8") + json.loads(send(watch, asked("/version"))[2])["problem"]
        assert re.search("broken-|cannot be made just now", told), "what is wrong is said"
        shutil.rmtree(tmp_path)
        assert not watch.follower.look()
        assert "is no folder" in json.loads(send(watch, asked("/version"))[2])["problem"]
        assert b"Whole run" in send(watch, asked())[2], "the last page stays"


def test_a_hostile_run_is_served_and_says_nothing(tmp_path, capfd):
    texts = [*TERMINAL.values(), *PAGE.values()]
    write_hostile(tmp_path / os.fsdecode(b"run\xff\x1b[31m"), texts[0], 0, texts)
    with watching(tmp_path) as watch:
        until(lambda: watch.follower.version != "0", lambda: watch.follower.problem)
        status, _, body = send(watch, asked())
        assert status == 200
        assert b"<img" not in body
        body.decode("utf-8")
        assert re.fullmatch(rb'\{"version": "1", "problem": ""\}', send(watch, asked("/version"))[2])
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_ends_it_whatever_its_readers_do(run):
    code = f"from dropdiag.report import serve; serve.watch({str(run)!r}, interval=0.2); print('ended')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+)/", process.stderr.readline())[1])
        idle, slow = (socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(2))
        with idle, slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-slow:")
            os.kill(process.pid, signal.SIGINT)
            out, rest = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, out, rest) == (0, "ended\n", "")
