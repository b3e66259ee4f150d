import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from analytic import Analytic

from evorec.config import ExecutionConfig
from evorec.errors import ConfigError, SearchError
from evorec.heartbeat import beat
from evorec.search import executors
from evorec.search.evaluator import evaluate
from evorec.search.executor_choice import executor_for
from evorec.search.executors import (
    AdaptiveExecutor,
    ProcessExecutor,
    SerialExecutor,
    ThreadExecutor,
)
from evorec.search.workers import WorkerDeath

PROCESSES = ProcessExecutor(2)  # one for the whole file: its workers start once
IN_PROCESS = [SerialExecutor(), ThreadExecutor(1), ThreadExecutor(3)]
LONG_S = 600.0  # a deadlock, not a slow machine


@pytest.mark.parametrize("executor", IN_PROCESS)
def test_leaving_early_leaves_the_rest_undone(executor):
    started = []

    def task(i):
        started.append(i)
        time.sleep(0.02)
        return i

    results = executor.run([lambda i=i: task(i) for i in range(30)])
    next(results)
    results.close()
    n_started = len(started)
    time.sleep(0.1)
    assert len(started) == n_started < 30


def test_threads_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=LONG_S)  # passed only by three tasks together
    assert len(list(ThreadExecutor(3).run([meeting.wait] * 3))) == 3


def test_results_come_as_they_finish():
    second_is_out = threading.Event()
    tasks = [lambda: second_is_out.wait(LONG_S), lambda: "second"]
    results = ThreadExecutor(2).run(tasks)
    assert next(results) == (1, "second")
    second_is_out.set()
    assert next(results) == (0, True)


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor, AdaptiveExecutor])
def test_an_executor_refuses_no_workers(kind):
    with pytest.raises(ConfigError, match=f"{kind.__name__} needs at least 1 worker, got 0"):
        kind(0)


def meet(folder, name, other):
    """Returns once the other task has started too."""
    (folder / name).touch()
    end = time.monotonic() + LONG_S
    while not (folder / other).exists():
        assert time.monotonic() < end, f"{other} did not start beside {name}"
        time.sleep(0.005)
    return os.getpid()


def test_processes_run_at_the_same_time_and_serve_again(tmp_path):
    first = {pid for _, pid in PROCESSES.run([partial(meet, tmp_path, "a", "b"), partial(meet, tmp_path, "b", "a")])}
    again = {pid for _, pid in PROCESSES.run([os.getpid] * 8)}
    assert len(first) == 2
    assert os.getpid() not in first
    assert again <= first


def test_leaving_early_ends_running_processes(tmp_path):
    def task(i):
        (tmp_path / str(i)).touch()
        time.sleep(0 if i == 0 else 60)

    start = time.monotonic()
    results = PROCESSES.run([partial(task, i) for i in range(30)])
    assert next(results) == (0, None)
    results.close()
    assert time.monotonic() - start < LONG_S
    assert len(list(tmp_path.iterdir())) < 5  # the first one, those after it, and no more


def dies(i, how):
    if i == 3:
        os.kill(os.getpid(), how) if how else os._exit(7)
    return i


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        (signal.SIGKILL, "its worker process died of SIGKILL; the system does that when memory runs out"),
        (0, "its worker process died of exit code 7"),
    ],
)
def test_a_task_that_kills_its_worker_costs_no_other_task(how, cause):
    results = dict(PROCESSES.run([partial(dies, i, how) for i in range(8)]))
    assert results.pop(3) == WorkerDeath(cause)
    assert results == {i: i for i in range(8) if i != 3}


def hangs(i):
    """The first task gives a sign of life for a while, the second never, the third answers."""
    for _ in range(15 if i == 0 else 0):
        beat()
        time.sleep(0.2)
    if i < 2:
        time.sleep(LONG_S)
    return i


def test_only_a_task_without_progress_is_ended(monkeypatch):
    monkeypatch.setattr(executors, "SLOWEST", 1)
    executor = ProcessExecutor(3, stall_s=1.2)
    found = dict(executor.run([partial(hangs, i) for i in range(3)]))
    executor.close()
    assert found.pop(2) == 2
    # The second may take long, because none of its kind has been seen, until the third one was.
    assert set(found) == {0, 1}
    assert {result.cause.partition(" for ")[0] for result in found.values()} == {
        "its worker process was ended: there was no progress"
    }


def test_at_most_one_at_once():
    def alone(folder):
        (folder / "here").mkdir()  # fails if another task is there
        time.sleep(0.05)
        (folder / "here").rmdir()

    with tempfile.TemporaryDirectory() as folder:
        assert len(list(PROCESSES.run([partial(alone, Path(folder))] * 4, at_once=1))) == 4


def test_a_worker_killed_while_it_waits_is_replaced():
    list(PROCESSES.run([os.getpid] * 4))
    [(_, pid)] = PROCESSES.run([os.getpid])
    os.kill(pid, signal.SIGKILL)
    assert [result for _, result in PROCESSES.run([lambda: "done"])] == ["done"]


SPEC = {"effort": 0.5, "rate": 0.01, "method": "tree", "depth": 3, "bias": True, "weights": (1.5, 0.5)}


def test_a_spec_that_kills_its_worker_fails_alone():
    def kills(spec):
        if spec["effort"] == 0.03:
            os.kill(os.getpid(), signal.SIGKILL)

    asked = [{**SPEC, "effort": i / 100} for i in range(8)]
    stacks = evaluate(Analytic(fault=kills), asked, seed=0, executor=PROCESSES, chunk=4)
    found = dict(pair for stack in stacks for pair in stack)
    assert {i for i in found if found[i].failure} == {3}
    assert found[3].failure.startswith("its worker process died of SIGKILL")
    assert [found[i].metrics["quality"] for i in (0, 7)] == pytest.approx([0.0, 0.07], abs=1e-12)  # float64 rounding


ORPHANS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background may ignore it
import os, sys, time
from evorec.search.executors import ProcessExecutor

def sleeps():
    os.write(1, f"{os.getpid()}\\n".encode())  # one write: the lines of two workers must not mix
    time.sleep(60)

def computes():
    import re
    os.write(1, f"{os.getpid()}\\n".encode())
    re.match("(a+)+$", "a" * 60 + "b")  # for years, with the GIL

list(ProcessExecutor(2).run([sleeps, computes]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        cwd=Path(__file__).parents[2],
    )
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    os.killpg(parent.pid, how)  # as Ctrl-C of a terminal does
    _, errors = parent.communicate(timeout=LONG_S)  # the workers hold these pipes too
    assert parent.returncode == -how
    assert errors.count("Traceback") == (how == signal.SIGINT)  # the parent's own
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            gone(worker)


def gone(pid):
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        os.kill(pid, 0)
        time.sleep(0.01)


def test_workers_leave_the_signals_of_a_job_to_their_parent():
    def task(number):
        os.kill(os.getpid(), number)
        return number

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]
    assert dict(PROCESSES.run([partial(task, number) for number in numbers])) == dict(enumerate(numbers))


def test_adaptive_turns_to_processes_after_a_long_run():
    with_threads = AdaptiveExecutor(2, long_run_s=LONG_S)
    with_processes = AdaptiveExecutor(1, long_run_s=0.0)
    for executor in (with_threads, with_processes):
        assert [pid for _, pid in executor.run([os.getpid])] == [os.getpid()]
    assert [pid for _, pid in with_threads.run([os.getpid])] == [os.getpid()]
    assert [pid for _, pid in with_processes.run([os.getpid])] != [os.getpid()]


def test_adaptive_keeps_threads_for_what_cannot_be_sent():
    lock = threading.Lock()
    executor = AdaptiveExecutor(2, long_run_s=0.0)
    for _ in range(2):
        assert list(executor.run([lambda: lock.locked()])) == [(0, False)]


def test_every_worker_has_its_own_gpu_and_so_has_the_one_that_replaces_it(monkeypatch):
    def gpu(dies=False):
        if dies:
            os._exit(1)
        time.sleep(0.2)  # so that both workers have a task
        return os.environ["CUDA_VISIBLE_DEVICES"]

    monkeypatch.setattr("evorec.search.executor_choice._visible_gpus", lambda: ["4", "GPU-5"])
    executor = executor_for(ExecutionConfig(), device="cuda")
    assert (type(executor), executor.workers) == (ProcessExecutor, 2)
    assert {name for _, name in executor.run([gpu] * 4)} == {"4", "GPU-5"}
    list(executor.run([partial(gpu, True)]))
    assert {name for _, name in executor.run([gpu] * 4)} == {"4", "GPU-5"}
    executor.close()
    for settings in ({"device": "cuda:1"}, {"executor": "serial"}, {"workers": 1}):
        assert type(executor_for(ExecutionConfig(**settings), device="cuda")) is SerialExecutor


def test_the_deadline_of_a_silent_task_follows_from_its_cost():
    executor = ProcessExecutor(1, stall_s=10.0)
    assert executor._silence_s(False, 1.0) == executors.SLOWEST * 10.0  # nothing is known
    executor.seconds_per_cost = 2.0
    assert executor._silence_s(False, 0.1) == 10.0
    assert executor._silence_s(False, 50.0) == executors.SLOWEST * 100.0
    assert executor._silence_s(True, 50.0) == 10.0  # a task that gives signs of life


@pytest.mark.parametrize(
    ("settings", "device", "picklable", "kind", "workers"),
    [
        ({}, "cuda", True, SerialExecutor, 1),
        ({"workers": 1}, "cpu", True, SerialExecutor, 1),
        ({"workers": 3}, "cpu", True, AdaptiveExecutor, 3),
        ({"workers": 3, "executor": "serial"}, "cpu", True, SerialExecutor, 1),
        ({"workers": 3, "executor": "threads"}, "cpu", True, ThreadExecutor, 3),
        ({"workers": 3, "executor": "processes"}, "cpu", True, ProcessExecutor, 3),
        ({"workers": 1, "executor": "processes"}, "cpu", True, ProcessExecutor, 1),
        ({"workers": 3, "executor": "processes"}, "cpu", False, ThreadExecutor, 3),
        ({"workers": 3}, "cpu", False, ThreadExecutor, 3),
    ],
)
def test_the_configuration_names_the_executor(settings, device, picklable, kind, workers):
    executor = executor_for(ExecutionConfig(**settings), device=device, picklable=picklable)
    assert type(executor) is kind
    assert executor.workers == workers


def test_zero_workers_are_one_per_core():
    assert executor_for(ExecutionConfig(executor="processes"), device="cpu").workers == len(os.sched_getaffinity(0))


def test_a_large_result_comes_back_whole():
    [(_, result)] = PROCESSES.run([lambda: {"a": np.arange(3_000_000), "b": np.arange(5.0), "c": np.empty((0, 2))}])
    assert (result["a"] == np.arange(3_000_000)).all()
    assert (result["b"] == np.arange(5.0)).all()
    assert result["c"].shape == (0, 2)
    result["a"][0] = 1  # an array of its own


PLUGIN = """
from evorec.search.algorithm import register_algorithm

class Shop:
    pass

register_algorithm("of_the_plugin")(lambda context: None)
"""


def test_workers_import_the_plugins_first(tmp_path):
    from evorec.plugins import load_module

    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    shop = load_module(str(file)).Shop()  # pickled by the name of its class, which only the plugin defines

    def kind():
        from evorec.search.algorithm import ALGORITHMS

        return type(shop).__name__, "of_the_plugin" in ALGORITHMS

    executor = ProcessExecutor(1)
    assert list(executor.run([kind])) == [(0, ("Shop", True))]
    executor.close()


def test_a_worker_that_cannot_start_ends_the_run(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import os\n\nos._exit(3)\n")
    monkeypatch.setattr("evorec.search.workers.loaded_modules", lambda: (str(tmp_path / "broken.py"),))
    with pytest.raises(SearchError, match="a worker process ended with exit code 3 before its first task; set run"):
        list(ProcessExecutor(1).run([os.getpid]))


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'needs Ray, which is not installed: pip install "evorec\[cluster\]"'):
        executor_for(ExecutionConfig(executor="ray"), device="cpu")
