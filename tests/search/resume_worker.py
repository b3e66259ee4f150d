"""A small search in a run directory, begun or resumed; `test_resume.py` runs it as a program and kills it."""

from __future__ import annotations

import sys
from pathlib import Path

from analytic import Analytic

from evorec.config import RunConfig, SearchConfig
from evorec.run.directory import RunDirectory, run_path
from evorec.search.engine import SearchResult, search

CONFIG = RunConfig(problem="analytic", search=SearchConfig(population=8, generations=6, seed=5))
FINGERPRINT = CONFIG.fingerprint(Analytic.data_sha256)


def search_in(root: Path, *, delay_s: float = 0.0, config: RunConfig = CONFIG) -> SearchResult:
    """Begin the search in `root`, or go on with the one that is there."""
    fingerprint = config.fingerprint(Analytic.data_sha256)
    path = run_path(root, config, fingerprint)
    if RunDirectory.exists(path):
        run = RunDirectory.open(path)
        run.check_same(config=config, fingerprint=fingerprint, environment={})
    else:
        run = RunDirectory.create(root, config=config, fingerprint=fingerprint, environment={})
    problem = Analytic(delay_s=delay_s, fault=lambda spec: "raise" if spec["method"] == "net" else None)
    with run:
        return search(problem, config.search, run=run, chunk=3)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    search_in(Path(sys.argv[1]), delay_s=float(sys.argv[2]))
    print("done", flush=True)
