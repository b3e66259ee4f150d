"""A search on a tiny simulated feed, half a second long, and slow, plain figures of what it should have found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from evorec.config import RecommenderConfig, merge, parse_config
from evorec.data.held_out import RankingUsers
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.run.directory import RunDirectory
from evorec.search import engine
from evorec.training.evaluate import member_lists, task_logits
from problems import feed

TINY: Mapping[str, Any] = {
    "data": {"simulator": {"n_users": 60, "n_items": 50, "n_interactions": 2400, "seed": 1}},
    "training": {"steps": 5, "batch_size": 64, "retrieval_batch": 32, "layers": 2},
    "evaluation": {"k": 5, "candidates": 12, "max_users": 10},
    "constraints": [],
    "inputs": "search",
    "search": {"seed": 4, "population": 6, "generations": 2, "surrogate": "none"},
    "finalize": {"seeds": 2, "bootstrap": 200, "boosting": False},
    "run": {"device": "cpu", "workers": 1},
}
K = 5
Recommended = dict[int | str, list[tuple[int | str, float]]]
"""Items, best first, with their scores, by external user id."""


def config(**overlay: Any) -> RecommenderConfig:
    return parse_config(merge(merge(feed.DEFAULTS, TINY), overlay))


def searched(root: Path, settings: RecommenderConfig, *, tables: Tables | None = None) -> tuple[RecProblem, Path]:
    """The problem, and the folder of a finished search of it."""
    problem = build_problem(settings, tables=tables)
    settings = problem.config  # without defaults that the data cannot have
    fingerprint = settings.fingerprint(problem.data_sha256)
    with RunDirectory.create(root, config=settings, fingerprint=fingerprint, environment=problem.environment) as run:
        engine.search(problem, settings.search, run=run, chunk=4)
        return problem, run.path


def final_fit(problem: RecProblem, seed: int) -> StackTrainer:
    """Train + validation as a person would make it who has never heard of `finalize`."""
    return StackTrainer.of(problem.tables, problem.config, fit="train+validation", seed=seed, at_most=None)


def recommended(encoded: EncodedData, population: Population, users: RankingUsers | None = None) -> Recommended:
    """What `member_lists` gives for the first member of a stack, in external ids."""
    users = encoded.users if users is None else users
    lists = member_lists(population, encoded.dataset, encoded.tensors, users, encoded.config.evaluation)
    names, items = [*encoded.dataset.user_ids.tolist(), "unknown"], encoded.dataset.item_ids.tolist()
    return {
        names[user]: [(items[item], float(score)) for item, score in zip(*pair, strict=True) if item >= 0]
        for user, *pair in zip(users.ids, lists.final[0], lists.scores[0], strict=True)
    }


def positives(problem: RecProblem, part: str) -> dict[int | str, set[int | str]]:
    """Clicked items of ``validation`` or ``test`` by user, of users with an earlier row; from the log itself."""
    log, parts = problem.tables.interactions, split(problem.tables, problem.config.split)
    earlier = parts.train if part == "validation" else np.concatenate([parts.train, parts.validation])
    known = set(log[earlier][Columns.USER])
    out: dict[int | str, set[int | str]] = {}
    for user, item, click in log[getattr(parts, part)].select(Columns.USER, Columns.ITEM, "click").iter_rows():
        if click and user in known:
            out.setdefault(user, set()).add(item)
    return out


def recalls(lists: Recommended, relevant: Mapping[int | str, set[int | str]]) -> list[float]:
    """Recall of each user's first `K` items, users ascending."""
    return [
        sum(item in relevant[user] for item, _ in lists[user][:K]) / len(relevant[user]) for user in sorted(relevant)
    ]


def task_aucs(problem: RecProblem, encoded: EncodedData, population: Population, part: str) -> dict[str, float]:
    """scikit-learn's AUC of a stack's first member on ``validation`` or ``test``, by task; labels from the log."""
    rows = problem.tables.interactions[getattr(split(problem.tables, problem.config.split), part)]
    logits = task_logits(population, encoded.tensors, encoded.dataset.held_out)[0]
    tasks = problem.config.tasks.ranked
    return {task: float(roc_auc_score(rows[task], scores)) for task, scores in zip(tasks, logits, strict=True)}


def alone(trainer: StackTrainer, genes: Mapping[str, Any]) -> Population:
    """A population of a single spec, trained."""
    return trainer.train([ModelSpec.from_genes(genes)]).population
