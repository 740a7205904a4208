"""The one HTTP client: every request goes through it, and none is waited for longer than its `Limits` allow.

The timeouts of sockets do not suffice: they begin anew with each byte that comes. A `Watchdog` therefore ends the
connection from another thread when the time is over, in whatever call the reader waits: for the handshake, a header,
the length of a chunk, or the body. Imported on use, because `zoo list` needs none of it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from zoo.transfer.base import ConnectionLostError, Limits, TooSlowError


class Watchdog:
    """Ends the connections of one request when its answer is too slow, from the making of the object to `close`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._began = self._window_began = time.monotonic()
        self._received = self._in_window = 0
        self._answered = False
        self._sockets: list[socket.socket] = []
        self._changed = threading.Condition()
        self._closed = False
        self.expired: ConnectionLostError | None = None  # once the time is over
        self._thread = threading.Thread(target=self._run, name="zoo-watchdog", daemon=True)
        self._thread.start()

    def watch(self, connection: socket.socket) -> None:
        """End this connection too when the time is over."""
        with self._changed:
            # A socket of our own for the same connection: TLS takes the other one over.
            self._sockets.append(connection.dup())
            if self.expired:
                self._end()

    def answered(self) -> None:
        """The head of the answer is complete."""
        self._answered, self._window_began = True, time.monotonic()

    def receive(self, count: int) -> None:
        """So many bytes of the body have come."""
        self._received += count
        self._in_window += count
        if self._in_window >= self._limits.least_bytes:
            self._in_window, self._window_began = 0, time.monotonic()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for connection in self._sockets:
            connection.close()

    def _run(self) -> None:
        limits = self._limits
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                window = self._window_began + limits.window - now
                total = self._began + limits.total + self._received / limits.least_rate - now
                if min(window, total) > 0:
                    self._changed.wait(min(window, total))
                    continue
                if total <= 0:
                    seconds = f"{now - self._began:.3g} s"
                    self.expired = TooSlowError(f"is too slow: {self._received} bytes came in {seconds}")
                else:
                    what = f"less than {limits.least_bytes} bytes" if self._answered else "no answer"
                    self.expired = ConnectionLostError(f"stalled: {what} came in {limits.window:g} s")
                self._end()
                return

    def _end(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)


class _WatchedAdapter(HTTPAdapter):
    """Tells a watchdog each connection that is made, and reads no body of a redirection."""

    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        self._watchdog = watchdog

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        made_by, watchdog = pool.ConnectionCls, self._watchdog

        class Watched(made_by):  # type: ignore[misc, valid-type]
            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                watchdog.watch(connection)
                return connection

        pool.ConnectionCls = Watched
        return pool

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        if response.is_redirect:
            response._content = b""  # requests would read all of it into memory, however long it is
        return response


@contextmanager
def get(url: str, headers: Mapping[str, str], timeout: tuple[float, float], watchdog: Watchdog
        ) -> Iterator[requests.Response]:  # fmt: skip
    """The answer of a server, its body unread. Raises the errors of requests, urllib3 and http.client."""
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _WatchedAdapter(watchdog))
        with session.get(url, headers=headers, timeout=timeout, stream=True) as response:
            watchdog.answered()
            yield response
