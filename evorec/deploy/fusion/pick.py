"""The choice among the formulas that `evorec.deploy.fusion.fuse.fuse` stored for a member."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from evorec.archive.decide import KNEE, pick
from evorec.deploy.fusion.formula import SIZE, Formula
from evorec.deploy.fusion.scorer import measured_name
from evorec.errors import ConfigError, RunError
from evorec.objectives import Metrics, Objective
from evorec.run.directory import RunDirectory

BEST: Final = "best:"
_CONDITION: Final = re.compile(r"([^<>=]+)(>=|<=)(.*)")


def pick_formula(run: RunDirectory, member: str, which: str, tasks: Sequence[str]) -> tuple[Formula, float]:
    """A stored formula and its weight of re-ranking.

    Args:
        run: the run, may be open read-only.
        member: key of a member with stored formulas.
        which: an id such as ``f3``; ``knee``; or ``best:METRIC``, the best value of a metric on the validation half,
            with conditions after commas, e.g. ``best:ndcg@k,diversity>=0.6``.
        tasks: names of the ranked tasks.
    Raises:
        RunError: the member has no stored formulas, or the file is damaged.
        ConfigError: the formula does not exist, or `which` cannot be parsed.
    """
    report = run.read_fusion(member)
    try:
        formulas = {str(row["id"]): row for row in report["formulas"]}
        row = formulas[_chosen_id(which, {name: row["validation"] for name, row in formulas.items()}, report)]
        weight = float(row["mmr"])
        if not 0 <= weight <= 1:
            raise ValueError(f"mmr must be in 0..1, got {weight}")
        return Formula.parse(row["text"], tasks), weight
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"the formulas of member {member} in {run.path} are damaged ({error!r}); fuse the member again"
        ) from None


def _chosen_id(which: str, rows: Mapping[str, Metrics], report: Mapping[str, Any]) -> str:
    if which in rows:
        return which
    if which == KNEE:
        axes = [
            Objective(axis["metric"], axis["metric"], axis["direction"], "", axis["ideal"], axis["worst"])
            for axis in report["objectives"]
        ]
        return pick(KNEE, rows, axes, int(report["k"]))
    if not which.startswith(BEST):
        raise ConfigError(
            f"formula {which!r} does not exist; choose {', '.join(rows)}, {KNEE}, or {BEST}METRIC with "
            f"conditions after commas, e.g. {BEST}ndcg@k,diversity>=0.6."
        )

    def measured(name: str) -> str:
        metric, known = measured_name(name, int(report["k"]), str(report["diversity"])), list(next(iter(rows.values())))
        if metric not in known:
            raise ConfigError(f"{name.strip()!r} was not measured for formulas; known: {', '.join(known)}.")
        return metric

    goal, *conditions = which.removeprefix(BEST).split(",")
    best, left = measured(goal), rows
    for text in conditions:
        if not (found := _CONDITION.fullmatch(text)):
            raise ConfigError(f"condition {text!r} must read METRIC>=NUMBER or METRIC<=NUMBER.")
        metric, sign = measured(found[1]), 1 if found[2] == ">=" else -1
        try:
            bound = sign * float(found[3])
        except ValueError:
            raise ConfigError(f"condition {text!r} must end in a number, got {found[3]!r}.") from None
        left = {name: row for name, row in left.items() if sign * row[metric] >= bound}
    if not left:
        raise ConfigError(f"formula {which!r}: none of {len(rows)} formulas satisfies {' and '.join(conditions)}.")
    direction = 1 if best == SIZE else -1
    return min(left, key=lambda name: (direction * left[name][best], left[name][SIZE], len(name), name))
