"""What holds for every registered metric: its declaration, its bounds, independence of users, and a slow reference."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from evorec.config import QuantileKind
from evorec.errors import ConfigError, DataError
from evorec.metrics.cost import ModelCounts, Timing
from evorec.metrics.lists import AttackedLists, ListData, RecommendedLists
from evorec.metrics.logged_choices import ChosenRows, LoggedChoices, LoggedRows
from evorec.metrics.metric import METRICS, MeasuredValues, Metric, measure, metric
from evorec.metrics.task_rows import TaskPredictions, TaskRows

ROUNDING = 1e-12  # sums of some hundred float64 terms near 1, in another order
N_USERS, N_ITEMS, K = 60, 30, 5
RNG = np.random.default_rng(0)
EVERY = pytest.mark.parametrize("name", sorted(METRICS))


def random_lists(width: int) -> Any:
    return np.argsort(RNG.random((N_USERS, N_ITEMS)), axis=1)[:, :width]


CONTENT = RNG.normal(size=(N_ITEMS, 4))
LISTS = random_lists(K)
LISTS[::4, 3:] = -1  # short lists
LISTS[7] = -1
RELEVANT = (RNG.random((N_USERS, N_ITEMS)) < 0.15) | (np.arange(N_ITEMS) == np.arange(N_USERS)[:, None] % N_ITEMS)
COUNTS = RNG.integers(0, 4, N_ITEMS)
GROUPS = np.arange(N_USERS) % 3 - (np.arange(N_USERS) == 0)  # the first user has no group
DATA = ListData(
    csr_array(RELEVANT), COUNTS, CONTENT / np.linalg.norm(CONTENT, axis=1, keepdims=True), groups=np.sort(GROUPS)
)
RETRIEVED, IMPROBABLE, TARGETS = random_lists(12), RNG.integers(0, N_ITEMS, N_USERS), np.array([3, 8, 20])
N = 150
USERS, LABELS = RNG.integers(0, 12, N), (RNG.random(N) < 0.3).astype(np.float32)
NUMBERS, SPEND = RNG.lognormal(size=N).round(1), RNG.lognormal(size=N)
LABELS[::7] = NUMBERS[::7] = np.nan
SCORES = np.round(4 * (np.nan_to_num(LABELS) + np.nan_to_num(NUMBERS) / 9) + RNG.normal(size=N)) / 4  # with ties
CHOSEN = LoggedRows(USERS, n_users=12).better_half(SCORES)
# 3 steps, 4 forward and 7 extra MACs, 8 FLOPs for each of 5 + 6 updates, and so on in the order of the fields
SIZES = ModelCounts(**{name: 3 + i for i, name in enumerate(inspect.signature(ModelCounts).parameters)})
VALUES = {"auc/a": 0.5, "gauc/a": 0.9, "concordance/b": 0.75, "recall@5": 0.1}


def inputs(found: Metric) -> Any:
    """Random inputs of the metric's class."""
    kind: Any = "binary" if "binary" in found.kinds else found.kinds[0] if found.kinds else ""
    kind = QuantileKind(quantile=0.8) if kind == "quantile" else kind
    if found.of is TaskPredictions:
        labels = LABELS if kind == "binary" else NUMBERS
        rows = TaskRows.of(labels, USERS, task="a", kind=kind, unit=2.0)
        return TaskPredictions(SCORES[rows.rows], rows)
    if found.of is ChosenRows:
        sign = -1 if found.name.startswith("harm") else 1
        labels = LABELS if found.name.startswith("cost_per") else NUMBERS
        return ChosenRows(CHOSEN, LoggedChoices("a", kind, sign, labels, SPEND, LoggedRows(USERS, n_users=12)))
    return {
        RecommendedLists: lambda: RecommendedLists(LISTS, DATA, RETRIEVED, IMPROBABLE),
        AttackedLists: lambda: AttackedLists(LISTS, RETRIEVED[:, :K], TARGETS, DATA),
        MeasuredValues: lambda: MeasuredValues(VALUES),
        ModelCounts: lambda: SIZES,
        Timing: lambda: Timing(2.5, lambda: None),
    }[found.of]()


def hits_of(lists: Any) -> list[list[bool]]:
    return [[item >= 0 and bool(RELEVANT[user, item]) for item in row] for user, row in enumerate(lists.tolist())]


def mean_of(value: Callable[[Sequence[bool], int], float], lists: Any = LISTS) -> float:
    """Mean over users of a function of the hits and the number of relevant items."""
    return float(np.mean([value(hit, int(RELEVANT[user].sum())) for user, hit in enumerate(hits_of(lists))]))


def dcg(hit: Sequence[bool]) -> float:
    return sum(found / math.log2(rank + 1) for rank, found in enumerate(hit, start=1))


def slow_distance(row: Sequence[int]) -> float:
    pairs = list(combinations([item for item in row if item >= 0], 2))
    vectors = DATA.item_content
    return float(np.mean([1 - vectors[i] @ vectors[j] for i, j in pairs])) if pairs else 0.0


def slow_novelty(row: Sequence[int]) -> float:
    bits = [-math.log2((COUNTS[item] + 1) / (COUNTS.sum() + N_ITEMS)) for item in row if item >= 0]
    return float(np.mean(bits)) if bits else 0.0


def slow_cold() -> float:
    cold = COUNTS == 0
    shares = []
    for user, row in enumerate(LISTS.tolist()):
        wanted = set(np.flatnonzero(RELEVANT[user] & cold))
        if wanted:
            shares.append(len(wanted & set(row)) / len(wanted))
    return float(np.mean(shares))


def slow_gap() -> float:
    recall = [sum(hit) / RELEVANT[user].sum() for user, hit in enumerate(hits_of(LISTS))]
    means = [np.mean([own for own, group in zip(recall, DATA.groups, strict=True) if group == g]) for g in (1, 2)]
    return float(abs(means[0] - means[1]))  # group 0 has 19 users, and does not count


def slow_gini() -> float:
    counts = np.bincount(LISTS[LISTS >= 0], minlength=N_ITEMS)
    return float(1 - np.abs(counts[:, None] - counts).sum() / (2 * N_ITEMS * counts.sum()))


def slow_long_tail() -> float:
    head, running = set(), 0
    for item in sorted(range(N_ITEMS), key=lambda item: (-COUNTS[item], item)):
        running += COUNTS[item]
        if running <= 0.8 * COUNTS.sum():
            head.add(item)
    return float(np.mean([[item >= 0 and item not in head for item in row] for row in LISTS.tolist()]))


def slow_order(scores: Any, labels: Any) -> float:
    known = [i for i in range(len(labels)) if not math.isnan(labels[i])]
    pairs = [(i, j) for i, j in combinations(known, 2) if labels[i] != labels[j]]
    right = [0.5 + 0.5 * np.sign((scores[i] - scores[j]) * (labels[i] - labels[j])) for i, j in pairs]
    return float(np.mean(right))


def slow_gauc() -> float:
    total = weight = 0.0
    for user in range(12):
        rows = [row for row in range(N) if USERS[row] == user and not math.isnan(LABELS[row])]
        if len({LABELS[row] for row in rows}) == 2:
            total += len(rows) * slow_order(SCORES[rows], LABELS[rows])
            weight += len(rows)
    return total / weight


def errors() -> Any:
    return [2 * (y - s) for y, s in zip(NUMBERS, SCORES, strict=True) if not math.isnan(y)]  # 2 = the unit


def hit_rate_of_targets(lists: Any) -> float:
    return float(np.mean([[target in row for row in lists.tolist()] for target in TARGETS.tolist()]))


SLOW: dict[str, Callable[[], float]] = {
    "recall@k": lambda: mean_of(lambda hit, n: sum(hit) / n),
    "candidate_recall": lambda: mean_of(lambda hit, n: sum(hit) / n, RETRIEVED),
    "retrieval_recall@k": lambda: mean_of(lambda hit, n: sum(hit) / n, RETRIEVED[:, :K]),
    "precision@k": lambda: mean_of(lambda hit, n: sum(hit) / K),
    "hit_rate@k": lambda: mean_of(lambda hit, n: any(hit)),
    "mrr@k": lambda: mean_of(lambda hit, n: 1 / (1 + hit.index(True)) if any(hit) else 0.0),
    "ndcg@k": lambda: mean_of(lambda hit, n: dcg(hit) / dcg([True] * min(n, K))),
    "cold_start_recall@k": slow_cold,
    "intra_list_distance@k": lambda: float(np.mean([slow_distance(row) for row in LISTS.tolist()])),
    "novelty@k": lambda: float(np.mean([slow_novelty(row) for row in LISTS.tolist()])),
    "catalogue_coverage@k": lambda: len({item for row in LISTS.tolist() for item in row if item >= 0}) / N_ITEMS,
    "gini_diversity@k": slow_gini,
    "long_tail_share@k": slow_long_tail,
    "sparsity": lambda: sum(IMPROBABLE.tolist()) / (N_USERS * N_ITEMS),
    "group_gap@k": slow_gap,
    "attack_shift@k": lambda: hit_rate_of_targets(RETRIEVED[:, :K]) - hit_rate_of_targets(LISTS),
    "auc/<task>": lambda: slow_order(SCORES, LABELS),
    "concordance/<task>": lambda: slow_order(SCORES, NUMBERS),
    "gauc/<task>": slow_gauc,
    "logloss/<task>": lambda: float(
        np.mean([math.log1p(math.exp(-s if y else s)) for s, y in zip(SCORES, LABELS, strict=True) if y == y])
    ),
    "mae/<task>": lambda: float(np.mean([abs(e) for e in errors()])),
    "rmse/<task>": lambda: math.sqrt(np.mean([e * e for e in errors()])),
    "pinball/<task>": lambda: float(np.mean([0.8 * e if e > 0 else -0.2 * e for e in errors()])),
    "gain/<task>": lambda: float(np.nanmean([NUMBERS[row] for row in CHOSEN])),
    "harm/<task>": lambda: float(np.nanmean([NUMBERS[row] for row in CHOSEN])),
    "cost_per/<task>": lambda: sum(SPEND[CHOSEN]) / sum(LABELS[row] == 1 for row in CHOSEN),
    "accuracy": lambda: (0.5 + 0.75) / 2,
    "training_flops": lambda: 3 * (2 * (3 * 4 + 7) + 8 * 5 + 16 * 6) + 17,
    "inference_flops": lambda: 2 * (9 + 10 * 11 + 12 * 13 + 18),
    "parameters": lambda: 14 + 19,
    "model_bytes": lambda: 14 * 15 + 20,
    "train_seconds": lambda: 2.5,
}  # fmt: skip
BEYOND = {"intra_list_distance@k", "attack_shift@k"}
"""Metrics whose usual corners are not the limits of their range."""


def value_of(found: Metric, given: Any) -> float:
    (value,) = measure(given, [found]).values.values()
    return value


@EVERY
def test_a_metric_declares_what_tables_and_searches_need(name: str) -> None:
    found = METRICS[name]
    assert found.name == name
    assert re.fullmatch(r"[a-z_]+(@k|/<task>)?", name)
    assert found.text[0].islower() or found.text.startswith(("AUC", "1 - Gini"))
    assert found.function.__doc__, "its function says what it computes"
    assert bool(found.kinds) == name.endswith("/<task>")
    assert found.ideal is not None or found.corners is not None or found.log10, "a search finds its corners"


@EVERY
def test_a_metric_agrees_with_a_slow_loop_and_stays_in_its_range(name: str) -> None:
    found = METRICS[name]
    value = value_of(found, inputs(found))
    if name == "latency_ms":
        assert value > 0
        return
    if name in SLOW or found.function.__module__.startswith("evorec."):  # a plugin brings its own reference
        assert value == pytest.approx(SLOW[name](), rel=ROUNDING, abs=ROUNDING)
    if found.ideal is not None and found.worst is not None and name not in BEYOND and not name.startswith("logloss"):
        assert min(found.ideal, found.worst) <= value <= max(found.ideal, found.worst)


@EVERY
def test_a_metric_of_lists_with_a_value_per_user_is_independent_of_the_other_users(name: str) -> None:
    found = METRICS[name]
    if found.of is not RecommendedLists:
        return
    (whole,) = measure(inputs(found), [found]).per_user.values() or (None,)
    some = RNG.permutation(N_USERS)[:20]
    data = replace(DATA, relevant=csr_array(RELEVANT[some]), groups=None)
    if whole is not None:
        part = measure(RecommendedLists(LISTS[some], data, RETRIEVED[some], IMPROBABLE[some]), [found])
        assert [own.tolist() for own in part.per_user.values()] == [whole[some].tolist()]


DECLARED = {"of": RecommendedLists, "direction": "max", "ideal": 1.0, "worst": 0.0, "unit": "", "text": "share"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: ...}, f"metric 'half@k' does not declare {name}") for name in DECLARED),
        ({"colour": "red"}, "metric 'half@k' declares colour, which no metric has"),
        ({"direction": "up"}, "direction must be 'max' or 'min', got 'up'"),
        ({"worst": None}, "ideal and worst must be two numbers, or both None"),
        ({"worst": 2.0}, r"ideal must be better than worst, got 1\.0 and 2\.0"),
        ({"text": ""}, "text must describe the metric in a line"),
        ({"of": TaskPredictions}, "its function asks for lists; TaskPredictions has data, kind, labels, .* scores, "),
    ],
)
def test_a_half_declared_metric_is_refused_where_it_is_defined(changes: dict[str, Any], message: str) -> None:
    declared = {name: value for name, value in {**DECLARED, **changes}.items() if value is not ...}
    with pytest.raises(ConfigError, match=message):

        @metric("half@k", **declared)
        def half(lists: Any) -> float:
            return 0.5

    assert "half@k" not in METRICS


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros(3), "metric 'odd@k' must return a number or an array with a value per user"),
        (None, "metric 'odd@k' must return a number"),
        (ZeroDivisionError("of nothing"), r"metric 'odd@k' \(.*\) raised ZeroDivisionError: of nothing"),
    ],
)
def test_a_metric_that_fails_says_which_it_is(result: Any, message: str) -> None:
    def odd(lists: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    found = Metric("odd@k", odd, RecommendedLists, "max", 1.0, 0.0, "", "odd")
    with pytest.raises(DataError, match=message):
        measure(RecommendedLists(LISTS, DATA), [found])
