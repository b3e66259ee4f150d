"""The formulas that `evorec.deploy.fusion.fused.fuse` stored for a member, and the choice of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from evorec.archive.decide import KNEE, pick
from evorec.archive.indicators import hypervolume_share, normalised
from evorec.archive.pareto import non_dominated
from evorec.deploy.fusion.formula import Formula
from evorec.errors import ConfigError, RunError
from evorec.objectives import Metrics, Objective
from evorec.run.directory import RunDirectory

SIZE: Final = "size"
"""The metric of a formula that is no metric of its lists."""
BEST: Final = "best:"


def best_of_front(rows: Sequence[Metrics], objectives: Sequence[Objective], keep: int) -> list[int]:
    """Places of at most `keep` rows that nothing dominates, one after the other the one that adds most hypervolume.

    Args:
        rows: N measured metric dictionaries.
        objectives: M objectives.
        keep: rows to choose; a smaller front is taken whole, in order.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> best_of_front([{"a": a, "b": b} for a, b in ((0.1, 0.9), (0.5, 0.5), (0.5, 0.4), (0.9, 0.2))], axes, 2)
        [1, 3]
    """
    left = np.flatnonzero(non_dominated(normalised(rows, objectives))).tolist()
    if len(left) <= keep:
        return left
    chosen: list[int] = []
    gains = {at: hypervolume_share([rows[at]], objectives) for at in left}  # upper bounds: a gain only shrinks
    total = 0.0
    while len(chosen) < keep:
        fresh: set[int] = set()
        while (best := max(gains, key=lambda at: (gains[at], -at))) not in fresh:
            gains[best] = hypervolume_share([rows[at] for at in (*chosen, best)], objectives) - total
            fresh.add(best)
        chosen.append(best)
        total += gains.pop(best)
    return chosen


def chosen_formula(run: RunDirectory, member: str, which: str, tasks: Sequence[str]) -> tuple[Formula, float]:
    """A stored formula and its weight of re-ranking.

    Args:
        run: the run, may be open read-only.
        member: key of a fused member.
        which: an id such as ``f3``; ``knee``; or ``best:METRIC``, the best value of a metric on the validation half,
            with conditions after commas, e.g. ``best:ndcg@k,diversity>=0.6``.
        tasks: names of the ranked tasks.
    Raises:
        RunError: the member was not fused, or the file is damaged.
        ConfigError: there is no such formula, or `which` cannot be read.
    """
    report = run.read_fusion(member)
    try:
        formulas = {str(row["id"]): row for row in report["formulas"]}
        row = formulas[_chosen_id(which, formulas, report)]
        weight = float(row["mmr"])
        if not 0 <= weight <= 1:
            raise ConfigError(f"mmr must be in 0..1, got {weight}")
        return Formula.parse(row["text"], tasks), weight
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"the formulas of member {member} in {run.path} are damaged ({error!r}); fuse the member again"
        ) from None


def _chosen_id(which: str, formulas: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    if which in formulas:
        return which
    rows: dict[str, Metrics] = {name: row["validation"] for name, row in formulas.items()}
    if which == KNEE:
        axes = [
            Objective(one["metric"], one["metric"], one["direction"], "", one["ideal"], one["worst"])
            for one in report["objectives"]
        ]
        return pick(KNEE, rows, axes, int(report["k"]))
    if not which.startswith(BEST):
        raise ConfigError(
            f"there is no formula {which!r}: it must be one of {', '.join(formulas)}, {KNEE}, or {BEST}METRIC with "
            f"conditions after commas, e.g. {BEST}ndcg@k,diversity>=0.6."
        )
    goal, *conditions = which.removeprefix(BEST).split(",")
    left = rows
    for text in conditions:
        left = _qualified(text, left, report)
    sign = 1 if goal.strip() == SIZE else -1
    metric = _known_metric(goal, rows, report)
    if not left:
        raise ConfigError(f"formula {which!r}: none of {len(rows)} formulas keeps {' and '.join(conditions)}.")
    return min(left, key=lambda name: (sign * left[name][metric], left[name][SIZE], len(name), name))


def _qualified(text: str, rows: Mapping[str, Metrics], report: Mapping[str, Any]) -> dict[str, Metrics]:
    for op in (">=", "<="):
        name, found, bound = text.partition(op)
        if found:
            metric = _known_metric(name, {one["id"]: one["validation"] for one in report["formulas"]}, report)
            try:
                limit = float(bound)
            except ValueError:
                raise ConfigError(f"condition {text!r} must end in a number, got {bound!r}.") from None
            above = op == ">="
            return {key: row for key, row in rows.items() if (row[metric] >= limit if above else row[metric] <= limit)}
    raise ConfigError(f"condition {text!r} must read METRIC>=NUMBER or METRIC<=NUMBER.")


def _known_metric(name: str, rows: Mapping[str, Metrics], report: Mapping[str, Any]) -> str:
    metric = measured_name(name, int(report["k"]), str(report["diversity"]))
    known = list(next(iter(rows.values())))
    if metric not in known:
        raise ConfigError(f"{name.strip()!r} was not measured for formulas; known: {', '.join(known)}.")
    return metric


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
