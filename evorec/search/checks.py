"""Refusals of a search before its first evaluation, besides those of its problem: by its algorithm and its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from evorec.config import Faults, RunConfig, SearchConfig
from evorec.errors import ConfigError
from evorec.objectives import Constraint, Objective, check_weights
from evorec.outputs import check_free_space
from evorec.problem import Problem
from evorec.run.directory import RunDirectory, run_path
from evorec.search.start import start_genomes
from evorec.space.space import SearchSpace
from evorec.tracking.tracker import tracker_options

SUITS_ALL: Final = "nsga2"
"""An algorithm that suits every problem: to build it and pymoo would take longer than all other checks."""
LEDGER_ROW_BYTES: Final = 8192
"""Of an evaluation in the ledger with its events and a line of the log; 4.7 KiB in a small search of `feed`."""
MOST_LEDGER_ROWS: Final = 10_000
"""Evaluations that an estimate counts: the limits of a search that ends by the clock allow many more."""


def check_start(
    config: RunConfig,
    *,
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    data_sha256: str,
    environment: Callable[[], Mapping[str, Any]] | None,
    path: Path | None = None,
) -> Path:
    """Refuse a search that cannot start.

    Args:
        config: of the run.
        space, objectives, constraints, data_sha256: of its problem.
        environment: of its problem; called only where a run was begun; ``None`` = any machine may continue a run.
        path: of the run directory; ``None`` = as the configuration and the data name it.
    Returns:
        The run directory.
    Raises:
        ConfigError: lists what is wrong with the algorithm, its first genomes, the trackers and the folder of the runs.
        RunError: the directory holds a run of other settings, data or software.
        RunLockedError: another process holds it.
    """
    faults = Faults(config.origins)
    path = path or run_path(Path(config.run.output), config, config.fingerprint(data_sha256))
    with faults.collect():
        check_weights(config.search.weights, [objective.name for objective in objectives])
    with faults.collect():
        start_genomes(space, config.search.start)
    with faults.collect():
        _check_algorithm(config.search, space, objectives, constraints)
    with faults.collect():
        tracker_options(config.run)
    with faults.collect():
        _check_folder(path)
    faults.refuse()
    RunDirectory.check_start(path, config=config, data_sha256=data_sha256, environment=environment)
    return path


def check_room(path: Path, config: RunConfig, problem: Problem) -> None:
    """Refuse a search whose files would not fit on the disk.

    The ledger takes some KiB per evaluation. The models of two generations are kept at a time, the best of those before
    and the new generation; where weights are inherited, those of all evaluations.

    Args:
        path: of the run directory, which may not exist.
        config: of the run, `RunConfig.sized`.
        problem: its problem.
    Raises:
        Interruption: there is too little space.
    """
    n = config.search.most_evaluations
    model = problem.known_metrics(problem.space.decode(problem.space.default())).get("model_bytes", 0.0)
    n_models = n if problem.inherits else min(2 * config.search.population, n)
    needed = min(n, MOST_LEDGER_ROWS) * LEDGER_ROW_BYTES + min(n_models, MOST_LEDGER_ROWS) * model
    check_free_space(path, needed, purpose="the search", reserve_gib=config.run.min_free_gib)


def _check_algorithm(
    config: SearchConfig, space: SearchSpace, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> None:
    if config.algorithm == SUITS_ALL and not config.options and space.n_var:
        return
    from evorec.search.algorithm import AlgorithmContext, check_algorithm, create_algorithm

    options = check_algorithm(config.algorithm, config.options)
    context = AlgorithmContext(space, tuple(objectives), tuple(constraints), config, options, {})
    create_algorithm(config.algorithm, context)


def _check_folder(path: Path) -> None:
    """Whether a run directory can be made or written."""
    exists = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not exists.is_dir():
        raise ConfigError(f"run.output must be a folder, and {exists} is a file; choose another folder.")
    if not os.access(exists, os.W_OK | os.X_OK):
        raise ConfigError(f"run.output must be a folder that can be written, and {exists} cannot; choose another.")
