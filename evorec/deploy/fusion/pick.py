"""The choice among the formulas that `evorec.deploy.fusion.fuse.fuse` stored for a member."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evorec.archive.decide import pick
from evorec.deploy.fusion.formula import SIZE, Formula
from evorec.errors import ConfigError, RunError
from evorec.metrics.metric import Direction
from evorec.objectives import Metrics, Objective
from evorec.run.directory import RunDirectory


def pick_formula(run: RunDirectory, member: str, which: str, tasks: Sequence[str]) -> tuple[Formula, float]:
    """A stored formula and its weight of re-ranking.

    Args:
        run: the run, may be open read-only.
        member: key of a member with stored formulas.
        which: an id such as ``f3``, or a pick (`evorec.archive.decide`) by metrics on the validation half, e.g.
            ``best:ndcg@k, diversity>=0.6``.
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
    """The id that a text names: an id, or a pick; of equal formulas the smallest."""
    if which in rows:
        return which
    k, diversity = int(report["k"]), str(report["diversity"])
    front = [
        Objective(axis["metric"], axis["metric"], axis["direction"], "", axis["ideal"], axis["worst"])
        for axis in report["objectives"]
    ]
    more = []
    for metric in next(iter(rows.values())):
        ideal, worst = (1.0, 2.0) if metric == SIZE else (2.0, 1.0)  # a box that has no effect on a choice
        direction: Direction = "min" if metric == SIZE else "max"
        names = {metric.replace(f"@{k}", "@k"), *(("diversity", "diversity@k") if metric == diversity else ())}
        more += [Objective(name, metric, direction, "", ideal, worst) for name in names]
    order = sorted(rows, key=lambda name: (rows[name][SIZE], len(name), name))
    ranked = {f"{rank:06}": rows[name] for rank, name in enumerate(order)}  # a pick prefers the smallest of equal keys
    try:
        return order[int(pick(which, ranked, front, k, more=more))]
    except ConfigError as error:
        text = re.sub(r"(member|for) (\d{6})", lambda found: f"{found[1]} {order[int(found[2])]}", str(error))
        raise ConfigError(f"formula {which!r} is none of {', '.join(rows)}, and as a pick: {text}") from None
