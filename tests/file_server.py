"""A web server on this machine, which can answer badly on purpose."""

from __future__ import annotations

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
        headers: sent instead of its own headers of the same name; ``None`` leaves a header out.
        cut: bytes after which the connection ends, for the first requests.
        status: answers to the first requests, instead of the file.
        reason: sent with the status, instead of the usual reason.
        location: redirects all requests.
        requests: headers of every request.
    """

    body: bytes
    headers: dict[str, str | None] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    reason: str | None = None
    location: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)


class Site(dict[str, Page]):
    """Pages by path, and their address."""

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
        page.requests.append({name.lower(): value for name, value in self.headers.items()})
        if page.location is not None:
            self.send_response(302)
            self.send_header("Location", page.location)
            self.end_headers()
        elif page.status:
            self.send_error(page.status.pop(0), page.reason)
        else:
            self.send_response(200)
            for name, value in ({"Content-Length": str(len(page.body))} | page.headers).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # a client that refuses the file hangs up
                self.wfile.write(page.body[: page.cut.pop(0) if page.cut else None])

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
