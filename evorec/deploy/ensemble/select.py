"""Ensembles of a run: selected on validation, checked on users that did not select them, kept if not dominated.

Greedy selection prefers what chance favours, so it is done three times: on each half of the validation users, measured
on the other half, and on all of them. The third gives the ensembles; the first two say what such a selection gains on
users that did not choose it, over the best single member of the same half. A selection that gains nothing there is
dropped. Nothing is trained, and the test is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, Final, Literal, final

import numpy as np

from evorec.archive.decide import choices, scaled
from evorec.archive.ensemble import FEWEST, Ensemble, greedy, is_cost, summed_costs
from evorec.archive.indicators import normalised
from evorec.archive.pareto import non_dominated
from evorec.config import EnsembleConfig
from evorec.data.held_out import HeldOut, RankingUsers
from evorec.deploy.ensemble.outputs import Counts, StoredMembers, list_scores, mean_logits, member_logits
from evorec.deploy.runs import check_whole
from evorec.errors import ConfigError, DataError, RunError, TrainingError
from evorec.metrics.accuracy import accuracy, ordering_key
from evorec.metrics.lists import RecommendedLists
from evorec.metrics.metric import MeasuredValues, measure, metrics_of
from evorec.metrics.task_rows import TaskPredictions
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.objectives import Metrics, Objective, find_metric, in_full, resolve
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory
from evorec.seeds import generator
from evorec.training.evaluate import measure_mixture, mixture_logits

Use = Literal["tasks", "lists"]
RELEVANCE: Final = ("recall@k", "ndcg@k", "hit_rate@k", "precision@k", "mrr@k", "map@k")
"""Metrics of lists that are goals where they are objectives. Other list metrics, such as diversity, follow from them:
a mean of lists is no way to make lists more diverse."""
COST: Final = "training_flops"
"""Of equally good ensembles the cheapest to train is kept."""
MEMBERS: Final = "members"
"""Number of different members, which picks can limit beside the metrics."""


@final
@dataclass(frozen=True)
class Goal:
    """A metric that members are selected for.

    Attributes:
        objective: with the direction of the metric.
        use: the outputs that the metric measures.
    """

    objective: Objective
    use: Use

    @property
    def metric(self) -> str:
        """Key of the metric."""
        return self.objective.metric

    @property
    def sign(self) -> int:
        """1 or -1: a higher product with the metric is better."""
        return 1 if self.objective.direction == "max" else -1


@final
@dataclass(frozen=True)
class Selection:
    """Members for the tasks or for the lists.

    Attributes:
        counts: how often each is in the mean.
        metrics: of the validation part: those of tasks, or all others.
        gains: by goal, what selections like it gain on users that did not select them; empty for a single member.
    """

    counts: Counts
    metrics: Metrics
    gains: Mapping[str, float]


def select_ensembles(
    run: RunDirectory,
    problem: RecProblem,
    config: EnsembleConfig,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Select ensembles from the archive of a run and write them into it.

    Args:
        run: a finished search, open for writing.
        problem: the problem it searched.
        config: size, goals and picks.
        progress: called with a line of text per step.
    Returns:
        What is stored in the run: settings, goals, what the selections gain on users that did not select them, and the
        kept ensembles with their members, weights, validation metrics and summed costs.
    Raises:
        RunError: the search is not finished, belongs to another problem, has lost weights or has fewer than 2 members;
            or the test was opened, after which nothing else may be chosen.
        ConfigError: a goal or a pick cannot be followed.
    """
    check_whole(run, problem)
    if not problem.data.dataset.has_items:
        raise ConfigError("ensembles mix the lists of members, and a table of rows has no items to list.")
    archive = {found.key: found for found in run.members()}
    if len(archive) < FEWEST:
        raise RunError(f"an ensemble needs {FEWEST} members, and run {run.path} has {len(archive)} in its archive")
    if run.opened is not None:
        if (stored := run.read_ensembles()) is not None and stored["settings"] == config.model_dump(mode="json"):
            progress("the test was opened before; showing the ensembles of the run")
            return stored
        raise RunError(
            f"the test of {run.path} was opened, so its members and ensembles are chosen; select ensembles before "
            "`evorec finalize`"
        )
    goals = goals_of(config, problem)
    specs = {key: ModelSpec.from_genes(found.spec) for key, found in archive.items()}
    metrics = {key: found.metrics or {} for key, found in archive.items()}
    selector = _Selector(StoredMembers(problem, run, specs), metrics, config, Halves(problem, config.seed), [])
    by_use = {use: [goal for goal in goals if goal.use == use] for use in ("tasks", "lists")}
    tasks = selector.selections("tasks", by_use["tasks"], progress) if problem.data.dataset.tasks else []
    pool = _pool(tasks, selector.selections("lists", by_use["lists"], progress), selector, config.members)
    kept = _kept(pool, selector, goals)
    report = {
        "settings": config.model_dump(mode="json"),
        "goals": [goal.metric for goal in goals],
        "archive": sorted(archive),
        "users": len(problem.data.users.ids),
        "held": selector.held,
        "ensembles": [
            {
                "key": key,
                "best": texts,
                **pool[key].ensemble.as_json(),
                "metrics": {name: value for name, value in pool[key].metrics.items() if name != MEMBERS},
                "gains": dict(pool[key].gains),
            }
            for key, texts in kept.items()
        ],
    }
    return run.write_ensembles(report)


def goals_of(config: EnsembleConfig, problem: RecProblem) -> tuple[Goal, ...]:
    """The metrics that members are selected for.

    Raises:
        ConfigError: a metric is not one of tasks or lists, or there is none.
    """
    tasks, k = problem.config.tasks.kind_of_each(), problem.config.evaluation.k
    if problem.trainer.attack is not None:
        raise ConfigError(
            "ensembles are not measured under attack: an objective or constraint is a shift by an attack, for which "
            "each ensemble would be trained a second time. Search without it."
        )
    given = {objective.metric: objective for objective in problem.objectives}
    out: dict[str, Goal] = {}
    for name in config.goals or given:
        metric = resolve(in_full(name), k, tasks=tasks)
        info = find_metric(metric)
        of_tasks = info.of is TaskPredictions or (info.of is MeasuredValues and metric == "accuracy")
        is_usable = of_tasks or (info.of is RecommendedLists and info.has_baselines)
        if not config.goals and not of_tasks and info.name not in RELEVANCE:
            continue
        if not is_usable:
            raise ConfigError(
                f"ensemble.goals: members are selected for a metric of tasks or lists, and {name} is neither; limit it "
                f"in a pick instead, e.g. 'accuracy where {name} <= NUMBER'."
            )
        ideal, worst = (2.0, 1.0) if info.direction == "max" else (1.0, 2.0)  # a box without effect on the choice
        objective = given.get(metric, Objective(name, metric, info.direction, info.unit, ideal, worst, info.log10))
        out[metric] = Goal(objective, "tasks" if of_tasks else "lists")
    if not out:
        raise ConfigError(
            f"no objective of {', '.join(given)} is a metric of tasks or of relevant items in lists; name what the "
            "members are selected for, e.g. --set ensemble.goals=ndcg@k"
        )
    return tuple(out.values())


@final
class Halves:
    """The validation part and its two halves, as metrics read them.

    Args:
        problem: whose validation part it is.
        seed: of the halves.
    """

    def __init__(self, problem: RecProblem, seed: int) -> None:
        self._held_out = problem.data.held_out
        dataset = self._held_out.dataset  # rows without items are all of the unknown user, and are drawn singly
        draw = generator(seed, "ensemble halves")
        is_first = draw.permutation(dataset.n_users + 1) % 2 == 0
        self.row_is_first = is_first[dataset.held_out.users]
        unknown = dataset.held_out.users == dataset.n_users  # users without a training row have no name of their own
        self.row_is_first[unknown] = draw.random(int(unknown.sum())) < 0.5
        self.user_is_first = is_first[self._held_out.users.ids]

    @cached_property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray, HeldOut]]:
        """Rows and users, as indices, of all and of both halves, with their metrics."""
        rows, users = np.arange(len(self.row_is_first)), np.arange(len(self.user_is_first))
        out = [(rows, users, self._held_out)]
        for first in (True, False):
            some = rows[self.row_is_first == first], users[self.user_is_first == first]
            out.append((*some, self._of(*some)))
        return out

    def _of(self, rows: np.ndarray, users: np.ndarray) -> HeldOut:
        whole = self._held_out
        part, own = whole.dataset.held_out, whole.users
        if not len(users) and whole.dataset.has_items:
            raise RunError("ensembles are selected on half of the validation users, and there is a single user")
        kept = part.rows(rows)
        groups = None if own.groups is None else own.groups[users]
        some = RankingUsers(own.ids[users], own.masked.select(users), own.relevant.select(users), groups)
        try:
            return HeldOut(replace(whole.dataset, held_out=kept), whole.config, some)
        except DataError as error:
            raise RunError(
                f"ensembles are selected on half of the validation users, which are too few: {error}"
            ) from None


@final
@dataclass(frozen=True, eq=False)
class _Selector:
    """Greedy selections from an archive.

    Attributes:
        members: with their weights.
        metrics: of each member, by key.
        config: size of ensembles and library, and steps.
        halves: of the validation part.
        held: gets a row per goal and size: what the selections of one half gain on the other.
    """

    members: StoredMembers
    metrics: Mapping[str, Metrics]
    config: EnsembleConfig
    halves: Halves
    held: list[dict[str, Any]]

    def selections(self, use: Use, goals: Sequence[Goal], progress: Callable[[str], None]) -> list[Selection]:
        """Single members, and the selections of each goal that gain something on users that did not select them."""
        out = [Selection({key: 1}, {n: v for n, v in own.items() if _use(n) == use}, {})
               for key, own in self.metrics.items()]  # fmt: skip
        if not goals:
            return out
        library = self._library(goals)
        words = ", ".join(goal.metric for goal in goals)
        progress(f"selecting from {len(library)} of {len(self.metrics)} members for {words}")
        score = self._task_score(library) if use == "tasks" else self._list_score(library)
        measured = self._measured_tasks if use == "tasks" else self._measured_lists
        for goal in goals:
            whole, first, second = (self._greedy(partial(score, goal, part), goal, library) for part in range(3))
            for size in range(FEWEST, self.config.members + 1):
                crossed = ((first, 2), (second, 1))  # each half is measured by the other
                gains = [score(goal, part, own[size]) - score(goal, part, own[1]) for own, part in crossed]
                gain = float(np.mean(gains))
                is_better = goal.sign * gain > 0
                row = {"goal": goal.metric, "at_most": size, "members": len(whole[size])}
                self.held.append({**row, "gain": gain, "halves": gains, "kept": is_better})
                is_new = len(whole[size]) >= FEWEST and whole[size] not in [one.counts for one in out]
                if is_better and is_new:
                    out.append(Selection(whole[size], measured(whole[size]), {goal.metric: gain}))
        return out

    def _greedy(
        self, score: Callable[[Counts], float], goal: Goal, library: Sequence[str]
    ) -> dict[int, dict[str, int]]:
        most, steps = self.config.members, self.config.steps
        return greedy(lambda counts: goal.sign * score(counts), library, most=most, steps=steps)

    def _library(self, goals: Sequence[Goal]) -> list[str]:
        """Keys of the best members of each goal, the best first."""
        out: dict[str, None] = {}
        for goal in goals:
            measured = sorted(key for key, own in self.metrics.items() if goal.metric in own)
            measured.sort(key=lambda key: -goal.sign * self.metrics[key][goal.metric])
            out |= dict.fromkeys(measured[: self.config.library])
        return list(out)

    def _task_score(self, library: Sequence[str]) -> Callable[[Goal, int, Counts], float]:
        """The metric of a goal of the mean logits, on a part of `Halves.parts`."""
        logits = member_logits(self.members, library)

        def score(goal: Goal, part: int, counts: Counts) -> float:
            rows, _, held_out = self.halves.parts[part]
            mean, values = mean_logits(logits, counts), dict[str, float]()
            for own, known in zip(mean, held_out.tasks, strict=True):
                wanted = [ordering_key(known.task, known.kind)] if goal.metric == "accuracy" else [goal.metric]
                metrics = metrics_of(TaskPredictions, kind=known.kind, task=known.task)
                metrics = tuple(found for found in metrics if found.key(task=known.task) in wanted)
                values |= measure(TaskPredictions(own[rows][known.rows], known), metrics).values
            return accuracy(values) if goal.metric == "accuracy" else values[goal.metric]

        return score

    def _list_score(self, library: Sequence[str]) -> Callable[[Goal, int, Counts], float]:
        """The metric of a goal of the lists by the mean of the scores, on a part of `Halves.parts`."""
        scores = list_scores(self.members, library)
        known: dict[tuple[tuple[str, int], ...], Any] = {}

        def score(goal: Goal, part: int, counts: Counts) -> float:
            key = tuple(sorted(counts.items()))
            if key not in known:  # the parts share the lists
                known[key] = scores.lists(counts)
            _, users, held_out = self.halves.parts[part]
            metric = find_metric(goal.metric)
            return measure(RecommendedLists(known[key][users], held_out.lists), [metric]).values[goal.metric]

        return score

    def _measured_tasks(self, counts: Counts) -> Metrics:
        """Metrics of the tasks, of all validation rows."""
        data = self.members.problem.data
        total = mixture_logits(*self._weighted(counts), data.tensors, data.dataset.held_out)
        return data.held_out.measure_tasks(total)

    def _measured_lists(self, counts: Counts) -> Metrics:
        """Metrics of lists and choices, of all users of the search."""
        data, (stack, weights) = self.members.problem.data, self._weighted(counts)
        try:
            found = measure_mixture(stack, weights, weights, data.tensors, data.held_out)
        except TrainingError as error:
            raise RunError(f"members {', '.join(counts)} of {self.members.run.path}: {error}") from None
        return {name: value for name, value in found.metrics.items() if _use(name) == "lists"}

    def _weighted(self, counts: Counts) -> tuple[Population, list[float]]:
        return self.members.stack(list(counts)), [count / sum(counts.values()) for count in counts.values()]


def _use(metric: str) -> str:
    """Whether a metric measures the outputs of tasks, lists (choices among logged rows included), or neither."""
    of = find_metric(metric).of
    if of is TaskPredictions:
        return "tasks"
    return "" if of is MeasuredValues or is_cost(metric) else "lists"


@final
@dataclass(frozen=True)
class Candidate:
    """An ensemble that may be kept.

    Attributes:
        ensemble: members and weights.
        metrics: on validation, with summed costs and `MEMBERS`.
        gains: of its selections, see `Selection`.
    """

    ensemble: Ensemble
    metrics: Metrics
    gains: Mapping[str, float]


def _pool(
    tasks: Sequence[Selection], lists: Sequence[Selection], selector: _Selector, most: int
) -> dict[str, Candidate]:
    """Every selection for tasks with every selection for lists, of at most `most` members together, by key."""
    out = {}
    held_out = selector.members.problem.data.held_out
    for of_tasks, of_lists in product(tasks or [Selection({}, {}, {})], lists):
        ensemble = Ensemble.of(of_tasks.counts, of_lists.counts)
        if FEWEST <= len(ensemble.members) <= most:
            values = {**of_tasks.metrics, **of_lists.metrics}
            values |= held_out.derived(values)
            values |= summed_costs([selector.metrics[key] for key in ensemble.members])
            values[MEMBERS] = float(len(ensemble.members))
            out[ensemble.key] = Candidate(ensemble, values, {**of_tasks.gains, **of_lists.gains})
    return out


def _kept(pool: Mapping[str, Candidate], selector: _Selector, goals: Sequence[Goal]) -> dict[str, list[str]]:
    """Keys of the ensembles to keep, each with what it is the best of."""
    problem, config, members = selector.members.problem, selector.config, selector.metrics
    pool = {
        key: found
        for key, found in pool.items()
        if all(bool(bound.holds(found.metrics[bound.metric])) for bound in problem.constraints)
    }
    out: dict[str, list[str]] = {}
    if config.picks:
        rows = {key: found.metrics for key, found in pool.items()}
        baselines, k = problem.baselines(), problem.config.evaluation.k
        for choice in choices(config.picks, rows, problem.objectives, k, baselines=baselines):
            out.setdefault(choice.member, []).append(choice.pick)
        return out
    keys = sorted(pool, key=lambda key: (pool[key].metrics[COST], key))  # of equally good ensembles the cheapest
    axes = [goal.objective for goal in goals]
    points = scaled([*(pool[key].metrics for key in keys), *members.values()], axes)[: len(keys)]
    for size in range(FEWEST, config.members + 1):
        inside = [row for row, key in enumerate(keys) if pool[key].metrics[MEMBERS] <= size]
        columns = {goal.metric: points[:, column] for column, goal in enumerate(goals)}
        columns |= {"balance": points.sum(axis=1)} if len(goals) > 1 else {}
        for name, column in columns.items() if inside else ():
            best = min(inside, key=lambda row: (column[row], points[row].sum()))
            out.setdefault(keys[best], []).append(f"{name}, up to {size}")
    front = [*(pool[key].metrics for key in out), *members.values()]
    stays = non_dominated(normalised(front, problem.objectives), keep_equal=True)
    return {key: texts for (key, texts), best in zip(out.items(), stays, strict=False) if best}
