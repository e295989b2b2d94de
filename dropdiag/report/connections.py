"""Connections to a server, as many and as slow as others make them: each with its limits, all of them counted."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

CHUNK: Final = 65_536
"""Bytes of an answer that are sent at a time."""
REFUSED: Final = 64
"""Connections that were refused and wait for their reader to hang up: with more than this the oldest is cut."""


class TooLargeError(Exception):
    """The head of a request has more bytes than are read of one."""


@dataclass(frozen=True)
class Limits:
    """What a connection may take.

    Attributes
    ----------
    connections : int
        At the same time; any more are told to come again.
    head_seconds : float
        For all of a request, from the connection on, however it trickles in.
    head_bytes : int
        Of a request: its line and headers.
    chunk_seconds : float
        For 64 kB of an answer, however long the whole takes a slow reader.
    linger_seconds : float
        Until a connection is cut, once all is sent, whose reader does not hang up.
    """

    connections: int = 64
    head_seconds: float = 10.0
    head_bytes: int = 16_384
    chunk_seconds: float = 30.0
    linger_seconds: float = 1.0


class Server(ThreadingHTTPServer):
    """A server with a thread a connection, which no number of clients keeps from ending at once.

    Parameters
    ----------
    address : (str, int)
    handler : type
    limits : Limits
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], limits: Limits) -> None:
        self.limits = limits
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refused: deque[tuple[float, socket.socket]] = deque()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; refuse, without one, where as many are open as may be."""
        with self._lock:
            free = len(self._open) < self.limits.connections
            if free:
                self._open.add(request)
        if free:
            super().process_request(request, client_address)
        else:
            self._refuse(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and let another one in."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up on those that were refused and do not."""
        while self._refused and (len(self._refused) > REFUSED or self._refused[0][0] < time.monotonic()):
            self._refused.popleft()[1].close()

    def server_close(self) -> None:
        """Close the server and all connections: nothing that is sent slowly holds up the end."""
        super().server_close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):  # it has just been closed by its own thread
                    one.shutdown(socket.SHUT_RDWR)
        for _, one in self._refused:
            one.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of readers that hang up, or of a connection that was cut; anything else is reported."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def _refuse(self, request: socket.socket) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        body = f"{status.value} {status.phrase}\n"
        head = (
            f"HTTP/1.0 {status.value} {status.phrase}", "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}", "Retry-After: 1", "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff", "Connection: close",
        )  # fmt: skip
        # so short a text goes into the buffer of a new connection at once; nothing is waited for in this thread
        request.setblocking(False)
        with suppress(OSError):
            request.send("\r\n".join([*head, "", body]).encode("ascii"))
            request.shutdown(socket.SHUT_WR)
        # closed at once, what the client has sent and nobody read would take the answer from it
        self._refused.append((time.monotonic() + self.limits.linger_seconds, request))


class Handler(BaseHTTPRequestHandler):
    """One request of one connection, within the server's limits."""

    server: Server
    protocol_version = "HTTP/1.0"  # a connection a request: none is kept alive, none outlives the server

    def setup(self) -> None:
        """Read the request through what counts its bytes and seconds."""
        super().setup()
        self.command = self.requestline = self.path = ""  # of a request that never came to its end
        self.rfile.close()
        limits = self.server.limits
        self.rfile = io.BufferedReader(_Head(self.connection, limits.head_seconds, limits.head_bytes))

    def handle_one_request(self) -> None:
        """Answer the request; one that is too large is told so, one that does not come is cut."""
        try:
            super().handle_one_request()
        except TooLargeError:
            self.close_connection = True
            self.request_version = "HTTP/1.0"
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def end_headers(self) -> None:
        """Send the headers, for which the seconds of the request no longer count."""
        self.connection.settimeout(self.server.limits.chunk_seconds)
        super().end_headers()

    def write(self, body: bytes) -> None:
        """Send bytes, with a limit for each part of them."""
        whole = memoryview(body)
        for at in range(0, len(whole), CHUNK):
            self.wfile.write(whole[at : at + CHUNK])

    def finish(self) -> None:
        """Wait a moment for the reader to hang up: to close on what it still sends can take the answer from it."""
        super().finish()
        end = time.monotonic() + self.server.limits.linger_seconds
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0.0:
                self.connection.settimeout(left)
                if not self.connection.recv(CHUNK):
                    break


class _Head(io.RawIOBase):
    """What a client sends, for so many seconds and bytes."""

    def __init__(self, connection: socket.socket, seconds: float, most: int) -> None:
        self._connection, self._left = connection, most
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise TooLargeError
        left = self._end - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("the request did not come in time")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count
