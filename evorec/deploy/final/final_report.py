"""What the test said, as plain JSON: ``final.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.archive.pareto import non_dominated
from evorec.config import FinalizeConfig
from evorec.deploy.final.intervals import UserDraws, auc_intervals, row_units
from evorec.deploy.final.parts import ColdParts
from evorec.deploy.final.steps import ChosenSteps
from evorec.deploy.final.training import FinalModel
from evorec.metrics.accuracy import ordering_key
from evorec.metrics.compare import paired_bootstrap
from evorec.metrics.fairness import UserGroups
from evorec.models.boosting import GRADIENT_BOOSTING, Boosted
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, Objective
from evorec.rec_problem import Fitted
from evorec.run.ledger import Evaluation
from evorec.training.evaluate import Measured, task_logits

FEWEST_MEMBERS: Final = 3
"""Of fewer there is no rank correlation."""
OF_LISTS: Final = ("recall", "ndcg", "precision", "hit_rate", "mrr", "intra_list_distance", "novelty")
"""Metrics of each user's list, whose means get an interval."""

Json = dict[str, Any]


@final
@dataclass(frozen=True)
class Detail:
    """What is said of the shipped model alone: intervals, and figures of parts of the test."""

    interval: Json
    parts: Json


@final
@dataclass(frozen=True)
class Finals:
    """All that the report is made of.

    Attributes:
        fitted: of train + validation, with the steps of the search.
        objectives: of the search.
        config: picks, seeds, steps and bootstrap.
        seeds: of the trainings; the first one's models are shipped.
        chosen: member by pick.
        members: evaluation in the search, by key.
        validation: metrics of the archive on all validation users, by key.
        steps: of the final training, by key.
        watched: what chose them, by key; empty where the search's steps were taken.
        runs: by key, one per seed.
        details: by key.
        boosted: gradient boosting on the same rows; ``None`` = not asked for.
    """

    fitted: Fitted
    objectives: tuple[Objective, ...]
    config: FinalizeConfig
    seeds: tuple[int, ...]
    chosen: Mapping[str, str]
    members: Mapping[str, Evaluation]
    validation: Mapping[str, Metrics]
    steps: Mapping[str, int]
    watched: Mapping[str, ChosenSteps]
    runs: Mapping[str, Sequence[Measured]]
    details: Mapping[str, Detail]
    boosted: Boosted | None

    @property
    def recall(self) -> str:
        """The metric of lists that everything is compared by."""
        return f"recall@{self.fitted.config.evaluation.k}"

    def per_seed(self, key: str) -> list[dict[str, float]]:
        """Test metrics and cost of a member, one per seed."""
        cost = self.fitted.cost(ModelSpec.from_genes(self.members[key].spec), steps=self.steps[key])
        return [dict(measured.metrics) | cost for measured in self.runs[key]]

    def means(self, key: str) -> dict[str, float]:
        """Test metrics and cost of a member, means over the seeds."""
        per_seed = self.per_seed(key)
        return {name: float(np.mean([one[name] for one in per_seed])) for name in per_seed[0]}


def steps_settings(config: FinalizeConfig) -> Json:
    """What decides the steps; other settings ask for another training."""
    if config.steps == "search":
        return {"steps": config.steps}
    return {"steps": config.steps, "patience": config.patience, "longest": config.longest}


@final
class Details:
    """Intervals and parts of many models on the same held-out rows.

    Args:
        fitted: of train + validation.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    def __init__(self, fitted: Fitted, *, seed: int, resamples: int) -> None:
        self._fitted, self._seed, self._resamples = fitted, seed, resamples
        self.parts = ColdParts(fitted.dataset, fitted.users.ids)
        self._units = row_units(fitted.dataset)
        k = fitted.config.evaluation.k
        self._recall, self._cold = f"recall@{k}", f"cold_start_recall@{k}"
        self._of_lists = [f"{name}@{k}" for name in OF_LISTS]

    def of(self, model: FinalModel) -> Detail:
        """Everything about one trained member."""
        dataset = self._fitted.dataset
        logits = task_logits(model.population, self._fitted.data, dataset.held_out)[0]
        parts: Json = {
            "rows": self.parts.of_rows(dict(zip(dataset.tasks, logits, strict=True))),
            "users": self.parts.of_users(model.measured.per_user, self._recall),
        }
        if self._cold in model.measured.metrics:
            parts[self._cold] = model.measured.metrics[self._cold]
        return Detail(self._intervals(model.measured) | self._auc_intervals(logits), parts)

    def _intervals(self, measured: Measured) -> Json:
        per_user = {name: measured.per_user[name] for name in self._of_lists if name in measured.per_user}
        return UserDraws(len(self._fitted.users.ids), self._seed, self._resamples).means(per_user)

    def _auc_intervals(self, logits: npt.NDArray[Any]) -> Json:
        """Of the binary tasks; numbers are ordered by pairs of rows, which no sum over users has."""
        dataset = self._fitted.dataset
        binary = [place for place, kind in enumerate(dataset.kinds) if kind == "binary"]
        labels = {ordering_key(dataset.tasks[i], dataset.kinds[i]): dataset.held_out.labels[:, i] for i in binary}
        scores = [logits[place] for place in binary]
        return auc_intervals(labels, scores, self._units, seed=self._seed, resamples=self._resamples)


def final_report(finals: Finals, details: Details) -> Json:
    """The report: per pick its member, its test and how sure that is; the baselines; and whether short runs told.

    A ``non_dominated`` pick is one that no other picked member dominates in the objectives' means on the test.
    """
    picked = {key: finals.means(key) for key in dict.fromkeys(finals.chosen.values())}
    measured, left_out = _measured_objectives(finals, picked)
    best = undominated(picked, measured)
    baselines = finals.fitted.baselines
    report: Json = {
        "opened_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit": "train+validation",
        "settings": steps_settings(finals.config),
        "seeds": list(finals.seeds),
        "rows": _rows(finals.fitted),
        "picks": [_pick(finals, text, key, key in best) for text, key in finals.chosen.items()],
        "dominance": {"objectives": [one.metric for one in measured], "left_out": left_out},
        "proxies": proxies({key: finals.members[key].metrics or {} for key in picked}, picked, measured),
        "baselines": {name: dict(found.values) for name, found in baselines.measured.items()},
        "baseline_parts": {
            name: {"users": details.parts.of_users(found.per_user, finals.recall)}
            for name, found in baselines.measured.items()
        },
        "skipped_baselines": dict(baselines.skipped),
    }
    _add_boosting(report, finals.boosted, details)
    return report


def _add_boosting(report: Json, boosted: Boosted | None, details: Details) -> None:
    if boosted is None:
        report["skipped_baselines"][GRADIENT_BOOSTING] = "finalize.boosting is false"
        return
    if boosted.values:
        report["baselines"][GRADIENT_BOOSTING] = dict(boosted.values)
        report["baseline_parts"][GRADIENT_BOOSTING] = {"rows": details.parts.of_rows(boosted.scores)}
    report["boosting"] = {name: dict(found) for name, found in boosted.settings.items()}
    for task, why in boosted.skipped.items():
        report["skipped_baselines"][f"{GRADIENT_BOOSTING} of {task}"] = why


def _pick(finals: Finals, text: str, key: str, non_dominated: bool) -> Json:
    per_seed, runs = finals.per_seed(key), finals.runs[key]
    against = {}
    for name, baseline in finals.fitted.baselines.measured.items():
        interval = paired_bootstrap(
            runs[0].per_user[finals.recall],
            baseline.per_user[finals.recall],
            seed=finals.seeds[0],
            resamples=finals.config.bootstrap,
        )
        against[name] = {"metric": finals.recall, **vars(interval)}
    return {
        "pick": text,
        "member": key,
        "spec": dict(finals.members[key].spec),
        "steps": finals.steps[key],
        **(finals.watched[key].as_json() if key in finals.watched else {}),
        "validation": dict(finals.validation[key]),
        "test": {name: _spread([one[name] for one in per_seed]) for name in per_seed[0]},
        "shipped": per_seed[0],
        "against": against,
        "interval": finals.details[key].interval,
        "parts": finals.details[key].parts,
        "non_dominated": non_dominated,
    }


def _measured_objectives(finals: Finals, picked: Mapping[str, Metrics]) -> tuple[tuple[Objective, ...], list[str]]:
    """The objectives that the test has, and the others: what a clock measured in the search is not measured again."""
    has = {one.metric for one in finals.objectives if all(one.metric in found for found in picked.values())}
    measured = tuple(one for one in finals.objectives if one.metric in has)
    return measured, [one.metric for one in finals.objectives if one.metric not in has]


def undominated(picked: Mapping[str, Metrics], objectives: Sequence[Objective]) -> set[str]:
    """The members that no other one dominates; two with equal values do not dominate each other.

    Args:
        picked: metrics by member, P of them.
        objectives: M; without one nothing is dominated.
    """
    if not objectives:
        return set(picked)
    columns = [one.minimised([found[one.metric] for found in picked.values()]) for one in objectives]
    best = non_dominated(np.stack(columns, axis=1), keep_equal=True)
    return {key for key, stays in zip(picked, best, strict=True) if stays}


def proxies(search: Mapping[str, Metrics], test: Mapping[str, Metrics], objectives: Sequence[Objective]) -> Json:
    """Whether the short runs on a sample of users told what the final training and the test say.

    Args:
        search: the search's own validation metrics by member.
        test: mean test metrics of the same members.
        objectives: what the search went by.
    Returns:
        ``n`` members, and by objective Spearman's and Kendall's rank correlation (tau-b) over them; of fewer than
        `FEWEST_MEMBERS` none, and none where all values of a side are equal, with the reason.
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
            report["left_out"][one.metric] = "all members have the same value, or one has none"
            continue
        rho, tau = float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)
        report["of"][one.metric] = {"spearman": rho, "kendall": tau}
    return report


def _rows(fitted: Fitted) -> dict[str, int]:
    """What the figures are of, as counts, and what was left out of them."""
    dataset, groups = fitted.dataset, fitted.users.groups
    choices = fitted.held_out.logged
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
