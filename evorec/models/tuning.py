"""Settings of the baselines, chosen on validation: a setting at a time, on a part of the data that is cheap.

The part has at most `MOST_USERS` users and the items with the most positives. Settings depend little on its size; the
number of neighbours is in proportion to the items. The test is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Csr, Dataset
from evorec.data.held_out import HeldOut
from evorec.data.pasts import Past
from evorec.data.tables import SECONDS_PER_DAY
from evorec.metrics.lists import NO_ITEM
from evorec.metrics.top_items import top_k
from evorec.models.item_item import ALL, ItemItemModel, Positives, fit_item_item

Ints = npt.NDArray[np.int64]
Settings = Mapping[str, float]
"""Values by name."""
Grid = Mapping[str, Sequence[float]]

SHRINKAGES: Final = (10.0, 0.0, 3.0, 30.0, 100.0, 300.0)
KNN: Final[Grid] = {"shrinkage": SHRINKAGES, "user_norm": (0.0, 0.5, 1.0), "neighbours": (200, 50, ALL)}
FADING_KNN: Final[Grid] = {
    "past_decay": (0.8, 1.0, 0.95, 0.9, 0.6, 0.4),
    "next_item": (1.0, 0.0, 0.5, 2.0, 4.0),
    "shrinkage": SHRINKAGES,
    "user_norm": (0.0, 0.5, 1.0),
}
EASE: Final[Grid] = {"item_item_l2": (200.0, 5.0, 20.0, 50.0, 100.0, 500.0, 1000.0, 3000.0)}
"""Values of each setting; the first are those of the start and of `evorec.models.baselines.DEFAULT_SETTINGS`."""
SPANS: Final = (1.0, 4.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625)
"""Half-lives of popularity, as shares of the length of the training part."""
ROUNDS: Final = 2
"""Passes over the settings of a grid; the second ends at the first pass without a change."""
MOST_USERS: Final = 1000
"""Users whose lists are compared."""
MOST_ITEMS, FEWEST_ITEMS = 20_000, 1000
MOST_PAIRS: Final = 5_000_000
"""Co-occurrences of the items that are kept, unless these are the fewest."""
EASE_ITEMS: Final = 2000
"""Rows of the matrix that is inverted for each value of l2, about a second for all of them."""


@final
class Tuning:
    """Chooses settings by the recall of lists on the users of a held-out part, ties by NDCG.

    Args:
        held_out: the validation part.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out

    def settings_of(self, name: str) -> Settings:
        """The best settings of a baseline, by name; empty for a baseline without any."""
        if name == "recent_popularity":
            return self._half_life()
        if name == "item_knn":
            return self._best(KNN, self._sample, "knn")
        if name == "fading_knn":
            return self._best(FADING_KNN, self._sample, "knn")
        if name == "ease":
            return self._best(EASE, self._small_sample, "ease")
        return {}

    def _half_life(self) -> Settings:
        part = self._held_out.dataset.train
        days = max(float(part.time.max() - part.time.min()) / SECONDS_PER_DAY, 1.0)
        sample = self._sample
        ages = sample.days_before_end

        def quality(settings: Settings) -> tuple[float, float]:
            weights = np.exp2(-ages / settings["half_life_days"])
            counts = np.bincount(sample.positives.past.items, weights=weights, minlength=sample.positives.n_items)
            return sample.quality(lambda users: np.tile(counts.astype(np.float32), (len(users), 1)))

        return best({"half_life_days": [round(share * days, 3) for share in SPANS]}, quality)

    def _best(self, grid: Grid, sample: Sample, kind: str) -> Settings:
        positives = sample.positives
        share = positives.n_items / max(self._n_active_items, 1)

        def quality(settings: Settings) -> tuple[float, float]:
            wanted = settings.get("neighbours", ALL)
            neighbours = ALL if wanted == ALL else max(1, round(wanted * share))
            model = fit_item_item(kind, positives, {**settings, "neighbours": neighbours})
            if neighbours != ALL:
                model = of_listed_items(model)
            past = positives.past.faded(positives.n_items, decay=settings.get("past_decay", 1.0))
            return sample.quality(lambda users: model.scores(past[users]))

        return best(grid, quality)

    @cached_property
    def _n_active_items(self) -> int:
        return len(np.unique(self._held_out.dataset.history.indices))

    @cached_property
    def _sample(self) -> Sample:
        return Sample.of(self._held_out, self._cheap_items(MOST_ITEMS))

    @cached_property
    def _small_sample(self) -> Sample:
        return Sample.of(self._held_out, self._cheap_items(EASE_ITEMS))

    def _cheap_items(self, most: int) -> Ints:
        """The items with the most positives, ascending, so many that their co-occurrences are cheap to count."""
        history, n_items = self._held_out.dataset.history, self._held_out.dataset.n_items
        counts = np.bincount(history.indices, minlength=n_items)
        order = np.argsort(-counts, kind="stable")[: min(most, int(np.count_nonzero(counts)))]
        rank = np.full(n_items, len(order))
        rank[order] = np.arange(len(order))
        users = np.repeat(np.arange(history.n_rows), history.counts())
        n = len(order)
        while n > FEWEST_ITEMS:
            per_user = np.bincount(users[rank[history.indices] < n])
            if int((per_user**2).sum()) <= MOST_PAIRS:
                break
            n = max(FEWEST_ITEMS, n * 2 // 3)
        return np.sort(order[:n])


@final
class Sample:
    """A part of the items and users of a held-out part.

    Attributes:
        positives: of all users, on the kept items, which are numbered anew.
        users: int64 ``(B,)``, at most `MOST_USERS`.
        days_before_end: age of each positive of the past, in days.
    """

    def __init__(self, positives: Positives, users: Ints, masked: Csr, relevant: Csr, ages: Any, k: int) -> None:
        self.positives, self.users, self.days_before_end = positives, users, ages
        self._masked, self._relevant, self._k = masked, relevant, k

    @classmethod
    def of(cls, held_out: HeldOut, items: Ints) -> Sample:
        """The users of a held-out part, of which every n-th is taken where there are many, on some items."""
        dataset, ranking = held_out.dataset, held_out.users
        history, masked = kept(dataset.history, items), kept(ranking.masked, items)
        relevant = kept(ranking.relevant, items)
        rows = np.flatnonzero(relevant.counts())
        if len(rows) > MOST_USERS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_USERS).astype(np.int64)]
        past, ages = past_of(dataset, items)
        positives = Positives(history, past, len(items))
        return cls(positives, ranking.ids[rows], masked.select(rows), relevant.select(rows), ages, held_out.config.k)

    def quality(self, scores_of: Callable[[Ints], npt.NDArray[np.float32]]) -> tuple[float, float]:
        """Mean recall and NDCG of the lists of a method; both 0 without users."""
        at_once = max(1, 4_000_000 // max(self.positives.n_items, 1))
        recall, ndcg = 0.0, 0.0
        discounts = 1 / np.log2(np.arange(2, self._k + 2))
        ideal = np.concatenate([[0.0], np.cumsum(discounts)])
        n_relevant = self._relevant.counts()
        for start in range(0, len(self.users), at_once):
            rows = np.arange(start, min(start + at_once, len(self.users)))
            scores = scores_of(self.users[rows])
            hidden = self._masked.select(rows)
            scores[np.repeat(np.arange(len(rows)), hidden.counts()), hidden.indices] = -np.inf
            lists = top_k(scores, self._k)
            owners = np.repeat(rows, self._k)
            hits = self._relevant.contains(owners, np.where(lists == NO_ITEM, -1, lists).ravel()).reshape(lists.shape)
            recall += float((hits.sum(axis=1) / n_relevant[rows]).sum())
            ndcg += float((hits @ discounts / ideal[np.minimum(n_relevant[rows], self._k)]).sum())
        n = max(len(self.users), 1)
        return recall / n, ndcg / n


def of_listed_items(model: ItemItemModel) -> ItemItemModel:
    """The model whose cut keeps the neighbours of the items that are listed, not of those of a past.

    Args:
        model: with a matrix that is symmetric but for its cut.
    Source: Sarwar et al. 2001. On MovieLens it lists better, .066 of recall instead of .039 with 200 neighbours.
    """
    from scipy.sparse import csr_array

    assert model.neighbours is not None
    return ItemItemModel(model.n_items, csr_array(model.neighbours.T))


def first_values(grid: Grid) -> Settings:
    """The settings from which a grid is searched."""
    return {name: values[0] for name, values in grid.items()}


def best(grid: Grid, quality: Callable[[Settings], tuple[float, float]]) -> Settings:
    """The best settings of a grid, one setting at a time from the first value of each.

    Example:
        >>> best({"a": (1, 2), "b": (5, 6, 7)}, lambda s: (-abs(s["a"] - 2) - abs(s["b"] - 6), 0.0))
        {'a': 2, 'b': 6}
    """
    chosen = dict(first_values(grid))
    known = {tuple(chosen.values()): quality(chosen)}
    for _ in range(ROUNDS if len(grid) > 1 else 1):
        before = dict(chosen)
        for name, values in grid.items():
            tried = [{**chosen, name: value} for value in values]
            for settings in tried:
                if (key := tuple(settings.values())) not in known:
                    known[key] = quality(settings)
            chosen = max(tried, key=lambda settings: known[tuple(settings.values())])
        if chosen == before:
            break
    return chosen


def kept(rows: Csr, items: Ints) -> Csr:
    """Only these columns of a Boolean matrix, numbered anew; `items` ascending."""
    index = np.searchsorted(items, rows.indices)
    inside = items[np.minimum(index, len(items) - 1)] == rows.indices if len(items) else np.zeros(len(index), np.bool_)
    owners = np.repeat(np.arange(rows.n_rows), rows.counts())[inside]
    counts = np.bincount(owners, minlength=rows.n_rows)
    return Csr(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), index[inside])


def past_of(dataset: Dataset, items: Ints) -> tuple[Past, npt.NDArray[np.float64]]:
    """The past of all users on some items, and the age of each of its positives at the end of training, in days."""
    part = dataset.train
    liked = np.flatnonzero((part.target > 0) & np.isin(part.items, items))
    past = Past.of(
        part.users[liked], np.searchsorted(items, part.items[liked]), part.time[liked], n_users=dataset.n_users + 1
    )
    latest = np.zeros(dataset.n_users + 1)
    np.maximum.at(latest, part.users[liked], part.time[liked])
    owners = np.repeat(np.arange(dataset.n_users + 1), np.diff(past.indptr))
    return past, (part.time.max() - latest[owners]) / SECONDS_PER_DAY + past.ages_days
