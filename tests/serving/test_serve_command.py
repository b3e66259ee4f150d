"""``evorec serve`` as a process: how it starts, follows its bundle under load, and stops without losing a request."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving.stand_in import write_stand_in

from evorec.cli import main

TESTS = Path(__file__).resolve().parents[1]
STARTUP_S = 600.0
"""A Python process that imports the server, on a busy machine."""
LATE_S = 600.0
"""Far more than an answer or a swap needs there."""
DELAYED_S = 0.035
"""An answer that waits for Linux's delayed acknowledgement takes 40 ms; the fastest of some takes 2."""
MOST_ANSWERS = 1000
N_SWAPS = 12
N_CLIENTS = 4
BODY = json.dumps({"users": [{"id": 1}, {"id": 2}], "k": 3})
JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(bundle, *options):
    """A server over stand-ins in a process of its own; gives the process and its port."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = [sys.executable, "-m", "serving.stand_in", "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=TESTS
    )
    late = threading.Timer(STARTUP_S, process.kill)
    late.start()
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"http://([0-9.]+):([0-9]+)\n", line)
        assert found, line + process.stderr.read()
        process.host, process.port = found[1], int(found[2])
        yield process
    finally:
        late.cancel()
        process.kill()
        process.communicate()


def ended(process):
    """Exit code and standard error of a process that was told to stop."""
    _, said = process.communicate(timeout=LATE_S)
    return process.returncode, said


def get(process, path):
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=LATE_S)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.read().decode()
    connection.close()
    return found


def refuses(process):
    """Whether the port is closed."""
    try:
        socket.create_connection(("127.0.0.1", process.port), timeout=LATE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def until(condition):
    end = time.monotonic() + LATE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def point(link, target):
    """Moves a link in one step."""
    new = link.with_name("new link")
    new.symlink_to(target)
    new.rename(link)


class Clients:
    """Clients that ask on, over connections that stay open, until each is told that its connection closes."""

    def __init__(self, port):
        self.answers = []
        self.failures = []
        self.done = threading.Event()
        self._port = port
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(N_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask_on(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LATE_S)
        while not self.done.is_set():
            try:
                connection.request("POST", "/recommend", BODY, JSON)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
                return
            if response.status != 200:
                self.failures.append(answer)
            self.answers.append(answer)
            if response.getheader("Connection") == "close":
                break
        connection.close()

    def join(self):
        for thread in self._threads:
            thread.join(LATE_S)
        assert not any(thread.is_alive() for thread in self._threads)

    def until(self, condition):
        until(lambda: self.failures or condition(self.answers))


def test_a_dozen_swaps_under_load_lose_nothing_and_mix_nothing(tmp_path):
    for number in range(N_SWAPS + 1):
        write_stand_in(tmp_path / f"v{number}", version=f"v{number}", first=number)
    write_stand_in(tmp_path / "bad", damaged=True)
    link = tmp_path / "current"
    link.symlink_to("v0")
    with serving(link, "--poll-s", "0.01", "-q") as process:
        clients = Clients(process.port)
        for number in range(1, N_SWAPS + 1):
            point(link, "bad")
            until(lambda number=number: f"refused_total {number}.0" in get(process, "/metrics")[1])
            point(link, f"v{number}")
            clients.until(lambda answers, number=number: answers and answers[-1]["version"] == f"v{number}")
        figures = get(process, "/metrics")[1]
        clients.done.set()
        clients.join()
    assert clients.failures == []
    assert {answer["version"] for answer in clients.answers} == {f"v{number}" for number in range(N_SWAPS + 1)}
    for answer in clients.answers:  # every list is that of the version that the answer names
        first = int(answer["version"][1:])
        assert [[one["item"] for one in user["items"]] for user in answer["lists"]] == [
            [first, first + 1, first + 2]
        ] * 2
    assert f"evorec_bundle_swaps_total {N_SWAPS}.0" in figures
    assert f"evorec_bundles_refused_total {N_SWAPS}.0" in figures


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_under_load_answers_received_requests_and_exits_with_0(tmp_path, stop):
    bundle = write_stand_in(tmp_path / "one", version="v1", seconds=0.05)
    with serving(bundle, "--drain-s", "1000", "--workers", "2") as process:
        clients = Clients(process.port)
        clients.until(lambda answers: len(answers) > N_CLIENTS)
        assert get(process, "/ready")[0] == 200
        process.send_signal(stop)
        clients.join()  # each is told that its connection closes
        assert get(process, "/ready")[0] == 503  # while the port is still open, for a balancer to see
        process.send_signal(stop)  # once more ends that
        code, said = ended(process)
        assert clients.failures == []
        assert code == 0, said
        assert "stopped" in said
        with pytest.raises(ConnectionRefusedError):
            get(process, "/health")


def test_a_request_in_flight_when_the_port_closes_is_answered(tmp_path):
    bundle = write_stand_in(tmp_path / "one", version="v1", seconds=1.0)
    with serving(bundle, "--drain-s", "0", "-q") as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=LATE_S)
        connection.request("POST", "/recommend", BODY, JSON)
        get(process, "/health")  # answered after the server has read the earlier request
        process.send_signal(signal.SIGTERM)
        until(lambda: refuses(process))
        assert json.loads(connection.getresponse().read())["version"] == "v1"
        assert ended(process)[0] == 0


def test_sighup_loads_the_bundle_immediately(tmp_path):
    write_stand_in(tmp_path / "one", version="v1")
    write_stand_in(tmp_path / "two", version="v2")
    link = tmp_path / "current"
    link.symlink_to("one")
    with serving(link, "--poll-s", "10000", "--drain-s", "0") as process:
        point(link, "two")
        process.send_signal(signal.SIGHUP)
        until(lambda: json.loads(get(process, "/ready")[1])["version"] == "v2")
        process.terminate()
        assert "now serving" in ended(process)[1]


def test_over_the_wire_bodies_are_cut_off_and_heads_that_are_no_http_are_refused(tmp_path):
    """What a test inside of the process cannot see: the answer arrives although the client still sends."""
    head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    megabyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with serving(write_stand_in(tmp_path / "one"), "--max-body", "512KiB", "-q") as process:
        for sent, status in (
            (head + b"Content-Length: 10000000000\r\n\r\n", b"413"),
            (head + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * megabyte, b"413"),
            (head.replace(b"json", b"xml") + b"Content-Length: 3\r\n\r\n{}", b"415"),
            (b"\x16\x03\x01 hello\r\n\r\n", b"400"),
        ):
            with socket.create_connection(("127.0.0.1", process.port), timeout=LATE_S) as wire:
                wire.sendall(sent)
                assert wire.recv(1000).split()[1] == status
        assert get(process, "/health")[0] == 200


def test_an_answer_does_not_wait_for_the_clients_acknowledgement(tmp_path):
    """Head and body are two packets: with Nagle's algorithm on, the second is held back for 40 ms each time."""
    with serving(write_stand_in(tmp_path / "one"), "-q") as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=LATE_S)
        fastest = LATE_S
        for _ in range(MOST_ANSWERS):  # on a busy machine only few are fast
            begun = time.perf_counter()
            connection.request("POST", "/recommend", BODY, JSON)
            connection.getresponse().read()
            fastest = min(fastest, time.perf_counter() - begun)
            if fastest < DELAYED_S:
                break
        connection.close()
    assert fastest < DELAYED_S


def test_the_default_address_is_local_and_requests_are_not_logged(tmp_path):
    with serving(write_stand_in(tmp_path / "one", version="v1"), "--drain-s", "0") as process:
        assert process.host == "127.0.0.1"
        get(process, "/health")
        process.terminate()
        code, said = ended(process)
    assert code == 0
    assert "proxy" not in said
    assert "GET" not in said


def test_another_address_gives_a_warning_and_v_logs_requests(tmp_path):
    options = ("--host", "0.0.0.0", "-v", "--drain-s", "0")
    with serving(write_stand_in(tmp_path / "one", version="v1"), *options) as process:
        get(process, "/health")
        process.terminate()
        _, said = ended(process)
    assert "this server has no password and no TLS: put a proxy with both in front" in said
    assert "GET /health" in said


def test_a_first_bundle_that_cannot_be_used_ends_it(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["serve", str(tmp_path / "nothing")]) == 2
    assert "is not a bundle" in capsys.readouterr().err


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(tmp_path)]) == 2
    assert "pip install 'evorec[serve]'" in capsys.readouterr().err


def test_an_address_that_cannot_be_had_is_an_error(tmp_path, capsys, monkeypatch):
    from serving.stand_in import stand_in_module

    monkeypatch.setitem(sys.modules, "evorec.serving.recommender", stand_in_module())
    bundle = write_stand_in(tmp_path / "one", version="v1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(bundle), "--port", port]) == 2
        assert f"--port {port} is not available" in capsys.readouterr().err
    assert main(["serve", str(bundle), "--host", "no.such.host.invalid"]) == 2
    assert "no.such.host.invalid" in capsys.readouterr().err


def test_a_size_is_a_number_with_a_unit(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--max-body", "1 apple"]) == 2
    assert "must be a size such as 512KiB" in capsys.readouterr().err
