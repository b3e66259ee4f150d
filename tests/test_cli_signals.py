"""A signal ends a command in time, whatever the command is doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BLOCKED = """
import ctypes, signal, sys
from evorec.cli import signals
signals.END_S, signals.AT_ONCE_S = {end_s}, 0.01
with signals.interruptions():
    print("ready", flush=True)
    if {without_limit}:
        signals.without_limit()
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second time it waits for ever
"""
LONG_S = 60
"""Seconds that no test takes, even on a busy machine."""


def blocked(*, end_s, without_limit=False):
    """A process that waits in a library, where Python runs no signal handlers."""
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED.format(end_s=end_s, without_limit=without_limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)  # until it waits
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_process_that_cannot_run_its_handlers_ends_with_75(number):
    process = blocked(end_s=0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err.partition(" in")[0]) == (75, f"ended after {number.name}")


def test_a_second_signal_ends_it_at_once():
    process = blocked(end_s=LONG_S * 2)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG_S)
    assert process.returncode == 75


def test_a_server_takes_its_time():
    process = blocked(end_s=0.01, without_limit=True)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.communicate()
