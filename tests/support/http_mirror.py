"""A real HTTP server on loopback that serves a folder, and misbehaves when told to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mirror:
    """Serves a folder with ETag, Last-Modified and ranges, as static servers do.

    trick  what it does with checkpoints; "all ..." with everything
    asked  the paths that were asked for; `ranges` the Range headers of checkpoints, "" where there was none
    """

    def __init__(self, folder: Path) -> None:
        outer = self
        self.folder = folder
        self.trick = "none"
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.pause = 0.0  # seconds before each piece of a checkpoint

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.headers.append({key.lower(): value for key, value in self.headers.items()})
                self.close_connection = True
                with suppress(BrokenPipeError, ConnectionResetError):  # the client had enough
                    outer.answer(self, folder / self.path[1:])

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def checkpoints(self) -> list[str]:
        """Those of the paths asked for that are checkpoints."""
        return [path for path in self.asked if path.endswith(".safetensors")]

    def answer(self, handler: BaseHTTPRequestHandler, path: Path) -> None:
        checkpoint = path.suffix == ".safetensors"
        trick = self.trick if checkpoint or self.trick.startswith("all ") else "none"
        data = path.read_bytes() if path.is_file() else b""
        status = {"404": 404, "500": 500, "all loop": 302}.get(trick, 200 if path.is_file() else 404)
        tag = f'"{sha256(data).hexdigest()[:16]}"'
        if trick in ("html", "html, right length"):
            data = b"<html>try later</html>".ljust(len(data) if trick != "html" else 0)
        if trick == "flipped":
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        if trick in ("longer", "no length, longer"):
            data += b"more"
        if trick == "shorter":
            data = data[:-4]
        first, total = 0, len(data)
        if checkpoint:
            asked = handler.headers.get("Range", "")
            self.ranges.append(asked)
            part = re.fullmatch(r"bytes=(\d+)-", asked)
            if part and trick != "no ranges" and handler.headers.get("If-Range", tag) == tag:
                first, status = int(part[1]), 206
                if first >= total:
                    status, data = 416, b""
        body = data[first:]
        handler.send_response(status)
        if trick == "all loop":
            handler.send_header("Location", handler.path)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if not trick.startswith("no length"):
            handler.send_header("Content-Length", str(len(body) + (7 if trick == "lying length" else 0)))
        if trick != "no validator":
            handler.send_header("ETag", tag)
        if trick.startswith("html"):
            handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Connection", "close")
        handler.end_headers()
        if trick == "stalled":
            handler.wfile.write(body[:100])
            time.sleep(0.6)
        elif trick in ("cut", "no length, cut", "no ranges, cut", "no validator"):
            handler.wfile.write(body[: max(1, len(body) // 2)] if len(body) > 1000 else body)
        elif trick == "always cut":
            handler.wfile.write(b"")
        elif self.pause and checkpoint:
            step = max(1, len(body) // 20)
            for start in range(0, len(body), step):
                time.sleep(self.pause)
                handler.wfile.write(body[start : start + step])
        else:
            handler.wfile.write(body)


@contextmanager
def serving(folder: Path) -> Iterator[Mirror]:
    """Inside the context the folder is served."""
    served = Mirror(folder)
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()
        thread.join()
