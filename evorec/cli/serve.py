"""The command that answers requests over HTTP: serve."""

from __future__ import annotations

import asyncio
import copy
import ipaddress
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from evorec.cli.app import SHIP, app
from evorec.cli.output import Output, command
from evorec.errors import ConfigError
from evorec.serving.messages import Limits
from evorec.serving.slot import Slot

if TYPE_CHECKING:
    import uvicorn

EXTRA: Final = ("fastapi", "onnxruntime", "prometheus_client", "starlette", "uvicorn")
"""Libraries of the extra `serve`."""
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
KEEP_ALIVE_S: Final = 75
"""Longer than proxies keep an idle connection (60 s is common), so that it is they who close it."""
CONNECTIONS: Final = 1_000
BACKLOG: Final = 2_048
LOOK_S: Final = 0.05
"""Between looks for a signal."""
GRACE_S: Final = 0.5
"""In which those who connected just before the port closed may send their request."""
UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
SIZE: Final = rf"([1-9][0-9]{{0,11}}) ?({'|'.join(UNITS)})"


def _bytes(text: str) -> int:
    number, unit = re.fullmatch(SIZE, text.upper()).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def _size(text: str) -> str:
    if not re.fullmatch(SIZE, text.upper()):
        raise typer.BadParameter(f"must be a size such as 512KiB or 1MiB, got {text!r}")
    return text


@command(app, rich_help_panel=SHIP)
def serve(
    output: Output,
    bundle: Annotated[
        Path, typer.Argument(help="Bundle, or a link to one: move it and the server follows.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's own need a proxy.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 = a free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Requests worked on at once; one per core.", show_default=False)
    ] = None,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more get status 503.")] = Limits.queue,
    max_batch: Annotated[int, typer.Option(min=1, help="Users in one request.")] = Limits.batch,
    max_k: Annotated[int, typer.Option(min=1, help="Length of a list.")] = Limits.k,
    max_items: Annotated[int, typer.Option(min=1, help="Items that one request scores.")] = Limits.items,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", callback=_size, help="Of the body of a request, such as 512KiB or 1MiB.")
    ] = f"{Limits.body_bytes >> 20}MiB",
    poll_s: Annotated[float, typer.Option(min=0.01, help="Seconds between looks at BUNDLE; SIGHUP looks at once.")] = 2,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds after SIGTERM in which /ready says no and connections still come.")
    ] = 1,
    stop_s: Annotated[int, typer.Option(min=1, help="Seconds that requests have to finish after that.")] = 20,
) -> None:
    """Answer requests over HTTP from a bundle, until SIGTERM or Ctrl-C.

    POST /recommend and /score; GET /health, /ready, /info, /metrics, /openapi.json and /docs.
    """
    try:
        import uvicorn

        from evorec.serving.http import build_app
        from evorec.serving.recommender import load_bundle
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise ConfigError(f"serve needs {error.name}, which is not installed: pip install 'evorec[serve]'") from None

    slot = Slot(bundle, load_bundle, note=partial(output.note, style="yellow"))
    slot.open()
    limits = Limits(
        body_bytes=_bytes(max_body), batch=max_batch, k=max_k, items=max_items, queue=queue,
        workers=workers or len(os.sched_getaffinity(0)),
    )  # fmt: skip
    with _listening(host, port) as listener, slot.watched(poll_s), _signals(*STOPS, signal.SIGHUP) as inbox:
        server = uvicorn.Server(_settings(build_app(slot, limits), output.verbosity, stop_s))
        _announce(output, listener, slot)
        with ThreadPoolExecutor(1, thread_name_prefix="evorec server") as pool:
            pool.submit(asyncio.run, _run(server, listener, slot, inbox, drain_s)).result()
    output.note("stopped")


def _settings(app: Any, verbosity: int, stop_s: int) -> uvicorn.Config:
    """How uvicorn runs: quiet without ``-v``, and whatever it says goes to standard error."""
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    log = copy.deepcopy(LOGGING_CONFIG)
    log["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return uvicorn.Config(
        app, log_config=log, log_level="info" if verbosity > 0 else "error", access_log=verbosity > 0, ws="none",
        server_header=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=stop_s,
        limit_concurrency=CONNECTIONS,
    )  # fmt: skip


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, so that nothing else is begun when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sends without delay only where the protocol is said
    except OSError as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error.strerror}.") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"--host {host} --port {port} cannot be listened at: {error.strerror}; "
                "choose another port, or 0 for a free one."
            ) from None
        yield listener


@contextmanager
def _signals(*numbers: int) -> Iterator[SimpleQueue[int]]:
    """Signals as messages instead of interruptions; `SimpleQueue.put` may be called from a handler."""
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
            f"{host} can be reached from other machines, and there is no password and no TLS here: "
            "put a proxy in front that has both.",
            style="yellow",
        )
    assert slot.current is not None
    output.result({"url": url, "version": slot.current.version}, text=url)
    output.next_step(f"""curl {url}/recommend --json '{{"users": [{{"id": 1}}]}}'""")


async def _run(
    server: uvicorn.Server, listener: socket.socket, slot: Slot, inbox: SimpleQueue[int], drain_s: float
) -> None:
    """Serves until it is told to stop, and then ends step by step; each further signal ends a step early."""
    running = asyncio.create_task(server.serve([listener]))
    stops: asyncio.Queue[int] = asyncio.Queue()
    following = asyncio.create_task(_follow(inbox, slot, stops))
    await _first_of(running, stops)
    slot.stop()  # from now on each answer closes its connection, and balancers see that this server goes
    await _first_of(running, stops, timeout_s=drain_s)
    await _close_port(server, listener)
    await _first_of(running, stops, timeout_s=GRACE_S)  # for those who have connected and are about to ask
    server.should_exit = True
    await _first_of(running, stops)
    server.force_exit = True
    await running
    following.cancel()


async def _close_port(server: uvicorn.Server, listener: socket.socket) -> None:
    """No new connections. Those that wait at the port are let in first: closing it would cut them off."""
    with listener.dup() as port:
        port.setblocking(False)
        for one in server.servers:
            one.close()
        waiting = []
        with suppress(BlockingIOError):
            while True:
                waiting.append(port.accept()[0])
    make, state = server.config.http_protocol_class, server.server_state
    for connection in waiting:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: make(config=server.config, server_state=state, app_state={}),  # type: ignore[call-arg]
            connection,
        )


async def _follow(inbox: SimpleQueue[int], slot: Slot, stops: asyncio.Queue[int]) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        while not inbox.empty():
            number = inbox.get_nowait()
            if number == signal.SIGHUP:
                slot.look_soon()
            else:
                stops.put_nowait(number)


async def _first_of(running: asyncio.Task[None], stops: asyncio.Queue[int], timeout_s: float | None = None) -> None:
    """Waits for the end of the server, a signal to stop, or the time."""
    stop = asyncio.create_task(stops.get())
    await asyncio.wait([running, stop], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
