"""Resume is replay: killed anywhere, a run ends with the very files of an uninterrupted one."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from analytic import Analytic
from resume_worker import CONFIG, search_in

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory, run_path

N_KILLS = 12
DELAY_S = 0.01  # per stack, so that a search lasts long enough to be killed in
ROOT = Path(__file__).parents[2]


def content(root, config=CONFIG):
    """All that a run leaves behind, without times: files by name, and rows of the ledger."""
    path = run_path(root, config, config.fingerprint(Analytic.data_sha256))
    with RunDirectory.open(path, read_only=True) as run:
        rows = [replace(evaluation, seconds=0.0) for evaluation in run.ledger.evaluations()]
    files = {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("lock", "log.jsonl") and not file.name.startswith("ledger.sqlite")
    }
    return files, rows


def launch(root):
    """A worker process that has begun to import; it searches when `begin` says so."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/search/resume_worker.py"), str(root), str(DELAY_S)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def is_done(process):
    """Whether the worker, which has ended, came to the end of its search."""
    output, _ = process.communicate()
    return output == "done\n"


def killed_at(moment_s, process):
    """Kill a launched worker; whether the search was still going on."""
    begin(process)
    time.sleep(moment_s)
    process.send_signal(signal.SIGKILL)
    return not is_done(process)


def test_two_processes_write_identical_runs(tmp_path):
    other = launch(tmp_path / "there")
    begin(other)
    search_in(tmp_path / "here")
    assert is_done(other)
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_killed_at_random_moments_and_resumed_the_run_is_identical(tmp_path):
    uninterrupted, lasts_s = run_to_the_end(tmp_path / "reference")
    moments = np.random.default_rng(0).uniform(0, lasts_s, size=N_KILLS).tolist()
    roots = [tmp_path / f"kill{i}" for i in range(N_KILLS)]

    n_killed, process = 0, launch(roots[0])
    for root, following, moment in zip(roots, [*roots[1:], None], moments, strict=True):
        n_killed += killed_at(moment, process)
        if following:
            process = launch(following)  # imports while this one resumes
        search_in(root)
        assert content(root) == uninterrupted

    assert n_killed > N_KILLS / 2  # else the kills came too late to mean anything


def run_to_the_end(root):
    process = launch(root)
    begin(process)
    start = time.perf_counter()
    assert is_done(process)
    return content(root), time.perf_counter() - start


class Crash(BaseException):
    """Stands for the death of the process: nothing in evorec catches it."""


def test_crash_at_every_single_write_is_survived(tmp_path, monkeypatch):
    config = RunConfig(problem="analytic", search=SearchConfig(population=4, generations=3, seed=2))
    search_in(tmp_path / "reference", config=config)
    uninterrupted = content(tmp_path / "reference", config)
    sync, n_writes = os.fsync, 0
    calls = []

    def fragile(descriptor):
        calls.append(descriptor)
        if len(calls) == n_writes:
            raise Crash
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fragile)
    while len(calls) >= n_writes:  # the last round needs fewer writes than it may do
        n_writes += 1
        calls.clear()
        root = tmp_path / f"crash{n_writes}"
        with suppress(Crash):
            search_in(root, config=config)
        if len(calls) >= n_writes:
            search_in(root, config=config)
        assert content(root, config) == uninterrupted
    assert n_writes > 20  # four small files, each with its folder, and four writes and more per member
