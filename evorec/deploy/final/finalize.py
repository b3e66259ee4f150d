"""The final training: members chosen on validation, trained again on train + validation, and the test opened once.

Every chosen member gets the number of steps with the best validation metrics (`evorec.deploy.final.steps`) and fresh
seeds; the model of the first seed is shipped. The result of the test is written into the run and never computed again
for other picks: choosing by it would make it a second validation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evorec.archive.decide import KNEE, check_pick
from evorec.archive.decide import choose as choose_members
from evorec.archive.ensemble import FEWEST, Ensemble
from evorec.config import FinalizeConfig, RecommenderConfig
from evorec.data.encode import Fit
from evorec.deploy.ensemble.measure import ensemble_logits, measure_ensemble
from evorec.deploy.ensemble.select import select_ensembles
from evorec.deploy.final.final_report import FinalResults, detail, final_report, steps_settings
from evorec.deploy.final.parts import ColdParts
from evorec.deploy.final.steps import ChosenSteps, choose_steps
from evorec.deploy.final.training import FinalModel, run_all, stacks, train_members
from evorec.deploy.runs import check_whole
from evorec.errors import RunError, TrainingError, command
from evorec.models.boosting import boosting
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, check_metrics
from evorec.outputs import check_free_space
from evorec.recommender.checks import baseline_names
from evorec.recommender.encoding import EncodedData, encode_data
from evorec.recommender.problem import RecProblem
from evorec.recommender.trainers import StackTrainer
from evorec.run.directory import RunDirectory
from evorec.search.confirm import read_confirmed
from evorec.seeds import child_seed
from evorec.training.evaluate import MemberMetrics, mixture_logits
from evorec.training.trainer import Weights


def finalize(
    run: RunDirectory, problem: RecProblem, config: FinalizeConfig, *, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Choose members and their steps, train them again and open the test.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        config: picks, steps, seeds and bootstrap resamples.
        progress: called with a line of text per step.
    Returns:
        The report that is stored in the run. Per pick the member, its steps with the validation curves that chose them,
        its validation metrics, its test metrics as mean and standard deviation over seeds; for the shipped model the
        paired difference of recall to every baseline, intervals over users, and metrics of new users and items;
        whether another pick or an ensemble dominates it. With `FinalizeConfig.ensembles` the ensembles of the archive
        with the same figures; for each seed their members are the models of that seed. Then the baselines, and the rank
        correlation between the objectives in the search and on the test. A shift by an attack is also measured on the
        test, with another training per pick and seed; its validation value is that of the search, on its sample of
        users. If the front was confirmed with fresh seeds (`evorec.search.confirm`), picks are made by their means
        among the members that are still non-dominated, and the report says so.
    Raises:
        ConfigError: a pick cannot be followed.
        RunError: the search is not finished, belongs to another problem, has no member, or its test was opened for
            other picks, seeds or steps.
    """
    check_whole(run, problem)
    members = {evaluation.key: evaluation for evaluation in run.members()}
    if not members:
        raise RunError(f"run {run.path} has no member to finalize: no candidate met the constraints")
    tasks, k = problem.config.tasks.kind_of_each(), problem.config.evaluation.k
    for text in config.picks:
        check_pick(
            text, problem.objectives, k, tasks=tasks, keys=list(members), baselines=baseline_names(problem.config)
        )
    check_metrics(problem.config.model_copy(update={"finalize": config}))
    progress("measuring the archive on all validation users")
    validation = measure_archive(run, problem)
    confirmed = read_confirmed(run)
    if confirmed is not None:
        words = (
            f"{len(confirmed.front)} of {len(members)} members that are confirmed with {confirmed.n_seeds} fresh seed"
        )
        progress(f"choosing among the {words}{'s' * (confirmed.n_seeds != 1)}")
    elif run.fresh():
        progress(f"choosing by the values of the search: {command('confirm', run.path)} has not trained every member")
    chosen = choose(validation if confirmed is None else confirmed.front, problem, config, also=list(members))
    stored_ensembles = _ensembles(run, problem, progress) if config.ensembles else {}
    _check_opened(run, chosen, config, list(stored_ensembles))
    if (stored := run.read_final()) is not None:
        progress("the test was opened before; showing its report")
        return stored
    if run.opened is not None:
        progress("the test was opened before and its report was deleted; measuring the same members again")
    ensembles = {key: Ensemble.from_json(one) for key, one in stored_ensembles.items()}
    mixed = [part for ensemble in ensembles.values() for part in ensemble.members]
    specs = {key: ModelSpec.from_genes(members[key].spec) for key in dict.fromkeys([*chosen.values(), *mixed])}
    if ensembles:
        progress(f"measuring {len(ensembles)} ensembles on all validation users")
        data, weights = problem.data.with_all_users(), {key: run.read_weights(key) for key in mixed}
        validation |= {
            key: {**one["metrics"], **measure_ensemble(ensembles[key], specs, weights, data).metrics}
            for key, one in stored_ensembles.items()
        }
    reserve = problem.config.run.min_free_gib
    check_free_space(run.path, run.stored_bytes(specs), purpose="finalize", reserve_gib=reserve)
    curves: dict[str, ChosenSteps] = {}
    trained = {key: spec for key, spec in specs.items() if spec.is_trained}  # of the others, steps have no effect
    if config.steps == "validation" and trained:
        progress(f"choosing the steps of {len(trained)} members on validation")
        exactly = exact(problem.config)
        data = problem.data.with_all_users()
        if exactly != problem.config:
            data = encode_data(problem.tables, exactly, fit="train", seed=problem.seed, at_most=None)
        curves = choose_steps(StackTrainer(data, problem.seed, exactly.training.steps), trained, config)
    steps = {key: curves[key].steps if key in curves else problem.config.training.steps for key in specs}
    seeds = tuple(child_seed(problem.seed, "finalize", number) for number in range(config.seeds))
    trainer = StackTrainer.of(problem.tables, exact(problem.config), fit=config.fit, seed=seeds[0], at_most=None)
    has_items = trainer.data.dataset.has_items
    parts = ColdParts(trainer.data.dataset, trainer.data.users.ids) if has_items else None
    runs: dict[str, list[MemberMetrics]] = {key: [] for key in (*specs, *ensembles)}
    details: dict[str, dict[str, Any]] = {}
    arrays: dict[str, Weights] = {}

    def described(measured: MemberMetrics, logits: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
        return detail(measured, logits, trainer, parts, seed=seeds[0], resamples=config.bootstrap)

    def keep(model: FinalModel) -> MemberMetrics:
        if model.key in mixed:
            arrays[model.key] = model.population.member_arrays(0)
        return model.measured

    def ship(model: FinalModel) -> MemberMetrics:
        data = trainer.data
        details[model.key] = described(
            model.measured, mixture_logits(model.population, [1.0], data.tensors, data.dataset.held_out)
        )
        run.write_final_weights(model.key, model.population.member_arrays(0))
        return keep(model)

    for number, seed in enumerate(seeds):
        progress(
            f"training {len(specs)} members on {config.rows.replace('+', ' + ')}, seed {number + 1} of {len(seeds)}"
        )
        for key, measured in train_members(trainer.with_seed(seed), specs, steps, keep if number else ship):
            runs[key].append(measured)
        for key, ensemble in ensembles.items():
            runs[key].append(measure_ensemble(ensemble, specs, arrays, trainer.data))
            if number == 0:
                details[key] = described(runs[key][0], ensemble_logits(ensemble, specs, arrays, trainer.data))
    progress("computing the baselines on the same rows")
    trainer = trainer.with_settings(problem.data.baselines.settings)
    boosted = None
    if config.boosting and trainer.data.dataset.tasks:
        boosted = boosting(problem.data.dataset, trainer.data.dataset, seed=seeds[0])
    report = final_report(
        FinalResults(
            trainer, tuple(problem.objectives), config, seeds, chosen, members, validation, steps, curves, runs, parts,
            details, boosted, stored_ensembles,
        )
    )  # fmt: skip
    report["rows"] |= {"items": problem.size.n_items} if has_items else {}
    report["data_sha256"] = problem.data_sha256
    if confirmed is not None:
        report["confirmed"] = {"seeds": confirmed.n_seeds, "members": len(confirmed.front), "of": len(members)}
    return run.write_final(report)


def measure_archive(run: RunDirectory, problem: RecProblem) -> dict[str, Metrics]:
    """Validation metrics of every archive member on all users; the search measured on a sample of them.

    Args:
        run: the run.
        problem: the problem it searched.
    Returns:
        Metrics by member, also those that only the search measured.
    """
    found = measured_archive(run, problem)
    return {key: {**(one.metrics or {}), **found[key].metrics} for one in run.members() for key in [one.key]}


def measured_archive(run: RunDirectory, problem: RecProblem) -> dict[str, MemberMetrics]:
    """All validation users measured with the stored weights of every archive member, by member."""
    members = {evaluation.key: evaluation for evaluation in run.members()}
    data = problem.data.with_all_users()
    specs = {key: ModelSpec.from_genes(evaluation.spec) for key, evaluation in members.items()}
    groups = stacks(problem.trainer, specs)

    def measure(keys: Sequence[str]) -> list[MemberMetrics | TrainingError]:
        weights = [run.read_weights(key) for key in keys]
        return data.measure(data.stack([specs[key] for key in keys], weights))

    out: dict[str, MemberMetrics] = {}
    for index, results in run_all(data, [partial(measure, keys) for keys in groups]):
        for key, found in zip(groups[index], results, strict=True):
            if isinstance(found, TrainingError):
                raise RunError(f"member {key} of {run.path}: {found}")
            out[key] = found
    return {key: out[key] for key in members}


def choose(
    members: Mapping[str, Metrics], problem: RecProblem, config: FinalizeConfig, *, also: Collection[str] = ()
) -> dict[str, str]:
    """Member of each pick, decided on validation metrics only; by default each objective's best and the knee.

    Args:
        members: to choose from, means over fresh seeds where the front was confirmed (`evorec.search.confirm`).
        problem, config: objectives and picks.
        also: keys that only a pick by key chooses.
    """
    picks = config.picks or (*(objective.name for objective in problem.objectives), KNEE)
    baselines = {}
    if any(name in text for name in baseline_names(problem.config) for text in picks):
        data = problem.data.with_all_users().with_settings(problem.data.baselines.settings)
        measured = {name: found.values for name, found in data.baselines.measured.items()}
        baselines = {**problem.baselines(), **measured}
    return choose_members(
        picks, members, problem.objectives, problem.config.evaluation.k, baselines=baselines, also=also
    )


def exact(config: RecommenderConfig) -> RecommenderConfig:
    """The configuration with a precision of at least float32: bfloat16 is for screening."""
    if config.training.precision == "float64":
        return config
    training = config.training.model_copy(update={"precision": "float32"})
    return config.model_copy(update={"training": training})


def shipped_model(
    run: RunDirectory, problem: RecProblem, member: str, *, all_data: bool = False
) -> tuple[EncodedData, Mapping[str, np.ndarray], Fit]:
    """The model of a member that is shipped, see `shipped_models`: data, weights, and the rows that these are."""
    data, weights, fit = shipped_models(run, problem, [member], all_data=all_data)
    return data, weights[member], fit


def shipped_models(
    run: RunDirectory, problem: RecProblem, members: Sequence[str], *, all_data: bool = False
) -> tuple[EncodedData, dict[str, Weights], Fit]:
    """The models of members that are shipped together: the final models if `finalize` trained all, else of the search.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        members: keys of archive members.
        all_data: instead the models that were trained on all data after the test.
    Returns:
        The data that they were trained on, their weights by member, and the rows that these are.
    Raises:
        RunError: a file is missing or damaged.
    """
    fit: Fit = "all" if all_data else (run.read_final() or {}).get("fit", "train+validation")
    found = {key: run.read_all_data_weights(key) if all_data else run.read_final_weights(key) for key in members}
    final: dict[str, Weights] = {key: weights for key, weights in found.items() if weights is not None}
    if len(final) < len(found):
        return problem.data, {key: run.read_weights(key) for key in members}, "train"
    config = exact(problem.config)
    return encode_data(problem.tables, config, fit=fit, seed=problem.seed, at_most=None), final, fit


def _ensembles(run: RunDirectory, problem: RecProblem, progress: Callable[[str], None]) -> dict[str, Mapping[str, Any]]:
    """The ensembles of a run by key, as it stores them; they are selected now if they were not before."""
    if (report := run.read_ensembles()) is None:
        if len(run.members()) < FEWEST or not problem.data.dataset.has_items:
            progress("there is no ensemble of a single member, nor of members without lists")
            return {}
        report = select_ensembles(run, problem, problem.config.ensemble, progress=progress)
    return {str(stored["key"]): stored for stored in report["ensembles"]}


def _check_opened(
    run: RunDirectory, chosen: Mapping[str, str], config: FinalizeConfig, ensembles: Sequence[str]
) -> None:
    """Refuse other picks, ensembles, seeds or steps than those of the first time, also if the report was deleted."""
    report, opened = run.read_final(), run.opened
    if report is not None:
        before = {entry["pick"]: entry["member"] for entry in report["picks"]}
        n_before, settings = len(report["seeds"]), report.get("settings", {"steps": "search"})  # of earlier versions
        opened_at = report["opened_at"]
    elif opened is not None:
        before, n_before, settings = opened["picks"], opened["seeds"], opened["settings"]
        opened_at = opened["opened_at"]
    else:
        return
    wanted = steps_settings(config, ensembles)
    if before == dict(chosen) and n_before == config.seeds and settings == wanted:
        return

    def described(picks: Mapping[str, str], n_seeds: int, settings: Mapping[str, Any]) -> str:
        members = ", ".join(f"{text} ({member[:8]})" for text, member in picks.items())
        steps = ", ".join(f"finalize.{name} = {value}" for name, value in settings.items())
        return f"{members} with {n_seeds} seed{'s' * (n_seeds != 1)} and {steps}"

    raise RunError(
        f"the test of {run.path} was opened on {opened_at} for {described(before, n_before, settings)}, "
        f"this call asks for {described(chosen, config.seeds, wanted)}; choosing again after the test would turn it "
        f"into a second validation. {command('report', run.path)} shows its result; search again with another test "
        "period to choose other members."
    )
