"""The report of runs that are still training, on this machine, read-only.

One page and its version number are served, from memory: no request reads a file. Requests must name the server as the
reader would (so a foreign page cannot reach it through a name of its own, DNS rebinding), and beyond this machine they
must bring a token. How many and how slow its readers may be is in `dropdiag.report.connections`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from dropdiag.errors import ArgumentError
from dropdiag.formatting import jsonable
from dropdiag.report.connections import Handler, Limits, Server
from dropdiag.report.follower import Follower
from dropdiag.report.page import policy
from dropdiag.store.listing import run_folders
from dropdiag.store.storage.places import as_path

POLL: Final = 0.1
"""Seconds in which the server sees that it is to end."""
COOKIE: Final = "dropdiag-token"
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST: Final = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/?#@\[\]\\]+?)\.?)(?::[0-9]{0,5})?")
"""A host with or without its port and the dot that ends a whole name: any other sign leads elsewhere."""


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

    Parameters and errors are those of `watch`; ``page`` is its title, baseline and claims, ``limits`` what a connection
    may take.
    """

    def __init__(
        self,
        target: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        interval: float = 5.0,
        token: str | None = None,
        limits: Limits | None = None,
        **page: Any,
    ) -> None:
        if not interval > 0.0:
            raise ArgumentError(f"interval must be a positive number of seconds, got {interval!r}")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ArgumentError("token must be printable ASCII and not empty; leave it out to have one made")
        path = as_path(target)
        run_folders(path)  # there must be such a folder, runs or not
        self.token = token or (None if host in LOOPBACK else secrets.token_urlsafe(24))
        self.follower = Follower(path, interval=interval, **page)
        try:
            self._server = _Server(host, port, self.follower, self.token, limits or Limits())
        except OSError as error:
            raise ArgumentError(
                f"cannot listen at {host!r}, port {port}: {error}; choose another host or port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="dropdiag-serve", daemon=True
        )

    @property
    def url(self) -> str:
        """Address of the page, with its token."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        shown = {"0.0.0.0": socket.gethostname(), "[::]": socket.gethostname()}.get(shown, shown)  # noqa: S104 - shown, not bound
        return f"http://{shown}:{port}/" + (f"?token={_quoted(self.token)}" if self.token else "")

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


class _Server(Server):
    def __init__(self, host: str, port: int, follower: Follower, token: str | None, limits: Limits) -> None:
        self.follower, self.token, self.host = follower, token, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler, limits)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server: an address, or a name that is its own.

        Raises
        ------
        ValueError
            If it is no host.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            raise ValueError(host)
        name = _address(found["address"] or found["name"]) or found["name"].lower()
        if self.host in LOOPBACK:
            return name in LOOPBACK
        return name in {self.host.lower(), socket.gethostname().lower(), "localhost"} or bool(_address(name))


class _Handler(Handler):
    server: _Server
    server_version, sys_version = "dropdiag", ""

    def do_GET(self) -> None:  # noqa: N802 - the base class's way
        """Answer with the page or its version."""
        try:
            known, address = self.server.knows(self._host()), urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        given = parse_qs(address.query).get("token", [""])[-1]
        # a page of another site can make a browser ask this server under a name of its own (DNS rebinding)
        if not known:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif not self._may_read(given):
            self._refuse(HTTPStatus.FORBIDDEN)
        # the token leaves the address at once: it must not stay in the history, or on a screen that is shared
        elif given and self.server.token:
            kept = f"{COOKIE}={_quoted(self.server.token)}; HttpOnly; SameSite=Strict; Path=/"
            self._send(HTTPStatus.SEE_OTHER, b"", "text/plain; charset=utf-8", Location="/", **{"Set-Cookie": kept})
        else:
            self._answer(address.path)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, path: str) -> None:
        follower = self.server.follower
        if path == "/":
            self._send(HTTPStatus.OK, follower.body, "text/html; charset=utf-8")
        elif path == "/version":
            state = {"version": follower.version, "problem": follower.problem}
            self._send(HTTPStatus.OK, json.dumps(jsonable(state)).encode("ascii"), "application/json")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _host(self) -> str:
        """Return the host that the one Host header names; a request of HTTP/0.9 has none, and no answer has headers."""
        named = self.headers.get_all("Host", [])
        if self.request_version == "HTTP/0.9" or len(named) != 1 or not self.path.startswith("/"):
            raise ValueError(named)
        return str(named[0]).strip()

    def _may_read(self, given: str) -> bool:
        token = self.server.token
        if token is None:
            return True
        # not by http.cookies, which stops at what it cannot parse: cookies know no port, and another program's come too
        pairs = (one.strip().partition("=") for one in self.headers.get("Cookie", "").split(";"))
        kept = [value for name, _, value in pairs if name == COOKIE]
        # all are compared, and each in a time that does not tell how much of it is right
        right = [_same(given, token), *(_same(value, _quoted(token)) for value in kept)]
        return any(right)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # any other method there is or is not
            return self._other
        raise AttributeError(name)

    def _other(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse what is no request; the page of the standard library would repeat it, token and all."""
        self._refuse(HTTPStatus(code))

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self._send(status, f"{status.value} {status.phrase}\n".encode("ascii"), "text/plain; charset=utf-8", **headers)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.request_version = self.protocol_version  # an answer has headers, whatever was asked in
        self.send_response(status)
        always = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store", "Connection": "close",
            "Content-Security-Policy": f"{policy(connect=True)}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
        }  # fmt: skip
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":  # whose answer is its headers alone
            self.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep requests, in which a token may be, out of the terminal in which training may print."""


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), known.encode("utf-8"))


def _quoted(token: str) -> str:
    """Return a token as an address and a cookie can hold it."""
    return quote(token, safe="")


def _address(name: str) -> str:
    """Return an address as it is written most shortly; nothing where it is none."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return ""


__all__ = ["Watch", "watch"]
