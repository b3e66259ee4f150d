"""Popularity, ItemKNN and EASE: the baselines of a searched model, measured on the same users and by the same code.

A fitted baseline is a function from users to scores. All learn from the training positives of the target task only and
are exact, without a seed. Their settings are chosen on validation (`evorec.models.tuning`), as those of members are.

* ``popularity``: the number of users of an item.
* ``recent_popularity``: the same, each user counted less with age. Setting: half-life.
* ``item_knn``: similarity to the user's items. Settings: shrinkage, norm of users, neighbours.
* ``ease``: the linear model of items that best rebuilds the users' items. Setting: l2.
* ``fading_knn``: similarity to a past that fades, plus how often an item comes directly after an item of it. Settings:
  decay per step back, weight of the next item, shrinkage, norm of users.

Items that resemble none of a user's come after the others in the order of popularity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Csr, Dataset
from evorec.data.held_out import HeldOut, masked_items
from evorec.data.pasts import latest_first
from evorec.data.tables import SECONDS_PER_DAY
from evorec.metrics.metric import Measurements
from evorec.metrics.top_items import top_k
from evorec.models.item_item import ALL, ITEM_ITEMS, Positives, fit_item_item, with_defaults
from evorec.models.tuning import EASE, FADING_KNN, KNN, Settings, Tuning, first_values, of_listed_items

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
SettingsOf = Mapping[str, Settings]
"""Settings by baseline."""
Scorer = Callable[[Ints], Float32]
"""From users, int64 ``(B,)``, to a new array of scores, float32 ``(B, I)``; higher is better."""

ITEM_ITEM: Final = {"item_knn": "knn", "ease": "ease", "fading_knn": "knn"}
"""Baselines that are item-item methods, with the kind of their matrix (`evorec.models.item_item`)."""
NAMES: Final = ("popularity", "recent_popularity", *ITEM_ITEM)
DEFAULT_SETTINGS: Final[SettingsOf] = {
    "recent_popularity": {"half_life_days": 7.0},
    "item_knn": first_values(KNN),
    "ease": first_values(EASE),
    "fading_knn": first_values(FADING_KNN),
}
"""Settings where none are chosen. EASE: by validation recall a compromise of KuaiRand, best at 1000, and MovieLens, at
50."""
CUTS: Final = (1000, 200)
"""Neighbours that are kept of each item where memory does not allow more."""
SCORES_AT_ONCE = 8_000_000
"""Scores held in memory at a time, 32 MB in float32."""
SCORE_BYTES = 64
"""Of a score while lists are cut, with its copies."""


class Baselines:
    """The baselines of a held-out part, each fitted on the training positives when it is first asked for.

    Args:
        held_out: rows and users that they are measured on.
        settings: by baseline; those that are missing are `DEFAULT_SETTINGS`. ``None`` = chosen on these users, which
            must be those of validation (`evorec.models.tuning`).
        budget_bytes: memory that a baseline may take; ``None`` = any. It changes no list.

    Attributes:
        skipped: the reason for each baseline that cannot be computed, in words that follow its name.
    """

    def __init__(
        self, held_out: HeldOut, *, settings: SettingsOf | None = None, budget_bytes: int | None = None
    ) -> None:
        self._held_out, self._budget_bytes = held_out, budget_bytes
        self._tuning = Tuning(held_out) if settings is None else None
        self._settings = {**DEFAULT_SETTINGS, **settings} if settings is not None else {}
        self.skipped = skipped_baselines(held_out.dataset, budget_bytes)
        self._lists: dict[str, Ints] = {}
        self._measured: dict[str, Measurements] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the baselines that can be computed."""
        return tuple(name for name in NAMES if name not in self.skipped)

    @property
    def settings(self) -> dict[str, Mapping[str, float]]:
        """Settings of every baseline that has any."""
        return {name: found for name in self.names if (found := self.settings_of(name))}

    def settings_of(self, name: str) -> Mapping[str, float]:
        """Settings of a baseline."""
        if name not in self._settings:
            self._settings[name] = self._tuning.settings_of(name) if self._tuning else {}
        return self._settings[name]

    @property
    def measured(self) -> dict[str, Measurements]:
        """Metrics of every baseline; values that are not finite are left out."""
        return {name: self.measure(name) for name in self.names}

    def measure(self, name: str) -> Measurements:
        """Metrics of a baseline, without values that are not finite."""
        if name not in self._measured:
            found = self._held_out.measure_lists(self.lists(name))
            finite = {key: value for key, value in found.values.items() if math.isfinite(value)}
            self._measured[name] = Measurements(finite, found.per_user)
        return self._measured[name]

    def lists(self, name: str) -> Ints:
        """Recommendation lists of a baseline for the users of the held-out part, ``(U, K)``."""
        if name not in self._lists:
            held_out = self._held_out
            masked = masked_items(held_out.dataset, held_out.config)
            self._lists[name] = self.lists_on(held_out.dataset, name, held_out.users.ids, masked=masked)
        return self._lists[name]

    def lists_on(self, dataset: Dataset, name: str, users: Ints, *, masked: Csr) -> Ints:
        """Lists of a baseline that is fitted with the same settings on other data, e.g. under attack.

        Args:
            dataset: whose training positives it is fitted on.
            name: of the baseline.
            users: of that data set, int64 ``(B,)``.
            masked: per user id of that data set, the items that are never listed.
        Returns:
            ``(B, K)``; a user without a training positive gets the popular items.
        """
        n_items, settings = dataset.n_items, self.settings_of(name)
        if name in ITEM_ITEM:
            scorer = item_item(name, dataset, settings, budget_bytes=self._budget_bytes)
        elif name == "recent_popularity":
            scorer = recent_popularity(dataset, half_life_days=settings["half_life_days"])
        else:
            scorer = popularity(dataset.history, n_items)
        popular = popularity(dataset.history, n_items)

        def score(users: Ints) -> Float32:
            scores, fallback = scorer(users), popular(users)
            unknown = dataset.history.counts()[users] == 0
            scores[unknown] = fallback[unknown]
            # In [-1, 0): below all similarities, which are > 0; scores of EASE have either sign and are left alone.
            return np.where(scores == 0, -1 / (1 + fallback), scores) if ITEM_ITEM.get(name) == "knn" else scores

        k, at_once = self._held_out.config.k, scores_at_once(self._budget_bytes)
        return baseline_lists(score, users, k, masked=masked, n_items=n_items, at_once=at_once)


def skipped_baselines(dataset: Dataset, budget_bytes: int | None = None) -> dict[str, str]:
    """The baselines that cannot be computed, each with the reason, in words that follow its name.

    Args:
        dataset: encoded training data.
        budget_bytes: memory that a baseline may take; ``None`` = any.
    """
    skipped = oversized(dataset, budget_bytes)
    if dataset.times != "seconds":
        skipped["recent_popularity"] = "the log has no times"
    if dataset.times == "none":
        skipped["fading_knn"] = "the log has no order"
    return skipped


def oversized(dataset: Dataset, budget_bytes: int | None = None) -> dict[str, str]:
    """The baselines for which memory is too small, each with the reason, in words that follow its name."""
    if budget_bytes is None:
        return {}
    positives, room = Positives.of(dataset), matrix_room(budget_bytes)
    needs = {name: matrix_bytes(name, positives, {"neighbours": CUTS[-1]}) for name in ITEM_ITEM}
    return {
        name: f"its matrix takes {need / 2**30:.2g} GiB, and the memory of the run leaves {room / 2**30:.2g} GiB; "
        "raise run.memory_gib to have it"
        for name, need in needs.items()
        if need > room
    }


def matrix_bytes(name: str, positives: Positives, settings: Settings) -> int:
    """Memory that the matrix of an item-item baseline takes while it is computed."""
    return ITEM_ITEMS[ITEM_ITEM[name]].fit_bytes(positives, with_defaults({**DEFAULT_SETTINGS[name], **settings}))


def matrix_room(budget_bytes: int) -> int:
    """The part of a budget that scores leave to a matrix."""
    return budget_bytes - SCORE_BYTES * scores_at_once(budget_bytes)


def scores_at_once(budget_bytes: int | None) -> int:
    """Scores that fit half of a budget, at most `SCORES_AT_ONCE`.

    Example:
        >>> scores_at_once(None), scores_at_once(2**28)
        (8000000, 2097152)
    """
    return SCORES_AT_ONCE if budget_bytes is None else min(SCORES_AT_ONCE, budget_bytes // (2 * SCORE_BYTES))


def baseline_lists(
    scorer: Scorer, users: Ints, k: int, *, masked: Csr, n_items: int, at_once: int = SCORES_AT_ONCE
) -> Ints:
    """Recommendation lists of a baseline; equal scores are ordered by item id.

    Args:
        scorer: from `popularity`, `recent_popularity` or `item_item`.
        users: int64 ``(B,)``.
        k: length of the lists.
        masked: per user, the items that are never listed.
        n_items: size of the catalogue, I.
        at_once: scores held in memory at a time; it changes no list.
    Returns:
        int64 ``(B, k)``, best first, -1 where no item is left.
    Cost: O(B I), and that of the scores; a few users at a time.
    """
    lists = [np.empty((0, k), dtype=np.int64)]
    chunk = _rows_at_once(n_items, at_once)
    for start in range(0, len(users), chunk):
        some = users[start : start + chunk]
        scores = scorer(some)
        hidden = masked.select(some)
        scores[np.repeat(np.arange(len(some)), hidden.counts()), hidden.indices] = -np.inf
        lists.append(top_k(scores, k))
    return np.concatenate(lists)


def popularity(history: Csr, n_items: int) -> Scorer:
    """Score of an item: the number of users with a training positive on it; the same for all users.

    Args:
        history: training positives per user.
        n_items: size of the catalogue, I.
    Source: Cremonesi et al. 2010 (TopPop). Cost: O(nnz + I).
    Example:
        >>> history = Csr.from_pairs(np.array([0, 1, 1]), np.array([2, 2, 0]), n_rows=2)
        >>> popularity(history, n_items=3)(np.array([0]))
        array([[1., 0., 2.]], dtype=float32)
    """
    counts = np.bincount(history.indices, minlength=n_items).astype(np.float32)
    return lambda users: np.tile(counts, (len(users), 1))


def recent_popularity(dataset: Dataset, *, half_life_days: float) -> Scorer:
    """Score of an item: the number of users with a training positive on it, of which each counts less with its age.

    Args:
        dataset: with times in seconds; a repeated pair counts once, at its latest time.
        half_life_days: age before the end of the training part at which a positive counts half, > 0.
    Source: Ji et al. 2020 (SIGIR), popularity of the last interval, as an exponential mean. Cost: O(N log N + I).
    """
    part = dataset.train
    liked = np.flatnonzero(part.target > 0)
    liked = liked[latest_first(part.users[liked], part.items[liked], part.time[liked])]
    ages = (part.time.max() - part.time[liked]) / SECONDS_PER_DAY
    counts = np.bincount(part.items[liked], weights=np.exp2(-ages / half_life_days), minlength=dataset.n_items)
    counts = counts.astype(np.float32)
    return lambda users: np.tile(counts, (len(users), 1))


def item_item(name: str, dataset: Dataset, settings: Settings, *, budget_bytes: int | None = None) -> Scorer:
    """Scores of an item-item baseline, ``p W`` with the user's past p; see `evorec.models.item_item`.

    Args:
        name: a name of `ITEM_ITEM`.
        dataset: whose training positives it is fitted on.
        settings: of the matrix and of the past; where memory does not allow all neighbours, `CUTS` are kept.
        budget_bytes: memory that it may take; ``None`` = any.
    Raises:
        DataError: even the smallest matrix takes more memory, or a setting is out of range.
    Source: Sarwar et al. 2001 (ItemKNN), Steck 2019 (EASE).
    """
    positives, room = Positives.of(dataset), None if budget_bytes is None else matrix_room(budget_bytes)
    cuts = [settings.get("neighbours", ALL)]
    cuts += [cut for cut in CUTS if cuts[0] == ALL or cut < cuts[0]]
    for cut in cuts:
        if room is None or matrix_bytes(name, positives, {"neighbours": cut}) <= room:
            break
    model = fit_item_item(ITEM_ITEM[name], positives, {**settings, "neighbours": cut}, budget_bytes=room)
    if name == "item_knn":
        model = of_listed_items(model)
    past = dataset.past.faded(dataset.n_items, decay=settings.get("past_decay", 1.0))
    return lambda users: model.scores(past[users])


def _rows_at_once(n_items: int, at_once: int) -> int:
    return max(1, at_once // n_items)
