"""Metrics of the lists that a formula makes, on the users whose head outputs are cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Csr
from evorec.deploy.fusion.formula import NUMPY, SIZE, Formula
from evorec.deploy.fusion.head_outputs import HeadOutputs
from evorec.errors import ConfigError
from evorec.metrics.diversity import catalogue_coverage, intra_list_distance
from evorec.metrics.lists import NO_ITEM, n_relevant, unit_rows
from evorec.metrics.lists import hits as relevant_hits
from evorec.metrics.ranking import ndcg_at_k, recall_at_k
from evorec.metrics.top_items import best_items
from evorec.objectives import Objective
from evorec.serving.mmr import NO_POSITION, mmr_by
from evorec.training.memory import stack_size

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

MOST_TASKS: Final = 3
"""Further tasks that are objectives by default: with many objectives nearly every formula is non-dominated."""
FEWEST_USERS: Final = 30
"""A further task with fewer users in the half is not an objective by default: its mean is too noisy."""
SIMILARITY_BYTES: Final = 1 << 29
"""Memory for cosines where there is enough; a larger table is not kept, and its cosines are computed for each list."""


@final
class FormulaScorer:
    """Lists and metrics of formulas on some users.

    Args:
        outputs: of U users and C candidates.
        target: their held-out positives, at least 1 per user.
        others: held-out positives of further tasks; a user without a positive is left out of that task's metrics.
        content: fixed vectors of the items, float ``(>= I, D)`` unit rows; D = 0 = no content.
        n_items: I.
        k: length of the lists.
        similarity_bytes: memory for cosines and for the vectors that they are computed from. The three ways to compute
            them differ by rounding.
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
        similarity_bytes: int = SIMILARITY_BYTES,
    ) -> None:
        self.k, self._n_items, self._items = k, n_items, outputs.items
        self.similarity_bytes = similarity_bytes
        self._values, self._empty = outputs.values(), outputs.items < 0
        self._relevant: dict[str, tuple[npt.NDArray[np.bool_], Int64]] = {
            task: (relevant_hits(outputs.items, positives, n_items), n_relevant(positives))
            for task, positives in {"": target, **others}.items()
        }
        self._content = content[:n_items]
        self.has_content = bool(content.shape[1])
        """Items without content have no similarity, so lists are not re-ranked."""
        self.tasks = tuple(others)
        """The further tasks."""
        self.diversity = f"{'intra_list_distance' if self.has_content else 'catalogue_coverage'}@{k}"
        """The metric of diversity."""

    def n_users_of(self, task: str = "") -> int:
        """Users with a held-out positive of a further task, or of the target: its metrics are means over them."""
        return int((self._relevant[task][1] > 0).sum())

    def positions(self, formula: Formula, mmr: float) -> Int64:
        """Columns of the best candidates, int64 ``(U, k)``, best first, equal scores by item id."""
        scores = np.where(self._empty, -np.inf, formula.evaluate(self._values, NUMPY))
        if mmr > 0:
            return mmr_by(scores, self._similarity, self.k, mmr)
        found = min(self.k, scores.shape[1])
        values, best = best_items(scores, found)
        positions = np.full((len(scores), self.k), NO_POSITION, dtype=np.int64)
        positions[:, :found] = np.where(np.isneginf(values), NO_POSITION, best)
        return positions

    def lists(self, positions: Int64) -> Int64:
        """Item ids of the given columns, int64 ``(U, k)``, -1 for no item."""
        items = np.take_along_axis(self._items, np.maximum(positions, 0), axis=1)
        return np.where(positions == NO_POSITION, NO_ITEM, items)

    def metrics(self, positions: Int64) -> dict[str, float]:
        """``recall`` and ``ndcg`` of the target and, with ``/task``, of further tasks; the metric of diversity."""
        out = self._ranking_metrics(
            lambda relevant, some: (
                np.take_along_axis(relevant, np.maximum(positions[some], 0), axis=1) & (positions[some] != NO_POSITION)
            )
        )
        lists = self.lists(positions)
        if self.has_content:
            out[self.diversity] = float(intra_list_distance(lists, self._vectors).mean())
        else:
            out[self.diversity] = catalogue_coverage(lists, self._n_items)
        return out

    def ideals(self) -> dict[str, float]:
        """`metrics` of the best order of the candidates, for each metric separately; diversity 1."""
        k = self.k

        def best_hits(relevant: npt.NDArray[np.bool_], some: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
            hit = np.zeros((int(some.sum()), k), dtype=np.bool_)
            hit[:, : relevant.shape[1]] = -np.sort(-relevant.astype(np.int8), axis=1)[:, :k] > 0
            return hit

        return self._ranking_metrics(best_hits) | {self.diversity: 1.0}

    def _ranking_metrics(self, hits: Callable[..., npt.NDArray[np.bool_]]) -> dict[str, float]:
        """Means over the users of each task; ``hits(relevant, some)`` gives bool ``(n, k)`` of ``some (U,)`` users."""
        out = {}
        for task, (relevant, count) in self._relevant.items():
            some = count > 0
            hit, suffix = hits(relevant[some], some), f"/{task}" if task else ""
            out[f"recall@{self.k}{suffix}"] = float(recall_at_k(hit, count[some]).mean())
            out[f"ndcg@{self.k}{suffix}"] = float(ndcg_at_k(hit, count[some]).mean())
        return out

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float64]:
        return unit_rows(self._content)

    @cached_property
    def _similarity(self) -> Callable[[Int64], Floats]:
        """Cosines of each user's candidates to a candidate of that user, from a table per user or of the catalogue."""
        items = np.where(self._empty, 0, self._items)  # an empty column is never chosen
        users, (n_users, n_candidates) = np.arange(len(items)), items.shape
        content = self._content.astype(np.float32, copy=False)

        def parts(room: int) -> list[Int64]:
            """The users in parts whose candidates' vectors fit into some bytes."""
            of_user = 2 * 4 * n_candidates * max(1, content.shape[1])  # NumPy may copy an operand
            return np.split(users, range(step := stack_size(room, of_user, at_most=n_users), n_users, step))

        if (n_bytes := 4 * n_users * n_candidates**2) <= self.similarity_bytes:
            table = np.empty((n_users, n_candidates, n_candidates), dtype=np.float32)
            for some in parts(self.similarity_bytes - n_bytes):
                own = content[items[some]]
                np.matmul(own, own.transpose(0, 2, 1), out=table[some[0] : some[-1] + 1])
            return lambda chosen: np.asarray(table[users, chosen])
        if 4 * self._n_items**2 <= self.similarity_bytes:
            cosines = content @ content.T
            return lambda chosen: np.take(cosines, items[users, chosen][:, None] * self._n_items + items)
        every = parts(self.similarity_bytes)
        return lambda chosen: np.concatenate(
            [np.einsum("ucd,ud->uc", content[items[some]], content[items[some, chosen[some]]]) for some in every]
        )


def fusion_objectives(names: Sequence[str], scorer: FormulaScorer, max_size: int) -> tuple[Objective, ...]:
    """The objectives of an evolution, each with its corners: 0 and the best order of the candidates.

    Args:
        names: of `FuseConfig.objectives`.
        scorer: of the fitting half, whose best order gives the ideal corners.
        max_size: of a formula; gives the worst corner of `SIZE`.
    Raises:
        ConfigError: a name is not known, or has no positive among the candidates.
    """
    k, ideals = scorer.k, scorer.ideals()
    wanted = list(names)
    if not wanted:
        enough = [task for task in scorer.tasks if scorer.n_users_of(task) >= FEWEST_USERS]
        further = [f"ndcg@k/{task}" for task in enough if ideals[f"ndcg@{k}/{task}"] > 0]
        wanted = ["ndcg@k", *further[:MOST_TASKS], "diversity", SIZE]
    out: dict[str, Objective] = {}
    for name in wanted:
        metric = measured_name(name, k, scorer.diversity)
        if metric in out:
            raise ConfigError(f"fuse.objectives names {metric} twice.")
        if metric == SIZE:
            out[metric] = Objective(SIZE, SIZE, "min", "", 1.0, float(max_size + 1))
        elif ideals.get(metric, 0.0) > 0:
            out[metric] = Objective(metric, metric, "max", "", ideals[metric], 0.0)
        else:
            known = ", ".join([*(found for found, ideal in ideals.items() if ideal > 0), "diversity", SIZE])
            raise ConfigError(
                f"fuse.objectives: {name!r} is not measured on the candidates of this member; known: {known}."
            )
    return tuple(out.values())


def measured_name(name: str, k: int, diversity_metric: str) -> str:
    """The key under which a metric of a formula is measured.

    Example:
        >>> measured_name("ndcg@k/like", 20, "intra_list_distance@20"), measured_name("diversity", 20, "x@20")
        ('ndcg@20/like', 'x@20')
    """
    base, slash, task = name.strip().partition("/")
    if base in ("diversity", "diversity@k"):
        return diversity_metric
    return (f"{base[:-2]}@{k}" if base.endswith("@k") else base) + slash + task
