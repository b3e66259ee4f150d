"""What the script of a page draws: members, other evaluations and progress of one or several runs, as plain JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from evorec.archive.decide import SHORT
from evorec.archive.exchange import exchanges, gaps
from evorec.archive.indicators import normalised
from evorec.archive.naming import MemberName
from evorec.archive.pareto import non_dominated
from evorec.config import RecommenderConfig
from evorec.energy import kwh, sources_text
from evorec.errors import ConfigError
from evorec.objectives import Metrics, Objective, find_metric
from evorec.report.record import Member, RunRecord
from evorec.report.table import show
from evorec.report.verdict import called
from evorec.run.directory import machines_text

STANDINGS: Mapping[str, str] = {
    "member": "confirmed with fresh seeds",
    "dominated": "dominated with fresh seeds",
    "infeasible": "breaks a constraint with fresh seeds",
    "failed": "a training with a fresh seed failed",
}
FIRST_METRICS = ("accuracy", "recall", "ndcg", "catalogue_coverage", "intra_list_distance")
"""Metrics that the sheet of a member shows first, after the objectives."""


def explorer_data(
    records: Sequence[RunRecord], names: Sequence[Mapping[str, MemberName]], colours: Sequence[int] = (0,)
) -> dict[str, Any]:
    """The members of one or several runs, with everything that is shown about them.

    Args:
        records: runs with the same objectives.
        names: of the members of each run, of `evorec.report.verdict.names_of`.
        colours: number of the colour of each run; a single run colours its members by their roles.
    """
    first = records[0]
    several = len(records) > 1
    members = [
        one
        for index, (record, own) in enumerate(zip(records, names, strict=True))
        for one in _members(record, own, index, several=several)
    ]
    if several:
        _mark_common_front(members, first.objectives)
    return {
        "objectives": [
            {
                "name": axis.name,
                "metric": axis.metric,
                "unit": axis.unit,
                "max": axis.direction == "max",
                "log": axis.log10,
            }
            for axis in first.objectives
        ],
        "directions": _directions(records),
        "runs": [
            {
                "name": record.shown.name,
                "path": str(record.shown),
                "colour": colour,
                "card": card_lines(record),
                "default": {name: show(value) for name, value in record.default.items()},
            }
            for record, colour in zip(records, colours, strict=True)
        ],
        "members": members,
        "baselines": [
            {"name": name, "values": _rounded(values)} for name, values in first.baselines.items()
        ],
        "ensembles": [
            {"name": one.key, "values": _rounded(one.metrics)} for record in records for one in record.ensembles
        ],
        "cloud": _cloud(records),
        "gaps": [] if several else _gaps(first, names[0]),
    }  # fmt: skip


def progress_data(record: RunRecord) -> dict[str, Any]:
    """Hypervolume, its forecast, costs and losses of each generation, and how well early figures predict later ones."""
    n = len(record.hypervolume)
    by_generation: dict[int, Counter[str]] = {}
    flops: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    for found in record.evaluations:
        fate = "failed" if found.metrics is None else f"dropped at step {found.rung}" if found.dropped else "trained"
        by_generation.setdefault(found.generation, Counter())[fate] += 1
        flops[found.generation] += int((found.metrics or {}).get("training_flops", 0.0))
        seconds[found.generation] += found.seconds  # type: ignore[assignment]
    generations = sorted(by_generation)
    fates = dict.fromkeys(fate for generation in generations for fate in by_generation[generation])
    clock = list(record.seconds) if len(record.seconds) == n else list(accumulate(seconds[g] for g in generations))
    forecast = [record.surrogate.get(generation, {}).get("hypervolume") for generation in range(1, n + 1)]
    return {
        "hypervolume": [_round(share) for share in record.hypervolume],
        "flops": list(accumulate(flops[generation] for generation in generations))[:n],
        "seconds": [_round(second) for second in clock[:n]],
        "forecast": forecast,
        "generations": generations,
        "fates": {
            fate: [by_generation[generation][fate] for generation in generations]
            for fate in sorted(fates, key=lambda fate: (fate != "trained", fate == "failed", len(fate), fate))
        },
    }


def early_data(record: RunRecord) -> dict[str, Any]:
    """Pairs of an earlier and a later value of the same genome, as groups with a title and a text for each axis."""
    final = {row.key: row.metrics for row in record.evaluations if row.metrics is not None and not row.dropped}
    claimed = {member.key: member.metrics for member in record.members}
    tested = {entry["member"]: _means(entry["test"]) for entry in (record.final or {}).get("picks", ())}
    found = [
        _pairs(record, f"Step {steps} against the end", f"after {steps} steps", "at the end", passed, final)
        for steps, passed in sorted(record.rungs.items())
    ]
    inherited, scratch = "with inherited weights", "from scratch"
    found.append(_pairs(record, "Inherited weights", inherited, scratch, record.inherited, claimed))
    if (confirmed := record.confirmed) is not None and confirmed.depends_on_seed:
        means = {key: member.means for key, member in confirmed.members.items()}
        about = f"mean of {confirmed.n_seeds} fresh seeds" if confirmed.n_seeds > 1 else "with a fresh seed"
        found.append(_pairs(record, "Search against fresh seeds", "in the search", about, claimed, means))
    found.append(_pairs(record, "Search against test", "in the search, on validation", "on the test", claimed, tested))
    return {"groups": [one for one in found if one["points"]]}


def memory_data(record: RunRecord) -> dict[str, Any]:
    """What earlier searches predicted before the first training, and what was measured."""
    predicted = record.surrogate.get(1, {}).get("predicted", {})
    expected = {
        key: {axis.metric: value for axis, value in zip(record.objectives, values, strict=True)}
        for key, values in predicted.items()
    }
    final = {row.key: row.metrics for row in record.evaluations if row.metrics is not None and not row.dropped}
    one = _pairs(record, "Prediction against measurement", "predicted", "measured", expected, final)
    return {"groups": [one] if one["points"] else []}


def confirmed_data(record: RunRecord) -> dict[str, Any]:
    """Each member as claimed, with fresh seeds, and on the test; a part is empty for members that lack it."""
    tested = {entry["member"]: entry for entry in (record.final or {}).get("picks", ())}
    confirmed = record.confirmed.members if record.confirmed is not None else {}
    rows = []
    for member in record.members:
        own, test = confirmed.get(member.key), tested.get(member.key)
        rows.append(
            {
                "id": member.key,
                "claimed": _rounded(_objectives(record, member.metrics)),
                "fresh": _rounded(_objectives(record, own.means)) if own else {},
                "standing": own.standing if own else "",
                "test": _rounded(_objectives(record, _means(test["test"]))) if test else {},
            }
        )
    return {"rows": rows, "seeds": record.confirmed.n_seeds if record.confirmed else 0}


def card_lines(record: RunRecord) -> list[str]:
    """The model card of the members of a run: purpose, data and limits; a sentence each."""
    facts, config = record.config.facts(), record.config
    goals = ", ".join(f"{axis.name} ({'high' if axis.direction == 'max' else 'low'})" for axis in record.objectives)
    lines = [f"Purpose: a trade-off between {goals} in problem {config.problem_name}."]
    if "tasks" in facts:
        lines.append(f"Tasks: {facts['tasks']}.")
    if record.data:
        amounts = ", ".join(f"{value:,.0f} {name}" for name, value in record.data.items())
        lines.append(f"Data: {facts.get('data', config.problem_name)}; {amounts}; SHA-256 {record.data_sha256[:12]}.")
    if "each candidate" in facts:
        lines.append(f"Training in the search: {facts['each candidate']}.")
    if record.memory:
        lines.append(f"The search started from {record.memory}.")
    if text := machines_text(record.machines):
        lines.append(text)
    if isinstance(config, RecommenderConfig):
        lines.append("The folder that the export writes has the whole model card, with its checks and limits.")
    return lines


def _members(record: RunRecord, names: Mapping[str, MemberName], index: int, *, several: bool) -> list[dict[str, Any]]:
    by_key: dict[str, Member] = {member.key: member for member in record.members}
    confirmed = record.confirmed.members if record.confirmed is not None else {}
    final = {entry["member"]: entry for entry in (record.final or {}).get("picks", ())}
    has_export = isinstance(record.config, RecommenderConfig)
    rows = []
    for key, name in names.items():
        member, fresh, test = by_key[key], confirmed.get(key), final.get(key)
        values = fresh.means if fresh is not None and fresh.means else member.metrics
        joules, rates = record.energy.get(key), []
        if name.rank is not None and not several:
            for near in exchanges(key, record.eligible, record.objectives):
                its = near.text.replace(f"({near.member[:SHORT]}:", f"({called(near.member, names)}:")
                rates.append({"text": its, "to": near.member})
        rows.append(
            {
                "id": f"{index}:{key}" if several else key,
                "key": key,
                "run": index,
                "name": f"{index + 1} {name.name}" if several else name.name,
                "roles": list(name.roles),
                "rank": name.rank,
                "standing": fresh.standing if fresh else "",
                "status": STANDINGS[fresh.standing] if fresh and record.confirmed and record.confirmed.depends_on_seed
                else "",
                "values": _rounded(values),
                "sds": _rounded(fresh.sds) if fresh and record.confirmed and record.confirmed.n_seeds > 1 else {},
                "claimed": _rounded(member.metrics) if fresh and fresh.means else {},
                "test": _test(test) if test else {},
                "rates": rates,
                "genes": {gene: show(value) for gene, value in member.spec.items()},
                "energy": f"{kwh(joules):.2g} kWh ({sources_text(joules)})" if joules else "",
                "command": shlex.join(["evorec", "export", str(record.shown), key[:SHORT]]) if has_export else "",
            }
        )  # fmt: skip
    return rows


def _mark_common_front(members: Sequence[dict[str, Any]], objectives: Sequence[Objective]) -> None:
    """Take the rank of members that a member of another run dominates."""
    ranked = [one for one in members if one["rank"] is not None]
    best = non_dominated(normalised([one["values"] for one in ranked], objectives), keep_equal=True)
    for one, is_best in zip(ranked, best, strict=True):
        if not is_best:
            one["rank"], one["status"] = None, "dominated by another run"


def _test(entry: Mapping[str, Any]) -> dict[str, Any]:
    """By metric the mean over seeds on the test, its spread, and the interval of the shipped model."""
    intervals = entry.get("interval", {})
    return {
        name: {
            "mean": _round(found["mean"]),
            "sd": _round(found["sd"]),
            **(
                {
                    "shipped": _round(entry["shipped"][name]),
                    "low": _round(intervals[name]["low"]),
                    "high": _round(intervals[name]["high"]),
                }
                if name in intervals
                else {}
            ),
        }
        for name, found in entry["test"].items()
    }


def _means(test: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: found["mean"] for name, found in test.items()}


def _objectives(record: RunRecord, values: Metrics) -> dict[str, float]:
    return {axis.metric: values[axis.metric] for axis in record.objectives if axis.metric in values}


def _pairs(
    record: RunRecord, title: str, x: str, y: str, early: Mapping[str, Metrics], late: Mapping[str, Metrics | None]
) -> dict[str, Any]:
    """Values of the same genomes in two tables, by objective; objectives that never differ are left out."""
    from evorec.search.surrogate.gaussian_process import rank_correlation

    points = []
    for axis in record.objectives:
        keys = [key for key in early if axis.metric in early[key] and axis.metric in (late.get(key) or {})]
        pairs = [(early[key][axis.metric], (late[key] or {})[axis.metric]) for key in keys]
        if not keys or all(a == b for a, b in pairs):
            continue
        correlation = rank_correlation(*np.array(pairs).T) if len(pairs) > 2 else None
        points.append(
            {
                "metric": axis.metric,
                "keys": keys,
                "x": [_round(a) for a, _ in pairs],
                "y": [_round(b) for _, b in pairs],
                "correlation": None if correlation is None else _round(correlation),
            }
        )
    return {"title": title, "x": x, "y": y, "points": points}


def _cloud(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Evaluations outside of the fronts that were trained to their end: keys, and a list of values per objective."""
    found = [
        (row.key, row.metrics)
        for record in records
        for members in [{member.key for member in record.members}]
        for row in record.finished
        if row.metrics is not None and row.key not in members
    ]
    values = {
        axis.metric: [_round(row[axis.metric]) if axis.metric in row else None for _, row in found]
        for axis in records[0].objectives
    }
    return {"keys": [key[:SHORT] for key, _ in found], "values": values}


def _gaps(record: RunRecord, names: Mapping[str, MemberName]) -> list[str]:
    found = []
    for gap in gaps(record.eligible, record.objectives) if len(record.eligible) > 2 else ():
        text = gap.text
        for key in gap.members:
            text = text.replace(f"({key[:SHORT]})", f"({called(key, names).replace(' (', ', ').rstrip(')')})")
        found.append(text)
    return found


def _directions(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Whether high values of each measured metric are better, objectives and well-known metrics first."""
    measured = dict.fromkeys(key for record in records for member in record.members for key in member.metrics)
    goals = [axis.metric for axis in records[0].objectives]

    def rank(name: str) -> tuple[int, int]:
        if name in goals:
            return 0, goals.index(name)
        for number, start in enumerate(FIRST_METRICS):
            if name.startswith(start):
                return 1, number
        return 2, 0

    found = {}
    for name in sorted(measured, key=rank):
        own = next((axis for axis in records[0].objectives if axis.metric == name), None)
        if own is not None:
            found[name] = {"max": own.direction == "max", "unit": own.unit}
            continue
        try:
            known = find_metric(name)
            found[name] = {"max": known.direction == "max", "unit": known.unit}
        except ConfigError:  # of a problem, without a declared direction
            found[name] = {"max": None, "unit": ""}
    return found


def _rounded(values: Metrics) -> dict[str, float]:
    return {name: _round(value) for name, value in values.items()}


def _round(value: float) -> float:
    """Six digits: more than any figure shows, and a small page."""
    return float(f"{value:.6g}")
