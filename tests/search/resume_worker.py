"""A small search in a run directory, begun or resumed; as a program for `test_resume.py` it dies during searches."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from analytic import Analytic

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory, run_path
from evorec.search.engine import SearchResult, search

CONFIG = RunConfig(problem="analytic", search=SearchConfig(surrogate="none", population=8, generations=6, seed=5))
FINGERPRINT = CONFIG.fingerprint(Analytic.data_sha256)


def search_in(root: Path, *, config: RunConfig = CONFIG) -> SearchResult:
    """Begin the search in `root`, or go on with the one that is there."""
    fingerprint = config.fingerprint(Analytic.data_sha256)
    path = run_path(root, config, fingerprint)
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
        run.check_same(config=config, fingerprint=fingerprint, environment={})
    else:
        run = RunDirectory.create(root, config=config, fingerprint=fingerprint, environment={})
    problem = Analytic(fault=lambda spec: "raise" if spec["method"] == "net" else None)
    with run:
        return search(problem, config.search, run=run, chunk=3)


def search_and_die(root: str, moment_s: float) -> None:
    """A search in a process of its own, which the system ends after some seconds of its CPU time; 0 = never.

    Seconds of the clock would depend on the other programs of the machine.
    """
    child = os.fork()  # a process that imports everything anew needs a second
    if child == 0:
        signal.setitimer(signal.ITIMER_PROF, moment_s)
        search_in(Path(root))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(-os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        folder, moment = line.rstrip("\n").rsplit(" ", 1)
        search_and_die(folder, float(moment))
