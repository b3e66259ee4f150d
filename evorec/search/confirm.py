"""The front of a search, trained again with fresh seeds on the same training and validation data.

Each stack is an event of the ledger before the next one is trained, so a call that ends early loses the running stacks
only, and the next call trains what is missing. The test is not read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np

from evorec.archive.confirmed import ConfirmedFront, confirmed_front
from evorec.config import RunConfig
from evorec.errors import Interruption, RunError, command
from evorec.objectives import Constraint, Objective
from evorec.problem import Problem
from evorec.run.directory import RunDirectory
from evorec.run.ledger import Evaluation
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, SerialExecutor
from evorec.seeds import child_seed

N_SEEDS = 2
LARGEST_SEED = 2**32
"""NumPy's old generators, which a problem may use, take no larger seed."""


def confirm(
    run: RunDirectory,
    problem: Problem,
    *,
    seeds: int = N_SEEDS,
    executor: Executor | None = None,
    chunk: int = 8,
    progress: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> ConfirmedFront:
    """Train the members of a front from scratch with fresh seeds and compare the means with what the search claimed.

    Trainings of earlier calls are not repeated. If the values of the first seed are those of the search, the problem
    does not depend on the seed and no other seed is tried.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        seeds: fresh seeds for each member, at least 1.
        executor: evaluates the stacks; serial by default.
        chunk: most members in a stack. Like the executor, it changes no result.
        progress: called with a line of text per stack.
        stop: called after every stack; True ends the call.
    Raises:
        RunError: the search is not finished, belongs to another problem or has no member; or members are missing and
            the test was opened, after which no other member may be chosen.
        Interruption: `stop` said so, or the disk is full; the same call continues.
    """
    if not run.finished:
        raise RunError(f"run {run.path} is not finished; {command('resume', run.path)} continues it")
    config = own if isinstance(own := getattr(problem, "config", None), RunConfig) else run.config
    if run.fingerprint_of(config, problem.data_sha256) != run.fingerprint:
        raise RunError(f"run {run.path} was made from another configuration or data set than problem {problem.name}")
    members = _members(run)
    if not members:
        raise RunError(f"run {run.path} has no member to confirm: no candidate met the constraints")
    confirmed = None
    for number in range(seeds):
        known = run.fresh()
        left = [member for member in members if len(known.get(member.key, ())) <= number]
        if left and run.opened is not None:
            raise RunError(
                f"the test of {run.path} was opened, so its members are chosen; the report of `evorec finalize` has "
                "their figures with fresh seeds. Confirm a front before it is finalized"
            )
        seed = child_seed(run.config.search.seed, "confirm", number) % LARGEST_SEED
        specs = [problem.space.decode(np.array(member.genome)) for member in left]
        n_done = len(members) - len(left)
        again = problem.with_seed(seed)
        with closing(evaluate(again, specs, seed=seed, executor=executor or SerialExecutor(), chunk=chunk)) as stacks:
            for stack in stacks:
                rows = {}
                for index, found in stack:
                    metrics = found.metrics
                    if metrics is not None:  # a counted cost has no noise, though other batches have another size
                        metrics = {**metrics, **problem.known_metrics(specs[index])}
                    rows[left[index].key] = {"metrics": metrics, "failure": found.failure, "seconds": found.seconds}
                run.add_fresh(number, seed, rows)
                n_done += len(stack)
                progress(f"fresh seed {number + 1} of {seeds}: {n_done} of {len(members)} members trained")
                if stop():
                    resumed = command("confirm", run.path, "--seeds", seeds)
                    raise Interruption(f"interrupted with fresh seed {number + 1} of {seeds}; {resumed} goes on")
        if (confirmed := read_confirmed(run)) is not None and not confirmed.depends_on_seed:
            break
    assert confirmed is not None  # every member has a training with the first seed
    return confirmed


def read_confirmed(run: RunDirectory) -> ConfirmedFront | None:
    """The confirmed front of a run; None while a member has no training with a fresh seed, or the run is not finished.

    Raises:
        RunError: a file is damaged.
    """
    fresh = run.fresh()
    if not fresh or not run.finished:
        return None
    problem = run.read_problem()
    return confirmed_front(
        {member.key: member.metrics or {} for member in _members(run)},
        fresh,
        [Objective(**stored) for stored in problem["objectives"]],
        [Constraint(**stored) for stored in problem["constraints"]],
    )


def _members(run: RunDirectory) -> list[Evaluation]:
    """The members of a finished run, also those whose files were lost."""
    keys = (run.read_summary() or {}).get("members", ())
    return run.with_scratch([evaluation for evaluation in run.ledger.evaluations() if evaluation.key in keys])
