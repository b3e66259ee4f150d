"""A web server on this machine that serves bytes as told, and as badly as told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Page:
    """One file.

    Attributes:
        body: its contents.
        ranges: whether a part of it can be asked for.
        etag: names its version; None = the server sends none.
        headers: sent with it, instead of its own where they have the same name; None leaves one out.
        cut: bytes after which a connection ends, for the first requests.
        status: answers to the first requests, instead of the file.
        reason: said with the status, instead of what belongs to it.
        location: where the server sends everybody.
        asked: what every request said.
    """

    body: bytes
    ranges: bool = True
    etag: str | None = '"first"'
    headers: dict[str, str | None] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    reason: str | None = None
    location: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)


class Site(dict[str, Page]):
    """Pages by path, and the address that they are under."""

    url = ""


class Server(ThreadingHTTPServer):
    """Has a site."""

    site: Site


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        page = self.server.site.get(self.path.removeprefix("/"))
        if page is None:
            self.send_error(404)
            return
        page.asked.append({name.lower(): value for name, value in self.headers.items()})
        if page.location is not None:
            self.send_response(302)
            self.send_header("Location", page.location)
            self.end_headers()
        elif page.status:
            self.send_error(page.status.pop(0), page.reason)
        else:
            self.send_page(page)

    def send_page(self, page: Page) -> None:
        start = self.first_byte(page)
        if start > len(page.body):
            self.send_error(416)
            return
        headers: dict[str, str | None] = {"Content-Length": str(len(page.body) - start), "ETag": page.etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(page.body) - 1}/{len(page.body)}"
        self.send_response(206 if start else 200)
        for name, value in (headers | page.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        end = start + page.cut.pop(0) if page.cut else len(page.body)
        with suppress(ConnectionError):  # who heard enough hangs up
            self.wfile.write(page.body[start:end])

    def first_byte(self, page: Page) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, page.etag, page.headers.get("Last-Modified"))
        return int(wanted[1]) if wanted and page.ranges and same else 0

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def serving() -> Iterator[Site]:
    """A site, for as long as the context lasts."""
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site()
    server.site.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
