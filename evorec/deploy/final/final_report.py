"""The report of the final training and the test, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.archive.ensemble import summed_costs
from evorec.archive.pareto import non_dominated
from evorec.config import FinalizeConfig
from evorec.deploy.final.intervals import UserDraws, auc_intervals, row_units
from evorec.deploy.final.parts import ColdParts
from evorec.deploy.final.steps import ChosenSteps
from evorec.metrics.accuracy import ordering_key
from evorec.metrics.compare import paired_bootstrap
from evorec.metrics.fairness import UserGroups
from evorec.models.boosting import GRADIENT_BOOSTING, NO_BOOSTING, BoostingResult
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, Objective
from evorec.recommender.trainers import StackTrainer
from evorec.run.ledger import Evaluation
from evorec.training.evaluate import MemberMetrics

FEWEST_MEMBERS: Final = 3
"""Fewer members give no rank correlation."""
OF_LISTS: Final = ("recall", "ndcg", "precision", "hit_rate", "mrr", "intra_list_distance", "novelty")
"""Metrics of each user's list, whose means get an interval."""

Json = dict[str, Any]


@final
@dataclass(frozen=True)
class FinalResults:
    """All results of a final training.

    Attributes:
        trainer: of train + validation, with the steps of the search and the settings of its baselines.
        objectives: of the search.
        config: picks, seeds, steps and bootstrap.
        seeds: of the trainings; the models of the first are shipped.
        chosen: member by pick.
        members: evaluation in the search, by key.
        validation: metrics of the archive on all validation users, by key.
        steps: of the final training, by key.
        curves: that chose the steps, by key; empty with the steps of the search.
        runs: by key, for each seed.
        parts: of the test; ``None`` = a table of rows, without users and items.
        details: of the shipped models and ensembles of them, by key, see `detail`.
        boosted: gradient boosting on the same rows; ``None`` = not wanted.
        ensembles: by key, as the run stores them (`evorec.deploy.ensemble`); their members have `steps` and `members`.
    """

    trainer: StackTrainer
    objectives: tuple[Objective, ...]
    config: FinalizeConfig
    seeds: tuple[int, ...]
    chosen: Mapping[str, str]
    members: Mapping[str, Evaluation]
    validation: Mapping[str, Metrics]
    steps: Mapping[str, int]
    curves: Mapping[str, ChosenSteps]
    runs: Mapping[str, Sequence[MemberMetrics]]
    parts: ColdParts | None
    details: Mapping[str, Json]
    boosted: BoostingResult | None
    ensembles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def recall(self) -> str:
        """The metric of lists by which models are compared."""
        return f"recall@{self.trainer.data.config.evaluation.k}"

    def per_seed(self, key: str) -> list[dict[str, float]]:
        """Test metrics and cost of a member or an ensemble, for each seed."""
        parts = [one["key"] for one in self.ensembles[key]["members"]] if key in self.ensembles else [key]
        specs = {part: ModelSpec.from_genes(self.members[part].spec) for part in parts}
        cost = summed_costs([self.trainer.cost(specs[part], steps=self.steps[part]) for part in parts])
        return [dict(measured.metrics) | cost for measured in self.runs[key]]

    def means(self, key: str) -> dict[str, float]:
        """Test metrics and cost of a member or an ensemble, means over the seeds."""
        per_seed = self.per_seed(key)
        return {name: float(np.mean([one[name] for one in per_seed])) for name in per_seed[0]}


def steps_settings(config: FinalizeConfig, ensembles: Sequence[str] = ()) -> Json:
    """The settings that decide the models of the test; other values mean another training.

    Args:
        config: of `finalize`.
        ensembles: keys of the ensembles.
    """
    settings: Json = {"steps": config.steps}
    if config.steps != "search":
        settings |= {"patience": config.patience, "longest": config.longest}
    settings |= {} if config.rows == "train+validation" else {"rows": config.rows}  # as earlier reports have it
    return settings | ({"ensembles": list(ensembles)} if ensembles else {})


def detail(
    measured: MemberMetrics,
    logits: npt.NDArray[np.floating[Any]],
    trainer: StackTrainer,
    cold: ColdParts | None,
    *,
    seed: int,
    resamples: int,
) -> Json:
    """The interval of each metric of a shipped model, and its metrics on parts of the test.

    Args:
        measured: of the model.
        logits: of the rows of the test, ``(T, N)``.
        trainer: of train + validation.
        cold: the parts.
        seed, resamples: of the bootstrap.
    """
    data, dataset = trainer.data, trainer.data.dataset
    k = data.config.evaluation.k
    parts: Json = {}
    if cold is not None:
        parts = {
            "rows": cold.of_rows(dict(zip(dataset.tasks, logits, strict=True))),
            "users": cold.of_users(measured.per_user, f"recall@{k}"),
        }
    if (key := f"cold_start_recall@{k}") in measured.metrics:
        parts[key] = measured.metrics[key]
    of_lists = [f"{name}@{k}" for name in OF_LISTS]
    per_user = {name: measured.per_user[name] for name in of_lists if name in measured.per_user}
    intervals = UserDraws(len(data.users.ids), seed, resamples).means(per_user) if per_user else {}
    # only binary tasks: concordance is defined on pairs of rows and is not a sum over users
    binary = [i for i, kind in enumerate(dataset.kinds) if kind == "binary"]
    labels = {ordering_key(dataset.tasks[i], "binary"): dataset.held_out.labels[:, i] for i in binary}
    scores = [logits[i] for i in binary]
    if binary:
        intervals |= auc_intervals(labels, scores, row_units(dataset), seed=seed, resamples=resamples)
    return {"interval": intervals, **({"parts": parts} if parts else {})}


def final_report(results: FinalResults) -> Json:
    """The report: per pick its member and its test with intervals; the baselines; and how well short runs predicted.

    No other picked member, and no ensemble, dominates a ``non_dominated`` pick in the objectives' means on the test.
    """
    picked = {key: results.means(key) for key in dict.fromkeys(results.chosen.values())}
    mixed = {key: results.means(key) for key in results.ensembles}
    # metrics that only a clock measures in the search are not measured again
    measured = [axis for axis in results.objectives if all(axis.metric in found for found in picked.values())]
    left_out = [axis.metric for axis in results.objectives if axis not in measured]
    best = undominated(picked | mixed, measured)
    baselines = results.trainer.baselines
    report: Json = {
        "opened_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit": results.config.fit,
        "settings": steps_settings(results.config, list(results.ensembles)),
        "seeds": list(results.seeds),
        "rows": _rows(results.trainer),
        "picks": [_pick(results, text, key, key in best) for text, key in results.chosen.items()],
        **({"ensembles": [_ensemble(results, key, key in best) for key in mixed]} if mixed else {}),
        "dominance": {"objectives": [axis.metric for axis in measured], "left_out": left_out},
        "proxies": proxies({key: results.members[key].metrics or {} for key in picked}, picked, measured),
        "baselines": {name: dict(found.values) for name, found in baselines.measured.items()},
        "baseline_parts": {
            name: {"users": results.parts.of_users(found.per_user, results.recall)}
            for name, found in baselines.measured.items()
            if results.parts is not None
        },
        "skipped_baselines": dict(baselines.skipped),
    }
    if (boosted := results.boosted) is None:
        why = NO_BOOSTING if results.trainer.data.dataset.tasks else "no task is ranked"
        report["skipped_baselines"][GRADIENT_BOOSTING] = why
        return report
    if boosted.values:
        report["baselines"][GRADIENT_BOOSTING] = dict(boosted.values)
        if results.parts is not None:
            report["baseline_parts"][GRADIENT_BOOSTING] = {"rows": results.parts.of_rows(boosted.scores)}
    report["boosting"] = {name: dict(found) for name, found in boosted.settings.items()}
    for task, why in boosted.skipped.items():
        report["skipped_baselines"][f"{GRADIENT_BOOSTING} of {task}"] = why
    return report


def _pick(results: FinalResults, text: str, key: str, non_dominated: bool) -> Json:
    return {
        "pick": text,
        "member": key,
        "spec": dict(results.members[key].spec),
        "steps": results.steps[key],
        **(results.curves[key].as_json() if key in results.curves else {}),
        **_measured(results, key, non_dominated),
    }


def _ensemble(results: FinalResults, key: str, non_dominated: bool) -> Json:
    stored = results.ensembles[key]
    own = [
        {**one, "spec": dict(results.members[one["key"]].spec), "steps": results.steps[one["key"]]}
        for one in stored["members"]
    ]
    return {"ensemble": key, "best": stored["best"], "members": own, **_measured(results, key, non_dominated)}


def _measured(results: FinalResults, key: str, non_dominated: bool) -> Json:
    """Figures of a pick or an ensemble."""
    per_seed, runs = results.per_seed(key), results.runs[key]
    against = {}
    for name, baseline in results.trainer.baselines.measured.items():
        if results.recall not in baseline.per_user:
            continue
        interval = paired_bootstrap(
            runs[0].per_user[results.recall],
            baseline.per_user[results.recall],
            seed=results.seeds[0],
            resamples=results.config.bootstrap,
        )
        settings = dict(results.trainer.baselines.settings_of(name))
        against[name] = {"metric": results.recall, **vars(interval), "settings": settings}
    return {
        "validation": dict(results.validation[key]),
        "test": {name: _spread([one[name] for one in per_seed]) for name in per_seed[0]},
        "shipped": per_seed[0],
        "against": against,
        **results.details[key],
        "non_dominated": non_dominated,
    }


def undominated(picked: Mapping[str, Metrics], objectives: Sequence[Objective]) -> set[str]:
    """The members that no other member dominates; members with equal values do not dominate each other.

    Args:
        picked: metrics by member, P of them.
        objectives: M; without objectives nothing is dominated.
    """
    if not objectives:
        return set(picked)
    columns = [axis.minimised([found[axis.metric] for found in picked.values()]) for axis in objectives]
    best = non_dominated(np.stack(columns, axis=1), keep_equal=True)
    return {key for key, stays in zip(picked, best, strict=True) if stays}


def proxies(search: Mapping[str, Metrics], test: Mapping[str, Metrics], objectives: Sequence[Objective]) -> Json:
    """How well the short runs on a sample of users predicted the final training and the test.

    Args:
        search: the search's own validation metrics by member.
        test: mean test metrics of the same members.
        objectives: of the search.
    Returns:
        ``n`` members, and by objective Spearman's and Kendall's rank correlation (tau-b) over them; with fewer than
        `FEWEST_MEMBERS` members or a constant side the reason why there is none.
    """
    from scipy.stats import kendalltau, spearmanr

    keys = list(test)
    report: Json = {"n": len(keys), "of": {}, "left_out": {}}
    for one in objectives:
        if len(keys) < FEWEST_MEMBERS:
            report["left_out"][one.metric] = f"needs {FEWEST_MEMBERS} or more members, got {len(keys)}"
            continue
        a, b = ([found[key].get(one.metric, np.nan) for key in keys] for found in (search, test))
        if np.isnan([*a, *b]).any() or np.ptp(a) == 0 or np.ptp(b) == 0:
            report["left_out"][one.metric] = "all members have the same value, or a member has none"
            continue
        rho, tau = float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)
        report["of"][one.metric] = {"spearman": rho, "kendall": tau}
    return report


def _rows(trainer: StackTrainer) -> dict[str, int]:
    """Counts of the rows and users behind the metrics, and of those that were left out."""
    dataset, groups = trainer.data.dataset, trainer.data.users.groups
    if not dataset.has_items:
        return {"train": dataset.train.n_rows, "test": dataset.held_out.n_rows, **dataset.notes}
    choices = trainer.data.held_out.logged
    return {
        "train": int(dataset.item_counts.sum()),
        "test": dataset.held_out.n_rows - dataset.notes.get("n_sampled_negatives", 0),
        "ranking_users": len(trainer.data.users.ids),
        "choice_users": choices.n_users,
        "n_single_row_users": choices.n_left_out,
        **({} if groups is None else {"n_users_of_no_large_group": UserGroups(groups).n_left_out}),
        "catalogue": dataset.n_items,
        **dataset.notes,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (n - 1; 0 for a single seed)."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
