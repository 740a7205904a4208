"""A server on loopback that answers every request with the same bytes, whether they are HTTP or not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Sent = Iterator[bytes]


@contextmanager
def server(sent: Callable[[], Sent]) -> Iterator[str]:
    """The address of a server that answers every request so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended, threads = threading.Event(), []

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):  # the client had enough
                connection.recv(1 << 16)
                for piece in sent():
                    if ended.is_set():
                        return
                    connection.sendall(piece)

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                if ended.is_set():
                    connection.close()
                    return
                threads.append(threading.Thread(target=answer, args=(connection,), daemon=True))
                threads[-1].start()

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ended.set()
            socket.create_connection(("127.0.0.1", port)).close()
            threads[0].join()
