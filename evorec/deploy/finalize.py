"""The final training: members chosen on validation, trained again on train + validation, and the test opened once.

Every pick gets the same number of steps as in the search and fresh seeds; the first seed's model is the one that is
shipped. What the test said is written into the run and never computed a second time for other picks: choosing by it
would make it a second validation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from evorec.archive.decide import KNEE, pick
from evorec.config import FinalizeConfig, RunConfig
from evorec.errors import RunError, TrainingError
from evorec.ledger import Evaluation
from evorec.metrics.choice import LoggedRows
from evorec.metrics.compare import paired_bootstrap
from evorec.metrics.fairness import UserGroups
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics
from evorec.rec_problem import Fitted, RecProblem
from evorec.search.executors import WorkerDied, executor_for
from evorec.seeds import child_seed
from evorec.store import RunDirectory, write_atomic, write_json
from evorec.training.evaluate import Measured

FINAL: Final = "final.json"
"""The report, beside the ledger."""
FOLDER: Final = "final"
"""Where the shipped models are, one folder per member."""
WEIGHTS: Final = "weights.safetensors"
STACK: Final = 4
"""Members measured at once."""


def finalize(
    run: RunDirectory,
    problem: RecProblem,
    config: FinalizeConfig,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Chooses members, trains them again and opens the test.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        config: picks, seeds and bootstrap resamples.
        progress: told what goes on, one line each.
    Returns:
        The report, as ``final.json`` holds it: per pick the member, its validation metrics, its test metrics as mean
        and standard deviation over seeds, and the paired difference of recall to every baseline; the baselines. A shift
        by an attack is measured on the test too, with another training per pick and seed; that of validation is the
        search's own, on its sample of users.
    Raises:
        RunError: the search is not finished, belongs to another problem, has no member, or its test was opened for
            other picks.
    """
    _check_finished(run, problem)
    progress("measuring the archive on all validation users")
    validation = measure_archive(run, problem)
    chosen = choose(validation, problem, config)
    stored = _stored(run, chosen, config)
    if stored is not None:
        progress("the test was opened before; showing what it said")
        return stored
    members = {evaluation.key: evaluation for evaluation in run.members()}
    specs = {key: ModelSpec.from_genes(members[key].spec) for key in dict.fromkeys(chosen.values())}
    seeds = [child_seed(problem.fitted.seed, "finalize", number) for number in range(config.seeds)]
    fitted = Fitted(problem.tables, exact(problem.config), fit="train+validation", seed=seeds[0], at_most=None)
    runs: dict[str, list[Measured]] = {key: [] for key in specs}
    for number, seed in enumerate(seeds):
        progress(f"training {len(specs)} members on train + validation, seed {number + 1} of {len(seeds)}")
        for key, measured, weights in _train_all(fitted.with_seed(seed), specs):
            runs[key].append(measured)
            if number == 0:
                _save_weights(run.path / FOLDER / key, weights)
    progress("computing the baselines on the same rows")
    report = _report(fitted, chosen, members, validation, runs, seeds, config)
    write_json(run.path / FINAL, report)
    return report


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
    executor = executor_for(problem.config.run, device=fitted.data.device.type, picklable=False)
    for place, results in executor.run([partial(measure, keys) for keys in stacks]):
        assert not isinstance(results, WorkerDied)  # threads only
        for key, found in zip(stacks[place], results, strict=True):
            if isinstance(found, TrainingError):
                raise RunError(f"member {key} of {run.path}: {found}")
            out[key] = {**(members[key].metrics or {}), **found.metrics}
    return {key: out[key] for key in members}


def choose(members: Mapping[str, Metrics], problem: RecProblem, config: FinalizeConfig) -> dict[str, str]:
    """Member of each pick, decided on validation metrics alone; by default each objective's best and the knee."""
    picks = config.picks or (*(objective.name for objective in problem.objectives), KNEE)
    k = problem.config.evaluation.k
    return {text: pick(text, members, problem.objectives, k) for text in picks}


def check_belongs(run: RunDirectory, problem: RecProblem) -> None:
    """Whether a run was made from this problem's configuration and data.

    Raises:
        RunError: it was not.
    """
    if problem.config.fingerprint(problem.data_sha256) != run.fingerprint:
        raise RunError(f"run {run.path} was made from another configuration or data set than problem {problem.name}")


def _check_finished(run: RunDirectory, problem: RecProblem) -> None:
    if not run.finished:
        raise RunError(f"run {run.path} is not finished; `evorec resume {run.path}` goes on with it")
    check_belongs(run, problem)
    if lost := run.lost():
        raise RunError(f"run {run.path} has lost {', '.join(lost)}; `evorec resume {run.path}` restores it")
    if not run.members():
        raise RunError(f"run {run.path} has no member to finalize: no candidate met the constraints")


def exact(config: RunConfig) -> RunConfig:
    """The configuration with a precision of at least float32: bfloat16 is for screening."""
    if config.training.precision == "float64":
        return config
    training = config.training.model_copy(update={"precision": "float32"})
    return config.model_copy(update={"training": training})


def _stacks(specs: Mapping[str, ModelSpec]) -> list[list[str]]:
    """Keys of members in stacks; equal shapes stand together."""
    ordered = sorted(specs, key=lambda key: (repr(specs[key].block_key), key))
    return [ordered[at : at + STACK] for at in range(0, len(ordered), STACK)]


def final_weights(run: RunDirectory, member: str) -> dict[str, np.ndarray] | None:
    """Weights of a finalized member, or ``None`` when it was not finalized.

    The report decides: a folder without an entry in it was left by a finalize that was stopped before the test.

    Raises:
        RunError: the file is not what was written.
    """
    from safetensors.numpy import load

    if not (run.path / FINAL).exists() or member not in {entry["member"] for entry in read_final(run)["picks"]}:
        return None
    folder = run.path / FOLDER / member
    try:
        data = (folder / WEIGHTS).read_bytes()
        whole = hashlib.sha256(data).hexdigest() == (folder / "sha256").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise RunError(
            f"{folder / WEIGHTS} is damaged or gone; delete {run.path / FINAL} and `evorec finalize {run.path}` again "
            "with the same picks"
        )
    return dict(load(data))


def read_final(run: RunDirectory) -> dict[str, Any]:
    """The report that `finalize` wrote.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = run.path / FINAL
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in ("opened_at", "seeds", "picks", "baselines") if name not in report]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} cannot be used: {error}; restore it from a copy") from None
    if missing:
        raise RunError(f"{path} is damaged: it has no {' and no '.join(missing)}; restore it from a copy")
    return dict(report)


def _stored(run: RunDirectory, chosen: Mapping[str, str], config: FinalizeConfig) -> dict[str, Any] | None:
    path = run.path / FINAL
    if not path.exists():
        return None
    report = read_final(run)
    before = {entry["pick"]: entry["member"] for entry in report["picks"]}
    if before != dict(chosen) or len(report["seeds"]) != config.seeds:
        raise RunError(
            f"the test of {run.path} was opened on {report['opened_at']} for {_asked(before, len(report['seeds']))}, "
            f"now asked for {_asked(chosen, config.seeds)}; choosing again after the test would turn it into a second "
            "validation. Search again with another test period to choose anew."
        )
    return report


def _asked(picks: Mapping[str, str], n_seeds: int) -> str:
    seeds = "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"
    return f"{', '.join(f'{text} ({member[:8]})' for text, member in picks.items())} with {seeds}"


def _train_all(fitted: Fitted, specs: Mapping[str, ModelSpec]) -> list[tuple[str, Measured, dict[str, np.ndarray]]]:
    out = []
    for keys in _stacks(specs):
        own = [specs[key] for key in keys]
        trained = fitted.train(own)
        found, _ = fitted.under_attack(own, fitted.measure(trained.population))
        for place, (key, measured) in enumerate(zip(keys, found, strict=True)):
            if trained.diverged[place] is not None:
                raise TrainingError(
                    f"member {key} diverged when trained on train + validation; leave it out of finalize.picks"
                )
            if isinstance(measured, TrainingError):
                raise TrainingError(
                    f"member {key}, trained on train + validation: {measured}; leave it out of finalize.picks"
                )
            out.append((key, measured, trained.population.member_arrays(place)))
    return out


def _save_weights(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: np.ascontiguousarray(array) for name, array in weights.items()})
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / "sha256", hashlib.sha256(data).hexdigest().encode())


def _report(
    fitted: Fitted,
    chosen: Mapping[str, str],
    members: Mapping[str, Evaluation],
    validation: Mapping[str, Metrics],
    runs: Mapping[str, Sequence[Measured]],
    seeds: Sequence[int],
    config: FinalizeConfig,
) -> dict[str, Any]:
    recall = f"recall@{fitted.config.evaluation.k}"
    baselines = fitted.baselines
    picks = []
    for text, key in chosen.items():
        cost = fitted.cost(ModelSpec.from_genes(members[key].spec))
        per_seed = [measured.metrics | cost for measured in runs[key]]
        against = {}
        for name, baseline in baselines.measured.items():
            interval = paired_bootstrap(
                runs[key][0].per_user[recall], baseline.per_user[recall], seed=seeds[0], resamples=config.bootstrap
            )
            against[name] = {"metric": recall, **_plain(interval)}
        picks.append(
            {
                "pick": text,
                "member": key,
                "spec": dict(members[key].spec),
                "validation": dict(validation[key]),
                "test": {name: _spread([run[name] for run in per_seed]) for name in per_seed[0]},
                "shipped": per_seed[0],
                "against": against,
            }
        )
    return {
        "opened_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit": "train+validation",
        "seeds": list(seeds),
        "rows": _rows(fitted),
        "picks": picks,
        "baselines": {name: measured.values for name, measured in baselines.measured.items()},
        "skipped_baselines": dict(baselines.skipped),
    }


def _rows(fitted: Fitted) -> dict[str, int]:
    """What the figures are of, as counts, and what was left out of them."""
    dataset, groups = fitted.dataset, fitted.users.groups
    choices = LoggedRows(dataset.held_out.users, n_users=dataset.n_users)
    return {
        "train": dataset.train.n_rows,
        "test": dataset.held_out.n_rows,
        "ranking_users": len(fitted.users.ids),
        "choice_users": choices.n_users,
        "n_single_row_users": choices.n_left_out,
        **({} if groups is None else {"n_users_of_no_large_group": UserGroups(groups).n_left_out}),
        "catalogue": dataset.n_items,
        **dataset.notes,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (n - 1; 0 for one seed)."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}


def _plain(interval: Any) -> dict[str, float]:
    return {name: getattr(interval, name) for name in ("mean_difference", "low", "high", "p_value", "n_users")}
