"""Where memories come from: the package, the runs of a folder, and files that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from evorec.errors import DataError
from evorec.outputs import write_output
from evorec.run.directory import RunDirectory
from evorec.search.memory.table import Memory

SHIPPED: Final = Path(__file__).parent / "shipped.parquet"
"""Rows of searches on the built-in problems, made by ``experiments/build_memory.py``."""
FOLDER: Final = "memory"
"""Beside the runs of a folder: a file of rows for each finished run."""


def gathered(setting: str | Sequence[str], runs: Path | None) -> Memory:
    """The rows that a configuration asks for.

    Args:
        setting: ``search.memory``.
        runs: folder of the runs, whose memory ``auto`` reads; ``None`` = no runs.
    Raises:
        DataError: a file is missing or is not a memory.
    """
    if setting == "none":
        return Memory.empty()
    if setting == "auto":
        files = [SHIPPED] if SHIPPED.exists() else []
        return Memory.joined([Memory.read(file) for file in [*files, *stored(runs)]])
    files = []
    for text in setting:
        path = Path(text).expanduser()
        found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"search.memory: folder {path} has no file NAME.parquet.")
        files += found
    return Memory.joined([Memory.read(file) for file in files])


def stored(runs: Path | None) -> list[Path]:
    """Files of the memory beside the runs of a folder."""
    return [] if runs is None else sorted((runs / FOLDER).glob("*.parquet"))


def remember(run: RunDirectory, runs: Path | None = None) -> Path:
    """Add a run to the memory of a folder, or replace its rows.

    Args:
        run: a search that has begun.
        runs: folder of runs; by default the run's own.
    Returns:
        The file.
    """
    file = (run.path.parent if runs is None else runs) / FOLDER / f"{run.path.name}.parquet"
    write_output(file, rows_of(run).to_bytes())
    return file


def rows_of(run: RunDirectory) -> Memory:
    """The rows of a run: its successful evaluations that were trained to the end, from fresh weights.

    Raises:
        RunError: it was not begun, or is damaged.
    """
    problem = run.read_problem()
    config = run.config
    steps = int(getattr(getattr(config, "training", None), "steps", 0))
    evaluations = run.with_scratch(run.ledger.evaluations())
    evaluations = [e for e in evaluations if e.metrics is not None and not e.dropped and not e.inherits]
    data: str = problem.get("data_sha256") or run.fingerprint  # earlier versions stored no hash
    facts: Mapping[str, Any] = problem.get("facts", {})
    return Memory.of(
        [(e.spec, e.metrics or {}) for e in evaluations],
        world=world_name(config.problem_name, data, steps),
        problem=config.problem_name,
        data_sha256=data,
        steps=steps,
        facts=facts,
    )


def world_name(problem: str, data_sha256: str, steps: int) -> str:
    """The world of a search: figures of a problem, a data set and a number of steps can be compared."""
    return f"{problem} {data_sha256[:12]} {steps}"
