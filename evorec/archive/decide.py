"""Members of a front chosen by a short sentence.

``METRIC`` or ``best:METRIC`` is the best member in that metric, ``knee`` the best compromise; ``where A >= x and B <=
y``, or the same conditions after commas, restrict the choice. `choose` also accepts names of members: ``all`` of them,
or the beginning of a key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from evorec.archive.indicators import normalised
from evorec.config import TaskKind
from evorec.errors import ConfigError
from evorec.metrics.metric import Direction
from evorec.objectives import Constraint, Metrics, Objective, find_metric, in_full, parse_constraint, resolve

KNEE = "knee"
ALL = "all"
"""Every member of the archive."""
_SENTENCE = re.compile(r"\s*(?:best:\s*)?(?P<goal>[^\s,]+)(?:(?:\s+where\s+|\s*,\s*)(?P<conditions>\S.*?))?\s*")
_BETWEEN = re.compile(r"\s+and\s+|\s*,\s*")
_CONDITION = re.compile(r"\s*(?P<metric>[^\s<>=*]+)(?P<rest>.*)", re.DOTALL)
_KEY = re.compile(r"[0-9a-f]+")


def pick(text: str, members: Mapping[str, Metrics], objectives: Sequence[Objective], k: int) -> str:
    """The member that a sentence asks for; of equal members that with the smallest key.

    Args:
        text: ``METRIC`` or ``best:METRIC`` (its best value, up or down as the catalogue says) or ``knee``, then
            optionally conditions: ``where METRIC >= NUMBER and ...`` or ``,METRIC>=NUMBER,...``. A metric of lists may
            be written without its length, ``recall`` for ``recall@k``.
        members: measured metrics by key.
        objectives: M objectives; ``knee`` weighs them.
        k: length of the recommendation lists.
    Returns:
        A key of `members`.
    Raises:
        ConfigError: the sentence does not parse, a metric was not measured, or no member qualifies.
    Example:
        >>> members = {"a": {"accuracy": 0.8, "recall@20": 0.1}, "b": {"accuracy": 0.7, "recall@20": 0.2}}
        >>> pick("accuracy", members, (), 20), pick("best:accuracy,recall>=0.15", members, (), 20)
        ('a', 'b')
    """
    if not members:
        raise ConfigError(f"pick {text!r} needs a member to choose from, got an empty archive.")
    goal, conditions = _parsed(text, objectives, k)
    for metric in (*(condition.metric for condition in conditions), *(goal[:1] if goal else ())):
        for key, metrics in members.items():
            if metric not in metrics:
                raise ConfigError(f"pick {text!r}: {metric} was not measured for {key}; known: {', '.join(metrics)}.")
    keys = [
        key for key in sorted(members) if all(c.holds(members[key][c.metric]).all() for c in conditions)
    ]  # the first of equal members is chosen
    if not keys:
        ranges = {c.metric: [metrics[c.metric] for metrics in members.values()] for c in conditions}
        offers = ", ".join(f"their {name} is {min(found):.4g}..{max(found):.4g}" for name, found in ranges.items())
        raise ConfigError(f"pick {text!r}: none of {len(members)} members qualifies; {offers}.")
    if goal is not None:
        metric, direction = goal
        sign = -1.0 if direction == "max" else 1.0
        return min(keys, key=lambda key: sign * members[key][metric])
    # The knee: objectives are scaled to the range of the members (cost on its log scale), and the member farthest below
    # the plane through the corners has the smallest sum. Source: Das 1999, with axis-parallel extremes.
    points = normalised([members[key] for key in keys], objectives)
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    return keys[int(scaled.sum(axis=1).argmin())]


def choose(
    texts: Sequence[str], members: Mapping[str, Metrics], objectives: Sequence[Objective], k: int
) -> dict[str, str]:
    """The members that several texts ask for.

    Args:
        texts: sentences of `pick`; ``all``; a key, or a beginning that only a single key has.
        members, objectives, k: see `pick`.
    Returns:
        Member by pick, in the order of `texts`; a sentence is called as it was written, a member named by ``all`` or
        by its key is called by its key.
    Raises:
        ConfigError: see `pick`; or a beginning fits several members.
    Example:
        >>> members = {"0a": {"accuracy": 0.8}, "1b": {"accuracy": 0.7}}
        >>> choose(["best:accuracy", "1"], members, (), 20)
        {'best:accuracy': '0a', '1b': '1b'}
    """
    out: dict[str, str] = {}
    for text in texts:
        if text.strip() == ALL:
            if not members:
                raise ConfigError(f"pick {text!r} needs a member to choose from, got an empty archive.")
            out |= {key: key for key in members}
        elif (key := _named(text, members, objectives)) is not None:
            out[key] = key
        else:
            out[text] = pick(text, members, objectives, k)
    return out


def check_pick(
    text: str,
    objectives: Sequence[Objective],
    k: int,
    *,
    tasks: Mapping[str, TaskKind] | None = None,
    keys: Collection[str] = (),
) -> None:
    """Refuse a text that `choose` could never follow, before anything is searched or measured.

    Args:
        text, objectives, k: see `choose`.
        tasks: the ranked tasks and the kinds of their labels; None skips the check of task names.
        keys: of the members; before a search there are none, and a key is not a pick.
    Raises:
        ConfigError: it does not parse, or names a metric that does not exist or several members.
    """
    try:
        if text.strip() != ALL and _named(text, keys, objectives) is None:
            _parsed(text, objectives, k, tasks)
    except ConfigError as error:
        is_key = _KEY.fullmatch(text.strip()) and keys
        why = f"no member begins with {text!r}; there are {', '.join(sorted(keys))}; all means every member."
        matches = any(key.startswith(text.strip()) for key in keys)
        raise ConfigError(f"finalize.picks: {why if is_key and not matches else error}") from None


def _named(text: str, keys: Collection[str], objectives: Sequence[Objective]) -> str | None:
    """The member whose key is `text` or begins with it; None if `text` is not a key.

    Raises:
        ConfigError: several keys begin with it.
    """
    start = text.strip()
    if not start or start == KNEE or any(start in (axis.name, axis.metric) for axis in objectives):
        return None
    matches = [start] if start in keys else [key for key in keys if key.startswith(start)]
    if len(matches) > 1:
        raise ConfigError(f"pick {text!r} begins {len(matches)} members: {', '.join(matches)}; write more of it.")
    return matches[0] if matches else None


def _parsed(
    text: str, objectives: Sequence[Objective], k: int, tasks: Mapping[str, TaskKind] | None = None
) -> tuple[tuple[str, Direction] | None, list[Constraint]]:
    """Metric and direction of a sentence, None for the knee, and its conditions.

    The metric is that of an objective of the search, else any metric that is known.
    """
    found = _SENTENCE.fullmatch(text)
    if not found:
        raise ConfigError(
            f"pick must read METRIC or METRIC where METRIC >= NUMBER, got {text!r}; best:METRIC, knee and all are "
            "picks too, and conditions may follow commas."
        )
    parts = _BETWEEN.split(found["conditions"]) if found["conditions"] else []
    conditions = []
    for part in parts:
        if condition := _CONDITION.fullmatch(part):
            part = in_full(condition["metric"]) + condition["rest"]
        conditions.append(parse_constraint(part, k=k, baselines={}, tasks=tasks))
    goal = found["goal"]
    if goal == KNEE:
        return None, conditions
    for objective in objectives:
        if goal in (objective.name, objective.metric):
            return (objective.metric, objective.direction), conditions
    full = in_full(goal)
    return (resolve(full, k, tasks=tasks), find_metric(full).direction), conditions
