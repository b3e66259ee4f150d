"""Tables of a run: the front, genes, failures, dropped evaluations and settings, and the verdict in words."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from evorec.archive.confirmed import ConfirmedMember
from evorec.archive.ensemble import PREFIX
from evorec.archive.indicators import hypervolume_share, normalised
from evorec.archive.pareto import bounded
from evorec.energy import ESTIMATE, kwh, sources_text, total
from evorec.errors import ConfigError
from evorec.report.record import UNFINISHED, RunRecord
from evorec.report.table import MISSING, Column, Row, Table, counted, show_metric
from evorec.run.directory import machines_text

STANDING = Column("standing", title="with fresh\nseeds")
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)


def front_table(record: RunRecord, sort: str | None = None, most: int | None = None) -> Table:
    """The front, the ensembles of its members and the baselines on validation data, best first in the column sorted by.

    Args:
        record: the run.
        sort: a metric of the table; None = the first objective.
        most: members to show, which cover the front (`evorec.archive.pareto.bounded`); None = all.
    Raises:
        ConfigError: the table has no such column, or `most` is below the number of objectives.
    """
    columns = record.columns
    chosen = _find(record, sort) if sort else columns[0]
    by_value = sorted(record.baselines.items(), key=lambda pair: (_loss(chosen, pair[1].get(chosen.key)), pair[0]))
    members = sorted(record.members, key=lambda member: (_loss(chosen, member.metrics.get(chosen.key)), member.key))
    title = "Front on validation data"
    if most is not None and len(members) > most:
        if most < len(record.objectives):
            n = len(record.objectives)
            raise ConfigError(f"--most must be at least {n}, the best member of each objective, got {most}.")
        kept, _ = bounded(normalised([member.metrics for member in members], record.objectives), most)
        title += f": {len(kept)} of {len(members)} members"
        members = [members[row] for row in kept]
    shown = [(member.key, member.metrics, "member") for member in members]
    if members and record.ensembles:
        title += f", with {counted(len(record.ensembles), 'ensemble')} ({PREFIX}…)"
        shown += [(ensemble.key, ensemble.metrics, "ensemble") for ensemble in record.ensembles]
        shown.sort(key=lambda row: (_loss(chosen, row[1].get(chosen.key)), row[0]))
    if not members:
        shown = [(near.key, near.metrics, "infeasible") for near in record.least_infeasible]
        title = "No member" + (": the evaluations closest to the constraints" if shown else "")
    shown += [(name, metrics, "baseline") for name, metrics in by_value]
    rows = [Row(name, tuple(metrics.get(column.key) for column in columns), kind) for name, metrics, kind in shown]
    if (confirmed := record.confirmed) is not None and confirmed.depends_on_seed:
        columns += (STANDING,)
        standing = {key: member.standing for key, member in confirmed.members.items()}
        rows = [replace(row, values=(*row.values, standing.get(row.name))) for row in rows]
    return Table(title, "member", columns, tuple(rows))


def with_energy(record: RunRecord, front: Table) -> Table:
    """The table of `front_table` with the energy of each training, if the run knows it; it differs in equal runs."""
    if not any(record.energy.get(row.name) for row in front.rows):
        return front
    is_estimate = any(ESTIMATE in joules for joules in record.energy.values())
    title = f"energy\n{'estimated' if is_estimate else 'measured'}"
    used = {key: kwh(joules) for key, joules in record.energy.items() if joules}
    return replace(
        front,
        columns=(*front.columns, Column("energy_kwh", "kWh", title=title, numbers="digits")),
        rows=tuple(replace(row, values=(*row.values, used.get(row.name))) for row in front.rows),
    )


def confirmed_table(record: RunRecord, front: Table) -> Table | None:
    """Of each member what the search claimed and, below, its mean over fresh seeds; None without fresh seeds.

    The columns are objectives and constraints that depend on the seed.

    Args:
        record: the run.
        front: of `front_table`, with the members to show.
    """
    confirmed = record.confirmed
    if confirmed is None or not confirmed.depends_on_seed:
        return None
    decisive = {o.metric for o in record.objectives} | {constraint.metric for constraint in record.constraints}
    columns = [
        column
        for column in record.columns
        if column.key in decisive and any(_moves(member, column.key) for member in confirmed.members.values())
    ]

    def cell(member: ConfirmedMember, key: str) -> str:
        mean = f"{show_metric(member.means[key])} ± {member.sds[key]:.2g}" if key in member.means else MISSING
        return f"{show_metric(member.claimed.get(key))}\n{mean}"

    keys = [row.name for row in front.rows if row.kind == "member"]
    rows = (
        Row(key, (*(cell(member, c.key) for c in columns), member.standing), "member")
        for key, member in ((key, confirmed.members[key]) for key in keys)
    )
    title = f"Front: claimed, and mean ± standard deviation of {counted(confirmed.n_seeds, 'fresh seed')}"
    headings = (*(Column(c.key, c.unit, title=c.title or c.key) for c in columns), STANDING)
    return Table(title, "member", headings, tuple(rows), has_lines=True)


def _moves(member: ConfirmedMember, key: str) -> bool:
    """Whether a mean differs from the claimed value by more than rounding."""
    return key in member.means and not math.isclose(member.means[key], member.claimed[key], rel_tol=1e-12)


def confirmed_text(record: RunRecord) -> str:
    """What fresh seeds say about the front, in words; empty without them."""
    confirmed = record.confirmed
    if confirmed is None:
        return ""
    if not confirmed.depends_on_seed:
        return "The evaluations do not depend on the seed, so there is nothing to confirm."
    counts = Counter(member.standing for member in confirmed.members.values())
    n, kept = len(confirmed.members), counts.pop("member", 0)
    others = "".join(f", {count} {standing}" for standing, count in counts.items())
    claimed, measured = confirmed.hypervolumes
    return (
        f"With {counted(confirmed.n_seeds, 'fresh seed')} {kept} of {n} members are still non-dominated{others}; "
        f"hypervolume {claimed:.4f} claimed, {measured:.4f} confirmed."
    )


def _loss(column: Column, value: Any) -> float:
    """A value with the sign that makes smaller better; a missing value is the worst."""
    if value is None:
        return float("inf")
    return float(-value if column.direction == "max" else value)


def energy_of(record: RunRecord) -> dict[str, float]:
    """Joules by source of all evaluations of a run."""
    return total(record.energy.values())


def energy_text(record: RunRecord) -> str:
    """The energy of all evaluations in words; empty if the run does not know it."""
    joules = energy_of(record)
    if not joules:
        return ""
    n = sum(map(bool, record.energy.values()))
    return f"{kwh(joules):.2g} kWh for {counted(n, 'evaluation')} ({sources_text(joules)})"


def _find(record: RunRecord, name: str) -> Column:
    for wanted in (name, record.resolve(name)):
        for column in record.columns:
            if wanted in (column.key, column.title):
                return column
    known = ", ".join(column.key for column in record.columns)
    raise ConfigError(f"cannot sort by {name!r}; the columns are {known}.")


def inheritance_table(record: RunRecord) -> Table:
    """Metrics of members with inherited weights and from scratch, and their rank correlation; no rows without any.

    Cost is not shown if it is the same: a member that inherits is trained for as many steps.
    """
    from evorec.search.surrogate.gaussian_process import rank_correlation

    pairs = [(member, record.inherited[member.key]) for member in record.members if member.key in record.inherited]
    columns = [c for c in record.columns if any(m.metrics.get(c.key) != old.get(c.key) for m, old in pairs)]
    headings = [f"{column.key}, {kind}" for column in columns for kind in ("inherited", "from scratch")]
    rows = [
        (member.key, *(figures.get(column.key) for column in columns for figures in (old, member.metrics)))
        for member, old in pairs
    ]
    if len(pairs) > 2:
        found = [
            rank_correlation(*(np.array([f[column.key] for f in side]) for side in zip(*both, strict=True)))
            for column in columns
            for both in [[(old, member.metrics) for member, old in pairs]]
        ]
        rows.append(("rank correlation", *(value for each in found for value in (None, each))))
    return Table.of("Inherited weights and from scratch", ("member", *headings), rows)


def gene_table(record: RunRecord) -> Table:
    """The decoded genome of each member, in the order of the front table; inactive genes are missing."""
    specs = {member.key: member.spec for member in record.members}
    names = list(dict.fromkeys(name for spec in specs.values() for name in spec))
    keys = (row.name for row in front_table(record).rows if row.kind == "member")
    rows = ((key, *(specs[key].get(name) for name in names)) for key in keys)
    return Table.of("Genes of the front", ("member", *names), rows, "member")


def failure_table(record: RunRecord) -> Table:
    """Failed evaluations by cause, with numbers in the cause replaced so that similar causes are counted together."""
    keys: dict[str, list[str]] = {}
    for candidate in record.evaluations:
        if candidate.failure is not None:
            cause = _NUMBER.sub("#", candidate.failure.strip().split("\n")[0]) or "unknown"
            keys.setdefault(cause, []).append(candidate.key)
    rows = [(cause, len(failed), failed[0]) for cause, failed in keys.items()]
    rows.sort(key=lambda row: -row[1])
    return Table.of("Failed evaluations by cause", ("cause", "count", "first genome"), rows)


def dropped_table(record: RunRecord) -> Table:
    """How many evaluations were dropped at each rung; their metrics are those of the rung and are not shown."""
    counts = Counter(row.rung for row in record.evaluations if row.dropped and row.rung is not None)
    rows = ((f"step {steps}", counts[steps]) for steps in sorted(counts))
    return Table.of("Dropped evaluations by rung", ("rung", "count"), rows)


def dropped_text(record: RunRecord) -> str:
    """Dropped evaluations in words, ``12 dropped at step 100, 3 at step 200``; empty when nothing was dropped."""
    counts = [f"{row.values[0]} at {row.name}" for row in dropped_table(record).rows]
    return ", ".join(counts).replace(" at", " dropped at", 1)


def surrogate_table(record: RunRecord) -> Table:
    """The hypervolume that the surrogate expected after each generation beside the measured one, and its skill."""
    headings = ["generation", "genomes by source", "rank correlation", "expected hypervolume", "measured"]
    rows = []
    for generation, facts in sorted(record.surrogate.items()):
        chosen = ", ".join(f"{source} {n}" for source, n in facts["chosen"].items() if n)
        skill = ", ".join(f"{name} {value:.2f}" for name, value in facts["skill"].items() if value is not None)
        expected = "{1:.4f} [{0:.4f}, {2:.4f}]".format(*facts["hypervolume"]) if "hypervolume" in facts else None
        complete = generation <= len(record.hypervolume)
        measured = f"{record.hypervolume[generation - 1]:.4f}" if complete else None
        rows.append((str(generation), chosen, skill or None, expected, measured))
    return Table.of("Surrogate", headings, rows)


def settings_table(record: RunRecord) -> Table:
    """Every setting of the run, dotted."""
    return Table.of("Settings", ("key", "value"), flat_settings(record.config.model_dump(mode="json")))


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and JSON texts."""
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        nested = isinstance(value, Mapping) and value
        flat += flat_settings(value, f"{prefix}{name}.") if nested else [(f"{prefix}{name}", json.dumps(value))]
    return flat


def verdict(record: RunRecord) -> str:
    """How many members beat popularity on recall and coverage, in words, and what else limits the figures."""
    parts = (_verdict(record), _inherited_text(record), confirmed_text(record), machines_text(record.machines))
    return "\n\n".join(filter(None, parts))


def baseline_notes(record: RunRecord) -> list[str]:
    """Settings of each baseline, and the reason for each that is missing, a sentence each."""
    lines = [
        f"{name}: {', '.join(f'{key} {value:g}' for key, value in own.items())}, chosen on validation."
        for name, own in record.baseline_settings.items()
    ]
    return lines + [f"No {name}: {why}." for name, why in record.skipped_baselines.items()]


def _inherited_text(record: RunRecord) -> str:
    """What inherited weights mean for the figures; empty without any."""
    if getattr(getattr(record.config, "training", None), "inherit", "none") == "none":
        return ""
    if record.state == UNFINISHED:
        return (
            "Figures of later generations are of models with inherited weights; the front is trained from scratch when "
            "the search ends."
        )
    if not record.inherited:
        return ""
    share = hypervolume_share([member.metrics for member in record.members], record.objectives)
    return (
        f"The search measured {len(record.inherited)} of {len(record.members)} members with inherited weights; the "
        f"figures of the front are of the same genomes trained from scratch: hypervolume {share:.4f}, "
        f"{record.hypervolume[-1]:.4f} as the search saw it."
    )


def _verdict(record: RunRecord) -> str:
    if not record.members and record.state == UNFINISHED and not record.hypervolume:
        return f"The first generation is not complete yet ({len(record.evaluations)} evaluations so far)."
    if not record.members:
        return "No candidate met every constraint, so the archive is empty."
    recall, coverage = record.resolve("recall@k"), record.resolve("catalogue_coverage@k")
    popular = record.baselines.get("popularity", {})
    boosted, has_lists = record.baselines.get("gradient_boosting", {}), recall in popular and coverage in popular
    if "accuracy" in boosted and not has_lists:
        n_better_rows = sum(member.metrics.get("accuracy", 0.0) > boosted["accuracy"] for member in record.members)
        return (
            f"{n_better_rows} of {len(record.members)} members beat gradient_boosting on accuracy, the mean over the "
            f"tasks ({show_metric(boosted['accuracy'])}). These are validation figures, which also chose the members."
        )
    if not has_lists:
        return "There is no popularity baseline to compare with."

    def n_better(than: Mapping[str, float], *keys: str) -> int:
        found = [member.metrics for member in record.members]
        return sum(all(metrics.get(key, float("-inf")) > than[key] for key in keys) for metrics in found)

    n, n_recall, n_both = len(record.members), n_better(popular, recall), n_better(popular, recall, coverage)
    against = f"popularity ({recall} {show_metric(popular[recall])}, {coverage} {show_metric(popular[coverage])})"
    if n_both:
        text = f"{n_both} of {n} members beat {against} on both"
    elif n_recall:
        text = f"{n_recall} of {n} members beat {against} on {recall}, none on both"
    else:
        text = f"No member of {n} beats {against} on {recall}"
    name, strongest = max(record.baselines.items(), key=lambda pair: pair[1].get(recall, float("-inf")))
    if name != "popularity":
        n_strong = n_better(strongest, recall)
        text += f"; {n_strong or 'none'} beat{'' if n_strong > 1 else 's'} the strongest baseline, {name}, on {recall}"
        text += f" ({show_metric(strongest[recall])})"
    if "accuracy" in boosted:
        n_more = n_better(boosted, "accuracy")
        text += f"; {n_more or 'none'} beat{'' if n_more > 1 else 's'} gradient_boosting on accuracy"
        text += f" ({show_metric(boosted['accuracy'])})"
    return f"{text}. These are validation figures, which also chose the members."
