"""The command `serve`: a bundle over HTTP."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from evorec.cli.app import SHIP, command
from evorec.cli.output import Output
from evorec.cli.signals import without_limit
from evorec.errors import ConfigError
from evorec.serving.limits import Limits

if TYPE_CHECKING:
    import uvicorn

    from evorec.serving.slot import Slot

EXTRA: Final = ("fastapi", "fastapi_offline", "onnxruntime", "prometheus_client", "starlette", "uvicorn")
"""Libraries of the extra `serve`."""
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
KEEP_ALIVE_S: Final = 75
"""Longer than proxies keep an idle connection (60 s is common), so that the proxy closes it."""
SEND_S: Final = 60.0
"""Seconds in which a client must read some of a response."""
BACKLOG: Final = 200
"""Connections that wait to be accepted; asyncio accepts that many at once, each an open file."""
ROOT_PATH: Final = r"(/[A-Za-z0-9._~-]+)*"
UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
SIZE: Final = rf"([1-9][0-9]{{0,11}}) ?({'|'.join(UNITS)})"


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(SIZE, text.upper()).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def _size(text: str) -> str:
    if not re.fullmatch(SIZE, text.upper()):
        raise typer.BadParameter(f"must be a size such as 512KiB or 1MiB, got {text!r}")
    return text


def _root_path(text: str) -> str:
    if not re.fullmatch(ROOT_PATH, path := text.rstrip("/")):
        raise typer.BadParameter(f"must be a path such as /shop, got {text!r}")
    return path


class IdForm(StrEnum):
    """Ids of responses."""

    AUTO = "auto"
    TEXT = "text"


@command(
    panel=SHIP,
    order=60,
    examples=("evorec serve models/champion --port 8080",),
)
def serve(
    output: Output,
    bundle: Annotated[
        Path, typer.Argument(help="Bundle or a link to it; the server follows a changed link.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; an address for other machines needs a proxy.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 = a free port.")] = 8000,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Requests processed in parallel; default: number of cores.", show_default=False),
    ] = None,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; others get status 503.")] = Limits.queue,
    max_batch: Annotated[int, typer.Option(min=1, help="Most users in a request.")] = Limits.batch,
    max_k: Annotated[int, typer.Option(min=1, help="Largest length of a list.")] = Limits.k,
    max_items: Annotated[int, typer.Option(min=1, help="Most items in a request.")] = Limits.items,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", callback=_size, help="Largest body of a request, such as 512KiB or 1MiB.")
    ] = f"{Limits.body_bytes >> 20}MiB",
    ids: Annotated[
        IdForm, typer.Option(help="Ids of responses: text = all as texts, auto = only numbers beyond 2**53 - 1.")
    ] = IdForm.AUTO,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH", callback=_root_path, help="Prefix of all paths at a proxy in front, such as /shop."
        ),
    ] = "",
    head_s: Annotated[
        float, typer.Option(min=0.01, help="Seconds for the head of a request; a slower or silent client is closed.")
    ] = 10,
    poll_s: Annotated[float, typer.Option(min=0.01, help="Seconds between checks of BUNDLE.")] = 2,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds after SIGTERM with /ready at 503 and the port still open.")
    ] = 1,
    stop_s: Annotated[int, typer.Option(min=1, help="Seconds for requests to finish after that.")] = 20,
) -> None:
    """Answer requests over HTTP from a bundle, until SIGTERM or Ctrl-C; SIGHUP loads the bundle again.

    POST /recommend and /score, or of a bundle for a table of rows /score alone;
    GET or HEAD /health, /ready, /info and /metrics; GET /openapi.json and /docs.
    """
    try:
        import uvicorn  # noqa: F401

        from evorec.serving.http import build_app
        from evorec.serving.recommender import load_bundle
        from evorec.serving.rows import load_rows
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise ConfigError(f"serve needs {error.name}, which is not installed: pip install 'evorec[serve]'") from None

    from evorec.serving.bundle import is_row_bundle
    from evorec.serving.slot import Slot

    without_limit()
    slot = Slot(bundle, load_rows if is_row_bundle(bundle) else load_bundle, note=partial(output.note, style="yellow"))
    slot.open()
    limits = Limits(
        body_bytes=_bytes(max_body), batch=max_batch, k=max_k, items=max_items, queue=queue,
        workers=workers or len(os.sched_getaffinity(0)),
    )  # fmt: skip
    with _listening(host, port) as listener, slot.watched(poll_s), _signals(*STOPS, signal.SIGHUP) as inbox:
        app = build_app(slot, limits, ids_as_text=ids is IdForm.TEXT, root_path=root_path)
        server = _server(app, output.verbosity, head_s, stop_s)
        _announce(output, listener, slot)
        with ThreadPoolExecutor(1, thread_name_prefix="evorec server") as pool:
            running = pool.submit(server.run, [listener])  # outside of the main thread it installs no signal handlers
            running.add_done_callback(lambda _: inbox.put(0))
            _wait(inbox, slot)
            slot.stop()  # from now on each response closes its connection, and balancers see that this server stops
            if not running.done():
                _wait(inbox, slot, drain_s)
            server.should_exit = True
            if not running.done():
                _wait(inbox, slot)
            server.force_exit = True
            running.result()
    output.note("stopped")


def _server(app: Any, verbosity: int, head_s: float, stop_s: int) -> uvicorn.Server:
    """uvicorn, silent without ``-v``; its messages go to standard error."""
    import uvicorn

    from evorec.serving.connections import connection_type

    if verbosity > 0:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s")
    return uvicorn.Server(uvicorn.Config(
        app, log_config=None, log_level="info" if verbosity > 0 else "error", access_log=verbosity > 0, ws="none",
        server_header=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=stop_s,
        http=connection_type(head_s, SEND_S), backlog=BACKLOG,
    ))  # fmt: skip


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, opened first so that a busy address fails early."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only with a protocol
    except OSError as error:
        raise ConfigError(f"--host {host} is not an address of this machine: {error.strerror}.") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"--host {host} --port {port} is not available: {error.strerror}; "
                "choose another port, or 0 for a free port."
            ) from None
        yield listener


@contextmanager
def _signals(*numbers: int) -> Iterator[SimpleQueue[int]]:
    """Signals as messages instead of interruptions; `SimpleQueue.put` is safe inside a handler."""
    inbox: SimpleQueue[int] = SimpleQueue()
    before = {number: signal.signal(number, lambda number, frame: inbox.put(number)) for number in numbers}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(output: Output, listener: socket.socket, slot: Slot) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not ipaddress.ip_address(host).is_loopback:
        output.note(
            f"{host} can be reached from other machines, and this server has no password and no TLS: "
            "put a proxy with both in front.",
            style="yellow",
        )
    assert slot.current is not None
    output.result({"url": url, "version": slot.current.version}, text=url)
    from evorec.serving.rows import RowScorer

    if isinstance(slot.current, RowScorer):
        row = dict.fromkeys(slot.current.features[:2])
        output.next_step("curl", f"{url}/score", "--json", json.dumps({"rows": [row]}))
        return
    user = next(iter(slot.current.user_ids), 1)
    output.next_step("curl", f"{url}/recommend", "--json", json.dumps({"users": [{"id": user}]}))


def _wait(inbox: SimpleQueue[int], slot: Slot, timeout_s: float | None = None) -> None:
    """Wait for a signal to stop, the end of the server (0), or the time; SIGHUP loads the bundle again."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    with suppress(Empty):
        while inbox.get(timeout=None if end is None else max(0.0, end - time.monotonic())) == signal.SIGHUP:
            slot.look_soon()
