"""What the lists of a formula are worth, on the users whose head outputs are cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Csr
from evorec.deploy.fusion.choice import SIZE, measured_name
from evorec.deploy.fusion.formula import NUMPY, Formula
from evorec.deploy.fusion.head_outputs import HeadOutputs
from evorec.errors import ConfigError
from evorec.metrics import diversity, ranking
from evorec.objectives import Objective
from evorec.serving.mmr import NO_POSITION, mmr_by

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

MOST_TASKS: Final = 3
"""Further tasks that are objectives unless a configuration says which: fronts of many objectives hold everything."""
FEWEST_USERS: Final = 30
"""A further task with fewer users in the half is no objective by itself: their mean is mostly chance."""
SIMILARITY_BYTES: Final = 1 << 29
"""Cosines of candidates that are kept; beyond, they are computed for each list anew."""


@final
class FormulaScorer:
    """Lists and metrics of formulas on some users.

    Args:
        outputs: of U users and C candidates.
        target: their held-out positives, at least one each.
        others: held-out positives of further tasks; a user without one is left out of that task's metrics.
        content: fixed vectors of the items, float ``(>= I, D)`` unit rows; D = 0 = there are none.
        n_items: I.
        k: length of the lists.
    """

    def __init__(
        self,
        outputs: HeadOutputs,
        *,
        target: Csr,
        others: Mapping[str, Csr],
        content: npt.NDArray[np.float32],
        n_items: int,
        k: int,
    ) -> None:
        self.k, self._n_items, self._items = k, n_items, outputs.items
        self._values, self._empty = outputs.values(), outputs.items < 0
        self._relevant: dict[str, tuple[npt.NDArray[np.bool_], Int64]] = {}
        for task, positives in {"": target, **others}.items():
            hit, count = ranking.hits_of_checked(outputs.items, positives, n_items), ranking.n_relevant(positives)
            self._relevant[f"/{task}" if task else ""] = hit, count
        self._content = content[:n_items]
        self._vectors: npt.NDArray[np.float64] | None = None
        if content.shape[1]:
            vectors = diversity.unit_rows(self._content)
            self._vectors = np.append(vectors, np.zeros((1, vectors.shape[1])), axis=0)

    @property
    def has_content(self) -> bool:
        """Whether items can resemble each other; without, there is no re-ranking."""
        return self._vectors is not None

    @property
    def diversity(self) -> str:
        """The metric that stands for diversity."""
        return f"{'intra_list_distance' if self.has_content else 'catalogue_coverage'}@{self.k}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The further tasks."""
        return tuple(name[1:] for name in self._relevant if name)

    def n_users_of(self, task: str = "") -> int:
        """Users with a held-out positive of a further task, or of the target: what its metrics are means over."""
        return int((self._relevant[f"/{task}" if task else ""][1] > 0).sum())

    def positions(self, formula: Formula, mmr: float) -> Int64:
        """Places of the best candidates, int64 ``(U, k)``, best first, equal scores by item id."""
        scores = np.where(self._empty, -np.inf, formula.evaluate(self._values, NUMPY))
        if mmr > 0:
            return mmr_by(scores, self._similarity, self.k, mmr)
        found = min(self.k, scores.shape[1])
        values, best = ranking.best_items(scores, found)
        positions = np.full((len(scores), self.k), NO_POSITION, dtype=np.int64)
        positions[:, :found] = np.where(np.isneginf(values), NO_POSITION, best)
        return positions

    def lists(self, positions: Int64) -> Int64:
        """Item ids at the given places, int64 ``(U, k)``, -1 where there is none."""
        items = np.take_along_axis(self._items, np.maximum(positions, 0), axis=1)
        return np.where(positions == NO_POSITION, ranking.NO_ITEM, items)

    def metrics(self, positions: Int64) -> dict[str, float]:
        """``recall`` and ``ndcg`` of the target and, with ``/task``, of further tasks; the metric of diversity."""
        out = {}
        for suffix, (relevant, count) in self._relevant.items():
            some = count > 0
            places, own = positions[some], relevant[some]
            hit = np.take_along_axis(own, np.maximum(places, 0), axis=1) & (places != NO_POSITION)
            out[f"recall@{self.k}{suffix}"] = float(ranking.recall_at_k(hit, count[some]).mean())
            out[f"ndcg@{self.k}{suffix}"] = float(ranking.ndcg_at_k(hit, count[some]).mean())
        lists = self.lists(positions)
        if self._vectors is not None:
            out[self.diversity] = float(diversity.distance_of_checked(lists, self._vectors).mean())
        else:
            out[self.diversity] = float((diversity.exposure_of_checked(lists, self._n_items) > 0).mean())
        return out

    def ideals(self) -> dict[str, float]:
        """`metrics` of the best order that the same candidates have, each on its own; diversity 1."""
        out = {}
        for suffix, (relevant, count) in self._relevant.items():
            some, k = count > 0, min(self.k, relevant.shape[1])
            hit = np.zeros((int(some.sum()), self.k), dtype=np.bool_)
            hit[:, :k] = -np.sort(-relevant[some].astype(np.int8), axis=1)[:, :k] > 0
            out[f"recall@{self.k}{suffix}"] = float(ranking.recall_at_k(hit, count[some]).mean())
            out[f"ndcg@{self.k}{suffix}"] = float(ranking.ndcg_at_k(hit, count[some]).mean())
        return out | {self.diversity: 1.0}

    @cached_property
    def _similarity(self) -> Callable[[Int64], Floats]:
        """Cosines of every candidate to one of each user's, from a table of each user's own or of the catalogue."""
        items = np.where(self._empty, 0, self._items)  # what is empty is never chosen
        users, (n_users, n_candidates) = np.arange(len(items)), items.shape
        of_users, of_items = 4 * n_users * n_candidates**2, 4 * self._n_items**2
        content = self._content.astype(np.float32)
        if of_users <= SIMILARITY_BYTES:
            own = content[items]
            table = np.matmul(own, own.transpose(0, 2, 1))
            return lambda chosen: np.asarray(table[users, chosen])
        if of_items <= SIMILARITY_BYTES:
            cosines = content @ content.T
            return lambda chosen: np.take(cosines, items[users, chosen][:, None] * self._n_items + items)
        return lambda chosen: np.einsum("ucd,ud->uc", content[items], content[items[users, chosen]])


def fusion_objectives(names: Sequence[str], scorer: FormulaScorer, max_size: int) -> tuple[Objective, ...]:
    """The objectives of an evolution, each with its corners: from nothing to the best order of the candidates.

    Args:
        names: of `FuseConfig.objectives`.
        scorer: of the fitting half, whose best order gives the ideal corners.
        max_size: of a formula; the worst corner of `SIZE`.
    Raises:
        ConfigError: a name is not known, or has no positive among the candidates.
    """
    k, ideals = scorer.k, scorer.ideals()
    wanted = list(names)
    if not wanted:
        enough = [task for task in scorer.tasks if scorer.n_users_of(task) >= FEWEST_USERS]
        further = [f"ndcg@k/{task}" for task in enough if ideals[f"ndcg@{k}/{task}"] > 0]
        wanted = ["ndcg@k", *further[:MOST_TASKS], "diversity", SIZE]
    out = []
    for name in wanted:
        metric = measured_name(name, k, scorer.diversity)
        if metric == SIZE:
            out.append(Objective(SIZE, SIZE, "min", "", 1.0, float(max_size + 1)))
        elif ideals.get(metric, 0.0) > 0:
            out.append(Objective(metric, metric, "max", "", ideals[metric], 0.0))
        else:
            known = ", ".join([*(found for found, ideal in ideals.items() if ideal > 0), "diversity", SIZE])
            raise ConfigError(
                f"fuse.objectives: {name!r} is not measured on the candidates of this member; known: {known}."
            )
    if repeated := [one.name for place, one in enumerate(out) if one.name in [other.name for other in out[:place]]]:
        raise ConfigError(f"fuse.objectives names {', '.join(repeated)} twice.")
    return tuple(out)
