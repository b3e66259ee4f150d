"""What a run found, in three sentences: the gain over the baselines, the recommended pick, and its price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from evorec.archive.decide import SHORT, scaled
from evorec.archive.exchange import exchanges
from evorec.archive.naming import MemberName, member_names
from evorec.objectives import Objective
from evorec.report.record import RunRecord
from evorec.report.table import counted, show_metric

MOST_RATES: Final = 2
"""Exchange rates of the verdict; the sheet of a member has all."""


def names_of(record: RunRecord) -> dict[str, MemberName]:
    """Names of all members of a run; members that fresh seeds did not confirm have no rank."""
    eligible = {key: own for key, own in record.eligible.items() if all(o.metric in own for o in record.objectives)}
    others = [member.key for member in record.members if member.key not in eligible]
    return member_names(eligible, record.objectives, record.baselines, others=others)


def sentences(record: RunRecord, names: Mapping[str, MemberName]) -> list[str]:
    """The verdict; empty without a member.

    Args:
        record: a run, finished or not.
        names: of `names_of`.
    """
    recommended = next((key for key, own in names.items() if own.rank == 1), None)
    if recommended is None:
        return []
    metrics = record.eligible[recommended]
    figures = ", ".join(
        f"{axis.name} {show_metric(metrics[axis.metric])}{f' {axis.unit}' * bool(axis.unit)}"
        for axis in record.objectives
    )
    confirmed, n = record.confirmed, len(record.eligible)
    among = f" that hold with {counted(confirmed.n_seeds, 'fresh seed')}" if confirmed else ""
    found = [
        _gain(record, names),
        f"Recommended is the {called(recommended, names)}, the best compromise of the {counted(n, 'member')}{among}: "
        f"{figures}.",
    ]
    if rates := _best_rates(recommended, record):
        found.append(f"From there, {'; '.join(rates)}.")
    return found


def called(key: str, names: Mapping[str, MemberName]) -> str:
    """Name and key of a member, as texts show it."""
    return f"{names[key].name} ({key[:SHORT]})" if key in names else key[:SHORT]


def _best_rates(key: str, record: RunRecord) -> list[str]:
    """The exchanges that lose least, each objective scaled to the range of the front, in words, without neighbours."""
    members, axes = record.eligible, record.objectives
    found = exchanges(key, members, axes)
    points = scaled([members[other] for other in (key, *members)], axes)
    row = {other: points[number] for number, other in enumerate(members, start=1)}
    lost = {near.objective: float(np.maximum(row[near.member] - points[0], 0.0).sum()) for near in found}
    # "one more point of recall" before a step that is smaller than its unit, which begins with a number
    best = sorted(found, key=lambda near: (near.unit[0].isdigit(), lost[near.objective]))[:MOST_RATES]
    return [near.text.partition(f" ({near.member[:SHORT]}:")[0] for near in found if near in best]


def _gain(record: RunRecord, names: Mapping[str, MemberName]) -> str:
    """What improved over the strongest baseline and by how much, with the best figures that the run has."""
    tested = [(entry, *_hardest(entry)) for entry in (record.final or {}).get("picks", ()) if entry.get("against")]
    if tested:
        entry, name, found = max(tested, key=lambda one: float(one[2]["low"]))
        low, high, by = found["low"], found["high"], found["mean_difference"]
        member = called(entry["member"], names)
        if low > 0:
            verb = f"beats the strongest baseline, {name}, by {by:.4f}"
        elif high < 0:
            verb = f"stays behind the strongest baseline, {name}, by {-by:.4f}"
        else:
            verb = f"is not shown to differ from the strongest baseline, {name}: {by:+.4f}"
        return f"On the test, {member} {verb} {found['metric']} (95 % interval {low:+.4f} to {high:+.4f})."
    for axis, name, value in _strongest(record):
        key = min(record.eligible, key=lambda key: float(axis.minimised([record.eligible[key][axis.metric]])[0]))
        own = record.eligible[key][axis.metric]
        verb = "beats" if axis.minimised([own])[0] < axis.minimised([value])[0] else "does not beat"
        text = f"{called(key, names)} {verb} the strongest baseline, {name}, on {axis.name}: {show_metric(own)}"
        if (confirmed := record.confirmed) is not None and confirmed.n_seeds > 1:
            text += f" ± {confirmed.members[key].sds[axis.metric]:.2g} over {confirmed.n_seeds} fresh seeds"
            chosen = ""
        else:
            chosen = ", which also chose it"
        return (
            f"On validation{chosen}, {text} against {show_metric(value)}; the test, which gives an interval, was not "
            "opened."
        )
    return "No baseline was measured in an objective, so the run does not say what the search gained."


def _hardest(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The baseline that leaves a pick the least difference."""
    name = min(entry["against"], key=lambda name: float(entry["against"][name]["mean_difference"]))
    return name, entry["against"][name]


def _strongest(record: RunRecord) -> Iterator[tuple[Objective, str, float]]:
    """The strongest baseline, for objectives that are not a cost, those that most baselines have first."""
    found = []
    for axis in record.objectives:
        values = {name: own[axis.metric] for name, own in record.baselines.items() if axis.metric in own}
        if values and not axis.log10:
            best = min(values, key=lambda name: float(axis.minimised([values[name]])[0]))
            found.append((-len(values), axis, best, values[best]))
    yield from ((axis, name, value) for _, axis, name, value in sorted(found, key=lambda one: one[0]))
