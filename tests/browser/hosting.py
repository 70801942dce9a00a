"""A host application: its page, on an origin of its own, has the viewer in a frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final
from urllib.parse import parse_qs, urlsplit

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>A host application</title>
<link rel="icon" href="data:,">
<h1>Your account</h1>
<iframe title="Audit trail" src="{src}" width="1000" height="700"></iframe>
</html>
"""


class _Handler(BaseHTTPRequestHandler):
    """Answers every path with a page that frames what the query's `src` says."""

    def do_GET(self) -> None:
        (src,) = parse_qs(urlsplit(self.path).query)["src"]
        page = _PAGE.format(src=escape(src)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def host() -> Iterator[str]:
    """The origin of a running host application: another site than 127.0.0.1 is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
