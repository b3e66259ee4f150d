"""The final training: members chosen on validation, trained again on train + validation, and the test opened once.

Every chosen member gets the number of steps that served it best on validation (`evorec.deploy.final.steps`) and fresh
seeds; the first seed's model is the one that is shipped. What the test said is written into the run and never computed
a second time for other picks: choosing by it would make it a second validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from evorec.archive.decide import KNEE, check_pick
from evorec.archive.decide import choose as choose_members
from evorec.config import FinalizeConfig, RecommenderConfig
from evorec.deploy.final.final_report import Detail, Details, Finals, final_report, steps_settings
from evorec.deploy.final.steps import ChosenSteps, choose_steps
from evorec.deploy.final.training import FinalModel, run_all, train_members
from evorec.errors import RunError, TrainingError
from evorec.models.boosting import boosting
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, check_metrics
from evorec.rec_problem import Fitted, RecProblem
from evorec.run.directory import RunDirectory
from evorec.seeds import child_seed
from evorec.training.evaluate import Measured

STACK: Final = 4
"""Members measured at once."""


def finalize(
    run: RunDirectory,
    problem: RecProblem,
    config: FinalizeConfig,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Chooses members and their steps, trains them again and opens the test.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        config: picks, steps, seeds and bootstrap resamples.
        progress: told what goes on, one line each.
    Returns:
        The report, as ``final.json`` holds it. Per pick the member, its steps with the validation curves that chose
        them, its validation metrics, its test metrics as mean and standard deviation over seeds; of the shipped model
        the paired difference of recall to every baseline, intervals over users, and the parts of the test that are
        new to it; whether another pick dominates it. The baselines, and the rank correlation between the search's
        objectives and the test's. A shift by an attack is measured on the test too, with another training per pick
        and seed; that of validation is the search's own, on its sample of users.
    Raises:
        ConfigError: a pick cannot be followed.
        RunError: the search is not finished, belongs to another problem, has no member, or its test was opened for
            other picks, seeds or steps.
    """
    check_finished(run, problem)
    _check_whole(run)
    members = {evaluation.key: evaluation for evaluation in run.members()}
    _check_picks(config, problem, list(members))
    progress("measuring the archive on all validation users")
    validation = measure_archive(run, problem)
    chosen = choose(validation, problem, config)
    stored = _stored(run, chosen, config)
    if stored is not None:
        progress("the test was opened before; showing what it said")
        return stored
    specs = {key: ModelSpec.from_genes(members[key].spec) for key in dict.fromkeys(chosen.values())}
    watched: dict[str, ChosenSteps] = {}
    if config.steps == "validation":
        progress(f"choosing the steps of {len(specs)} members on validation")
        watched = choose_steps(_on_validation(problem), specs, config)
    steps = {key: watched[key].steps if key in watched else problem.config.training.steps for key in specs}
    seeds = tuple(child_seed(problem.fitted.seed, "finalize", number) for number in range(config.seeds))
    fitted = Fitted(problem.tables, exact(problem.config), fit="train+validation", seed=seeds[0], at_most=None)
    details = Details(fitted, seed=seeds[0], resamples=config.bootstrap)
    runs, of_shipped = _trained(run, fitted, specs, steps, seeds, details, progress)
    progress("computing the baselines on the same rows")
    boosted = boosting(problem.fitted.dataset, fitted.dataset, seed=seeds[0]) if config.boosting else None
    objectives = tuple(problem.objectives)
    finals = Finals(
        fitted, objectives, config, seeds, chosen, members, validation, steps, watched, runs, of_shipped, boosted
    )
    report = final_report(finals, details)
    run.write_final(report)
    return report


def _trained(
    run: RunDirectory,
    fitted: Fitted,
    specs: Mapping[str, ModelSpec],
    steps: Mapping[str, int],
    seeds: Sequence[int],
    details: Details,
    progress: Callable[[str], None],
) -> tuple[dict[str, list[Measured]], dict[str, Detail]]:
    """What each seed's model of each member measures, and what is said of the first one, which is saved."""
    runs: dict[str, list[Measured]] = {key: [] for key in specs}
    of_shipped: dict[str, Detail] = {}

    def shipped(model: FinalModel) -> Measured:
        of_shipped[model.key] = details.of(model)
        run.write_final_weights(model.key, model.weights)
        return model.measured

    for number, seed in enumerate(seeds):
        progress(f"training {len(specs)} members on train + validation, seed {number + 1} of {len(seeds)}")
        finish = shipped if number == 0 else _measured_of
        for key, measured in train_members(fitted.with_seed(seed), specs, steps, finish):
            runs[key].append(measured)
    return runs, of_shipped


def _measured_of(model: FinalModel) -> Measured:
    return model.measured


def measure_archive(run: RunDirectory, problem: RecProblem) -> dict[str, Metrics]:
    """Validation metrics of every archive member on all users; the search looked at a sample of them.

    Args:
        run: the run.
        problem: the problem it searched.
    Returns:
        Metrics by member.
    """
    members = {evaluation.key: evaluation for evaluation in run.members()}
    fitted = problem.fitted.with_all_users()
    specs = {key: ModelSpec.from_genes(evaluation.spec) for key, evaluation in members.items()}
    stacks = _stacks(specs)

    def measure(keys: Sequence[str]) -> list[Measured | TrainingError]:
        weights = [run.read_weights(key) for key in keys]
        return fitted.measure(fitted.stack([specs[key] for key in keys], weights))

    out: dict[str, Metrics] = {}
    for place, results in run_all(fitted, [partial(measure, keys) for keys in stacks]):
        for key, found in zip(stacks[place], results, strict=True):
            if isinstance(found, TrainingError):
                raise RunError(f"member {key} of {run.path}: {found}")
            out[key] = {**(members[key].metrics or {}), **found.metrics}
    return {key: out[key] for key in members}


def choose(members: Mapping[str, Metrics], problem: RecProblem, config: FinalizeConfig) -> dict[str, str]:
    """Member of each pick, decided on validation metrics alone; by default each objective's best and the knee."""
    picks = config.picks or (*(objective.name for objective in problem.objectives), KNEE)
    return choose_members(picks, members, problem.objectives, problem.config.evaluation.k)


def _check_picks(config: FinalizeConfig, problem: RecProblem, keys: Sequence[str]) -> None:
    """Refuses what no member could answer, before anything is measured."""
    tasks = problem.config.tasks.kind_of_each()
    for text in config.picks:
        check_pick(text, problem.objectives, problem.config.evaluation.k, tasks=tasks, keys=keys)
    check_metrics(problem.config.model_copy(update={"finalize": config}))


def check_belongs(run: RunDirectory, problem: RecProblem) -> None:
    """Whether a run was made from this problem's configuration and data.

    Raises:
        RunError: it was not.
    """
    if problem.config.fingerprint(problem.data_sha256) != run.fingerprint:
        raise RunError(f"run {run.path} was made from another configuration or data set than problem {problem.name}")


def check_finished(run: RunDirectory, problem: RecProblem) -> None:
    """Whether a run came to its end, and was made from this problem's configuration and data.

    Raises:
        RunError: it did not, or was not.
    """
    if not run.finished:
        raise RunError(f"run {run.path} is not finished; `evorec resume {run.path}` goes on with it")
    check_belongs(run, problem)


def _check_whole(run: RunDirectory) -> None:
    if lost := run.lost():
        raise RunError(f"run {run.path} has lost {', '.join(lost)}; `evorec resume {run.path}` restores it")
    if not run.members():
        raise RunError(f"run {run.path} has no member to finalize: no candidate met the constraints")


def exact(config: RecommenderConfig) -> RecommenderConfig:
    """The configuration with a precision of at least float32: bfloat16 is for screening."""
    if config.training.precision == "float64":
        return config
    training = config.training.model_copy(update={"precision": "float32"})
    return config.model_copy(update={"training": training})


def _on_validation(problem: RecProblem) -> Fitted:
    """The search's own fit, on all its validation users and as exact as the final training."""
    config = exact(problem.config)
    if config == problem.config:
        return problem.fitted.with_all_users()
    return Fitted(problem.tables, config, fit="train", seed=problem.fitted.seed, at_most=None)


def _stacks(specs: Mapping[str, ModelSpec]) -> list[list[str]]:
    """Keys of members in stacks; equal shapes stand together."""
    ordered = sorted(specs, key=lambda key: (repr(specs[key].group_key), key))
    return [ordered[at : at + STACK] for at in range(0, len(ordered), STACK)]


def shipped_model(run: RunDirectory, problem: RecProblem, member: str) -> tuple[Fitted, Mapping[str, np.ndarray], bool]:
    """The model of a member that is shipped: the final one where there is one, else the search's.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        member: key of an archive member.
    Returns:
        The fit that it was trained on, its weights, and whether it is the final one.
    Raises:
        RunError: a file is missing or damaged.
    """
    weights = run.read_final_weights(member)
    if weights is None:
        return problem.fitted, run.read_weights(member), False
    seed = problem.fitted.seed
    return Fitted(problem.tables, exact(problem.config), fit="train+validation", seed=seed, at_most=None), weights, True


def _stored(run: RunDirectory, chosen: Mapping[str, str], config: FinalizeConfig) -> dict[str, Any] | None:
    report = run.read_final()
    if report is None:
        return None
    before = {entry["pick"]: entry["member"] for entry in report["picks"]}
    n_before, settings = len(report["seeds"]), report.get("settings", {"steps": "search"})  # once there was no choice
    asked = steps_settings(config)
    if before == dict(chosen) and n_before == config.seeds and settings == asked:
        return report
    steps = ("", "") if settings == asked else (_steps_in_words(settings), _steps_in_words(asked))
    raise RunError(
        f"the test of {run.path} was opened on {report['opened_at']} for {_asked(before, n_before)}{steps[0]}, "
        f"now asked for {_asked(chosen, config.seeds)}{steps[1]}; choosing again after the test would turn it into a "
        f"second validation. `evorec report {run.path}` shows what it said; search again with another test period to "
        "choose anew."
    )


def _asked(picks: Mapping[str, str], n_seeds: int) -> str:
    seeds = "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"
    return f"{', '.join(f'{text} ({member[:8]})' for text, member in picks.items())} with {seeds}"


def _steps_in_words(settings: Mapping[str, Any]) -> str:
    return f" and {', '.join(f'finalize.{name} = {value}' for name, value in settings.items())}"
