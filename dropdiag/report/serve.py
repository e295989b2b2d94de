"""The report of runs that are still training, on this machine, read-only.

One page and its version number are served, from memory: no request reads a file. Requests must name the server as the
reader would (so a foreign page cannot reach it through a name of its own, DNS rebinding), and beyond this machine they
must bring a token.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from dropdiag.errors import ArgumentError
from dropdiag.report.follower import Follower
from dropdiag.report.page import policy
from dropdiag.store.listing import run_folders

COOKIE: Final = "dropdiag-token"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def watch(
    target: str | Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    interval: float = 5.0,
    token: str | None = None,
    open_browser: bool = False,
    title: str | None = None,
    baseline: str | None = None,
    claims: Mapping[str, Any] | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the report of a run, or of all runs below a folder, while they train; returns at Ctrl-C.

    Parameters
    ----------
    target : path
        A run folder, or a folder with runs at any depth; they may come later.
    host : str
        Address to listen at. Beyond this machine (any but 127.0.0.1, ::1 and localhost) a token is needed to read.
    port : int
        0 is any free one.
    interval : float
        Seconds between two looks at the folders, and between two questions of the page.
    token : str, optional
        Asked for in the address (``?token=``), then kept in a cookie. Beyond this machine one is made if none is given.
    open_browser : bool
    title, baseline, claims
        As in `dropdiag.report`.
    announce : callable, optional
        Is given the page's address, token and all; by default it is printed to stderr.

    Raises
    ------
    ArgumentError
        If the interval is not positive, the token is empty, or the address cannot be listened at.
    RunError
        If there is no such folder.

    Notes
    -----
    The connection is not encrypted: beyond this machine whoever sees the traffic sees the token. An SSH tunnel to the
    default address needs none.

    The address is told at once, before the first page is made. A page takes as long as a report of the runs does;
    at least five times as long lies between one making and the next.
    """
    with (
        _Interrupts() as interrupts,
        Watch(target, host, port, interval=interval, token=token, title=title, baseline=baseline, claims=claims) as one,
    ):
        (announce or _print)(one.url)
        if open_browser and not interrupts.came:
            webbrowser.open(one.url)
        while not interrupts.came and one.serves():
            time.sleep(0.1)


class _Interrupts:
    """Ctrl-C, noted instead of raised, so that it ends nothing half way; a second one is raised.

    Only the main thread hears of signals: in another one nothing is changed.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True  # no lock is taken here: the thread that is interrupted may hold it


def _print(url: str) -> None:
    sys.stderr.write(f"watching at {url} (Ctrl-C ends it)\n")
    sys.stderr.flush()


class Watch:
    """A server of one page that follows runs; a context manager.

    Parameters and errors are those of `watch`; ``page`` is its title, baseline and claims.
    """

    def __init__(
        self,
        target: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        interval: float = 5.0,
        token: str | None = None,
        **page: Any,
    ) -> None:
        if not interval > 0.0:
            raise ArgumentError(f"interval must be a positive number of seconds, got {interval!r}")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ArgumentError("token must be printable ASCII and not empty; leave it out to have one made")
        path = Path(target).expanduser().absolute()
        run_folders(path)  # there must be such a folder, runs or not
        self.token = token or (None if host in LOOPBACK else secrets.token_urlsafe(24))
        self.follower = Follower(path, interval=interval, **page)
        try:
            self._server = _Server(host, port, self.follower, self.token)
        except OSError as error:
            raise ArgumentError(
                f"cannot listen at {host!r}, port {port}: {error}; choose another host or port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="dropdiag-serve", daemon=True)

    @property
    def url(self) -> str:
        """Address of the page, with its token."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        shown = {"0.0.0.0": socket.gethostname(), "[::]": socket.gethostname()}.get(shown, shown)  # noqa: S104 - shown, not bound
        return f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")

    def __enter__(self) -> Watch:
        self._thread.start()
        self.follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.follower.stop()

    def serves(self) -> bool:
        """Whether the server still answers."""
        return self._thread.is_alive()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, follower: Follower, token: str | None) -> None:
        self.follower, self.token, self.host = follower, token, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def knows(self, host: str | None) -> bool:
        """Whether a Host header names this server: an address, or a name that is its own."""
        name = (urlsplit(f"//{host}").hostname or "") if host else ""
        if self.host in LOOPBACK:
            return name in LOOPBACK
        return name in {self.host.lower(), socket.gethostname().lower(), "localhost"} or _is_address(name)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of readers that hang up; anything else is reported."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.0"  # a connection a request: none outlives the server
    server_version, sys_version = "dropdiag", ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page or its version."""
        try:
            address = urlsplit(self.path)
            known = self.server.knows(self.headers.get("Host"))
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        # a page of another site can make a browser ask this server under a name of its own (DNS rebinding)
        if not known:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return
        given = parse_qs(address.query).get("token", [""])[-1]
        if not self._may_read(given):
            self._refuse(HTTPStatus.FORBIDDEN)
        # the token leaves the address at once: it must not stay in the history, or on a screen that is shared
        elif given and self.server.token:
            kept = f"{COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", Location="/", **{"Set-Cookie": kept})
        elif address.path == "/":
            self._send(HTTPStatus.OK, self.server.follower.page.encode("utf-8"), "text/html; charset=utf-8")
        elif address.path == "/version":
            follower = self.server.follower
            state = {"version": follower.version, "problem": follower.problem}
            self._send(HTTPStatus.OK, json.dumps(state).encode("utf-8"), "application/json")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _may_read(self, given: str) -> bool:
        token = self.server.token
        if token is None:
            return True
        # cookies know no port: any other program on this machine may have set one that cannot be parsed
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        return any(hmac.compare_digest(one.encode("utf-8"), token.encode("utf-8"))
                   for one in (given, cookie.value if cookie else ""))  # fmt: skip

    def _other(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET", Connection="close")
        self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _other  # noqa: N815

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self._send(status, f"{status.value} {status.phrase}\n".encode("ascii"), "text/plain; charset=utf-8", **headers)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        always = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store",
            "Content-Security-Policy": f"{policy(connect=True)}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }  # fmt: skip
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":  # whose answer is its headers alone
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep requests out of the terminal in which training may print."""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


__all__ = ["Watch", "watch"]
