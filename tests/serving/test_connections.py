"""Clients that are silent or slow, over real sockets: each is closed, and none keeps others out."""

import http.client
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from serving.stand_in import StandIn

from evorec.serving.connections import connection_type
from evorec.serving.http import build_app
from evorec.serving.slot import Slot

NEVER_S = 10_000.0
SHORT_S = 0.05
LATE_S = 600.0
"""A test ends long before; nothing else depends on it."""
HALF = b"POST /recommend HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def serving(tmp_path, *, head_s=NEVER_S, send_s=NEVER_S, most_idle=1000, recommender=None):
    """A server in a thread; gives a function that connects to it."""
    slot = Slot(tmp_path, lambda path: recommender)
    slot.current = recommender or StandIn()
    listener = socket.create_server(("127.0.0.1", 0))
    kind = connection_type(head_s, send_s, most_idle)
    config = uvicorn.Config(
        build_app(slot), http=kind, log_config=None, log_level="critical", timeout_keep_alive=10_000
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(listener.getsockname(), timeout=LATE_S))
        server.should_exit = server.force_exit = True
    thread.join(LATE_S)
    listener.close()
    assert not thread.is_alive()


def answer(wire, sent=GET):
    """Status of the answer to a request; the connection stays open."""
    wire.sendall(sent)
    response = http.client.HTTPResponse(wire)
    response.begin()
    response.read()
    return response.status


def is_closed(wire):
    """Whether the server closes a connection; waits for that."""
    try:
        return wire.recv(1) == b""
    except ConnectionResetError:
        return True


def answered(connect):
    """A connection with an answered request; a busy machine may be too late for `SHORT_S`, and tries again."""
    while True:
        wire = connect()
        try:
            if answer(wire) == 200:
                return wire
        except (OSError, http.client.HTTPException):
            continue


def test_a_client_without_a_whole_head_is_closed(tmp_path):
    with serving(tmp_path, head_s=SHORT_S) as connect:
        assert is_closed(connect())
        for sent in (b"G", HALF, HALF * 3):
            wire = connect()
            wire.sendall(sent)
            assert is_closed(wire)
        wire = answered(connect)
        wire.sendall(HALF)  # after a request, too
        assert is_closed(wire)


def test_a_request_that_is_being_answered_is_never_closed(tmp_path):
    slow = StandIn()
    slow.gate.clear()
    body = b'{"users":[{}]}'
    sent = HALF + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with serving(tmp_path, head_s=SHORT_S, most_idle=1, recommender=slow) as connect:
        wire = answered(connect)
        wire.sendall(sent)  # in a single packet
        while not slow.asked:
            time.sleep(0.005)
        for _ in range(3):  # each is closed, and time passes
            assert is_closed(connect())
        slow.gate.set()
        response = http.client.HTTPResponse(wire)
        response.begin()
        assert response.status == 200


def test_idle_connections_make_room_for_new_clients(tmp_path):
    most = 10
    with serving(tmp_path, most_idle=most) as connect:
        kept = [connect() for _ in range(most)]
        assert [answer(wire) for wire in kept[5:]] == [200] * 5  # these have waited less
        for wire in kept[:2]:
            wire.sendall(HALF)  # half a request does not count as one
        silent = [connect() for _ in range(4)]
        assert [is_closed(wire) for wire in kept[:4]] == [True] * 4
        assert [answer(wire) for wire in (*kept[4:], *silent, *silent)] == [200] * (6 + 4 + 4)
        flood = [connect() for _ in range(10 * most)]
        assert answer(flood[-1]) == 200
        assert answer(connect()) == 200
        assert all(is_closed(wire) for wire in flood[: 9 * most])


def test_a_client_that_does_not_read_its_response_is_closed(tmp_path):
    request = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"  # a megabyte
    with serving(tmp_path, send_s=SHORT_S) as connect:
        wire = connect()
        wire.sendall(request * 20)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            ask_on(wire, request)
        assert answer(connect()) == 200


def ask_on(wire, request):
    while True:
        wire.sendall(request)
        time.sleep(0.005)
