"""The models that are shipped, trained on every row once the test has been opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from evorec.deploy.final.finalize import exact
from evorec.deploy.final.training import run_all, stacks, train_in_stages
from evorec.deploy.runs import check_finished
from evorec.errors import RunError, TrainingError, command
from evorec.models.spec import ModelSpec
from evorec.outputs import check_free_space
from evorec.recommender.encoding import encode_data
from evorec.recommender.problem import RecProblem
from evorec.recommender.trainers import StackTrainer
from evorec.run.directory import RunDirectory
from evorec.training.trainer import TrainingResult


def train_on_all_data(
    run: RunDirectory, problem: RecProblem, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Train the members that `finalize` picked, and those of its ensembles, on train, validation and test.

    Members, steps and seed are those of the report of `finalize`, so nothing is chosen by the test. No row is left to
    measure these models: the figures of the report are those of the same members trained without the test.

    Args:
        run: a run whose test was opened, open for writing.
        problem: the problem it searched.
        progress: called with a line of text per step.
    Returns:
        What is stored in the run: time, seed, number of rows, and the steps of each member.
    Raises:
        RunError: the test was not opened, or the run belongs to another problem.
        TrainingError: a member diverged.
    """
    check_finished(run, problem)
    report = run.read_final()
    if report is None:
        raise RunError(
            f"the test of {run.path} was not opened yet: {command('finalize', run.path)} fixes members and steps "
            "before a model may learn the rows of the test"
        )
    if (stored := run.read_all_data()) is not None:
        progress("the models were trained on all data before")
        return stored
    trained = {entry["member"]: entry for entry in report["picks"]}
    trained |= {one["key"]: one for ensemble in report.get("ensembles", ()) for one in ensemble["members"]}
    steps = {key: int(entry.get("steps", problem.config.training.steps)) for key, entry in trained.items()}
    specs = {key: ModelSpec.from_genes(entry["spec"]) for key, entry in trained.items()}
    reserve = problem.config.run.min_free_gib
    check_free_space(run.path, run.stored_bytes(specs), purpose="finalize", reserve_gib=reserve)
    seed = int(report["seeds"][0])
    data = encode_data(problem.tables, exact(problem.config), fit="all", seed=seed, at_most=1)
    trainer = StackTrainer(data, seed, max(steps.values()))
    progress(f"training {len(specs)} members on all {data.dataset.train.n_rows:,} rows")

    def work(keys: Sequence[str]) -> None:
        def visit(stop: int, left: list[str], trained: TrainingResult) -> list[str]:
            done = [key for key in left if steps[key] == stop]
            for key in done:
                if trained.diverged[left.index(key)] is not None:
                    raise TrainingError(f"member {key} diverged when trained on all data; export its final model")
                run.write_all_data_weights(key, trained.population.member_arrays(left.index(key)))
            return done

        train_in_stages(trainer, {key: specs[key] for key in keys}, sorted({steps[key] for key in keys}), visit)

    for _ in run_all(data, [partial(work, keys) for keys in stacks(trainer, specs)]):
        pass
    return run.write_all_data(
        {
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "rows": data.dataset.train.n_rows,
            "steps": steps,
        }
    )
