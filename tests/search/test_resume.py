"""Resume is replay: killed anywhere, a run ends with the very files of an uninterrupted one."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from analytic import Analytic
from resume_worker import CONFIG, search_in

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory, run_path

N_KILLS = 16
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


class Searches:
    """A program that searches in processes of its own."""

    def __init__(self):
        self._program = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/search/resume_worker.py")],
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._program.communicate()

    def search(self, root, dies_after_s=0.0):
        """The signal that ended a search, 0 = none, and the CPU time of all searches so far."""
        self._program.stdin.write(f"{root} {dies_after_s}\n")
        self._program.stdin.flush()
        ended_by, used_s = self._program.stdout.readline().split()
        return int(ended_by), float(used_s)


def test_killed_at_random_moments_and_resumed_the_run_is_identical(tmp_path):
    with Searches() as searches:
        ended_by, lasts_s = searches.search(tmp_path / "reference")
        assert ended_by == 0
        uninterrupted = content(tmp_path / "reference")
        search_in(tmp_path / "here")
        assert content(tmp_path / "here") == uninterrupted, "two processes write identical runs"

        n_killed = 0
        # two fifths of the time pass before the search sets its timer
        for kill, moment_s in enumerate(np.random.default_rng(0).uniform(0, 0.6 * lasts_s, size=N_KILLS)):
            root = tmp_path / f"kill{kill}"
            ended_by, _ = searches.search(root, moment_s)
            assert ended_by in (0, signal.SIGPROF)
            n_killed += ended_by > 0
            search_in(root)
            assert content(root) == uninterrupted
    assert n_killed > N_KILLS / 2  # else the kills came too late to mean anything


class Crash(BaseException):
    """Stands for the death of the process: nothing in evorec catches it."""


def test_crash_at_every_single_write_is_survived(tmp_path, monkeypatch):
    config = RunConfig(problem="analytic", search=SearchConfig(surrogate="none", population=4, generations=3, seed=2))
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
